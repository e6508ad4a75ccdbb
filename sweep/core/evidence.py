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
_NEARLY = 0.9  # of a limit: the kernel charges in batches


def excess(limits: Mapping[str, Any]) -> tuple[str, str] | None:
    """(cause, hint) of an attempt that was ended for going over a limit; None where it was not.

    limits: as in exit.json. Where the kernel killed something of it below its limit, it was the machine that had
    no memory left, or a group above.
    """
    if limits.get("over") == "processes":
        return f"it went over its limit of {limits['processes']} processes and threads", "limit"
    if limits.get("over") != "memory":
        return None
    if 0 < limits["peak"] < _NEARLY * limits["memory"]:
        return "the kernel killed it for want of memory", "oom"
    return f"it went over its limit of {said_bytes(limits['memory'])} of memory", "oom"


def said_bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


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
