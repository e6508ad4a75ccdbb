"""What MLflow takes as a name or a value: `mlflow/utils/validation.py`, 3.17."""

from __future__ import annotations

import json
import re
from typing import Any

NAME = 250  # characters of a parameter's, metric's or tag's name
PARAM = 6000
TAG = 8000
_ODD = re.compile(r"[^/\w.\- :]")


class Names:
    """Names as MLflow takes them, one for each raw name: two raw names never become the same."""

    def __init__(self) -> None:
        self._clean: dict[str, str] = {}
        self._taken: set[str] = set()

    def __getitem__(self, raw: str) -> str:
        found = self._clean.get(raw)
        if found is None:
            wanted = found = clean(raw)
            number = 2
            while found in self._taken:
                found = f"{wanted[: NAME - 5]}_{number}"
                number += 1
            self._taken.add(found)
            self._clean[raw] = found
        return found


def clean(name: str) -> str:
    """The nearest name that MLflow takes: letters of any script, digits, `_ - . : /` and spaces; a tidy path."""
    parts = [part for part in _ODD.sub("_", name).split("/") if part not in ("", ".")]
    text = "/".join("__" if part == ".." else part for part in parts)[:NAME].rstrip("/")
    return f"__{text[2:]}" if text.startswith("..") else text or "_"


def param(value: Any) -> str:
    text = (
        value if isinstance(value, str) else str(value) if _plain(value) else json.dumps(value, ensure_ascii=False)
    )
    return cut(text, PARAM)


def tag(value: Any) -> str:
    return cut(str(value), TAG)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, saying so where something is missing."""
    if len(text) <= limit:
        return text
    note = f"… (cut: {len(text)} characters)"
    return text[: limit - len(note)] + note


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))
