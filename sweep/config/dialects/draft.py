"""A document in sweep's own grammar in the making. Each key remembers the key of the file that it came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sweep.config.document import Document
from sweep.config.words import KeyPath, Problem, found, suggest


class Draft:
    def __init__(self, source: Document, tool: str) -> None:
        self.tool = tool
        self.source = source
        self.document = Document(source.file, {}, dict(source.places), list(source.problems))

    def put(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        node = self.document.data
        for part in path[:-1]:
            node = node.setdefault(str(part), {})
        node[str(path[-1])] = value
        self.document.names[path] = origin
        self.document.places[path] = self.source.place(origin)

    def refuse(self, origin: KeyPath, message: str, hint: str | None = None) -> None:
        self._own(origin)
        self.document.incomplete = True
        self.document.problems.append(Problem(message, origin, hint))

    def no_equivalent(self, origin: KeyPath, why: str, hint: str | None = None) -> None:
        self.refuse(origin, f"has no equivalent in sweep: {why}", hint)

    def warn(self, origin: KeyPath, message: str) -> None:
        self._own(origin)
        self.document.warnings.append(Problem(message, origin))

    def _own(self, origin: KeyPath) -> None:
        """The key is called what the file calls it, even where sweep has a key by that name too."""
        self.document.names[origin] = origin
        self.document.places[origin] = self.source.place(origin)

    def mapping(self, value: Any, origin: KeyPath, allowed: Iterable[str]) -> dict[str, Any]:
        """The value as a mapping of known keys; what it is not is refused and left out."""
        if not isinstance(value, dict):
            self.refuse(origin, f"found {found(value)}; wanted are keys with values")
            return {}
        known = list(allowed)
        for key in value:
            if key not in known:
                self.refuse((*origin, key), f"is no key of {self.tool} here", suggest(key, known))
        return {key: one for key, one in value.items() if key in known}

    def numbers(self, values: Mapping[str | int, Any], origin: KeyPath) -> list[float | int] | None:
        """All of them as numbers, or None where one is not and was refused."""
        wrong = [key for key, value in values.items() if not _is_number(value)]
        for key in wrong:
            self.refuse((*origin, key), f"found {found(values[key])}; wanted is a number")
        return None if wrong else list(values.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
