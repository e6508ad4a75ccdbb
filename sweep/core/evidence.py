"""What the last lines of a failed process's output say: its cause in one line, and whether memory ran out."""

from __future__ import annotations

import re

# `ValueError: ...`, `paddle.base.core.EnforceNotMet: ...`, `RuntimeError` alone
_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|NotMet|Interrupt|Exit|Warning)\b.*")
_MEMORY = re.compile(
    r"out of memory|ResourceExhausted|\bMemoryError\b|ERROR_OUT_OF_MEMORY|std::bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)
_LONGEST = 300


def evidence(tail: str) -> tuple[str, str]:
    """(cause, hint) of a tail of output: the last error line, else the last line; hint "oom" or nothing."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", tail) if line.strip()]
    if not lines:
        return "", ""
    errors = [line for line in lines if _ERROR.match(line)]
    cause = (errors or lines)[-1][:_LONGEST]
    return cause, "oom" if _MEMORY.search("\n".join(lines[-40:])) else ""
