"""What the last lines of a failed process's output say: its cause in one line, and whether memory ran out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# `ValueError: ...`, `paddle.base.core.EnforceNotMet: ...`, `RuntimeError` alone; what faulthandler begins with
_ERROR = re.compile(
    r"^(?:Fatal Python error:|(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|NotMet|Interrupt|Exit|Warning)\b).*"
)
_MEMORY = re.compile(
    r"out of memory|ResourceExhausted|\bMemoryError\b|ERROR_OUT_OF_MEMORY|std::bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)
_LONGEST = 300


def evidence(tail: str, rules: Sequence[Mapping[str, Any]] = ()) -> tuple[str, str, str]:
    """(cause, hint, action) of a tail of output: the last error line, else the last line; hint "oom" or nothing.

    rules: the user's own, `{pattern, outcome, action}`; the first that is found says more than what is known here.
    """
    lines = [line.strip() for line in re.split(r"[\r\n]+", tail) if line.strip()]
    if not lines:
        return "", "", ""
    errors = [line for line in lines if _ERROR.match(line)]
    cause = (errors or lines)[-1][:_LONGEST]
    last = "\n".join(lines[-40:])
    hint, action = "oom" if _MEMORY.search(last) else "", ""
    for rule in rules:
        if re.search(rule["pattern"], last):
            if rule["outcome"]:
                hint = "oom" if rule["outcome"] == "oom" else ""
            action = rule["action"] or ""
            break
    return cause, hint, action
