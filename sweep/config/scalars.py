"""Values of one word that several keys of space.yaml share: durations, counts, texts, commands."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sweep.config.command import split
from sweep.config.parameters import refuse, whole
from sweep.config.words import Problem, found
from sweep.errors import ConfigError

HIGHEST_PRIORITY = 100
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        parts = _DURATION.fullmatch(value.strip())
        if parts is None:
            raise refuse(Problem(f"found {found(value)}; wanted are seconds, or 90s, 15m, 2h, 1d"))
        return float(parts[1]) * _UNITS[parts[2]]
    return value


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return split(value)
    except ConfigError as error:
        raise refuse(Problem(error.problem, (), error.hint)) from None


def _shares(value: Any) -> Any:
    value = whole(value)
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise refuse(Problem(f"found {found(value)}; wanted is a whole number of at least 1, or `auto`"))
    return value


Count = Annotated[int, Field(strict=True, ge=1), BeforeValidator(whole)]
Priority = Annotated[int, Field(strict=True, ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY), BeforeValidator(whole)]
Shares = Annotated[int | Literal["auto"], BeforeValidator(_shares)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), BeforeValidator(_seconds)]
Pause = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), BeforeValidator(_seconds)]
Text = Annotated[str, Field(min_length=1)]
Command = Annotated[list[str], Field(min_length=1), BeforeValidator(_words)]
