"""What a trial may not do, and what comes of it: `stall`, `retry`, `failures` and `budget` of space.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sweep.config.parameters import Flag, Model, refuse, whole
from sweep.config.scalars import Pause, Seconds, Text
from sweep.config.words import Problem

Sign = Literal["report", "output", "checkpoint", "device", "cpu"]
_SIGNS: tuple[Sign, ...] = ("report", "output", "checkpoint", "device", "cpu")
Retried = Literal["crashed", "oom", "timed_out"]  # a stall by `stall: retry`, a loss always


class Stall(Model):
    """When a trial counts as hung, and what is done then.

    after: how long no sign may come; None is 20 of the trial's own report intervals, 10 minutes at least.
    signs: what counts as life, all of them unless the file names some. action `warn` only says so.
    """

    enabled: Flag = True
    after: Seconds | None = None
    signs: list[Sign] = Field(default_factory=lambda: list[Sign](_SIGNS))
    action: Literal["prune", "retry", "fail", "warn"] = "prune"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"enabled": value}
        if isinstance(value, (dict, Stall)):
            return value
        return {"action": value} if value in ("prune", "retry", "fail", "warn") else {"after": value}

    @field_validator("signs")
    @classmethod
    def _some(cls, signs: list[Sign]) -> list[Sign]:
        if not signs:
            raise refuse(Problem("names no sign of life; `stall: false` watches for none"))
        return signs


class Retry(Model):
    """How many further attempts an outcome buys, by its name in lower case; an empty `on` is the default.

    backoff: seconds before the next attempt, doubled each time, an hour at most.
    """

    times: Annotated[int, Field(strict=True, ge=0, le=1000), BeforeValidator(whole)] = 0
    on: list[Retried] = Field(default_factory=lambda: list[Retried](("crashed", "oom")))
    backoff: Pause = 0.0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("on") == []:
            return {key: one for key, one in value.items() if key != "on"}
        return value if isinstance(value, (dict, Retry)) else {"times": value}


class Failure(Model):
    """What a failure is whose last output matches. action: another attempt, none, or the end of the sweep."""

    pattern: Text
    outcome: Literal["crashed", "oom"] | None = None
    action: Literal["retry", "fail", "stop"] | None = None

    @field_validator("pattern")
    @classmethod
    def _compiled(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise refuse(Problem(f"is no regular expression: {error}")) from None
        return pattern

    @model_validator(mode="after")
    def _says_something(self) -> Failure:
        if self.outcome is None and self.action is None:
            raise refuse(Problem("has neither `outcome` nor `action`", (), "such as `action: retry`"))
        return self


class Budget(Model):
    """gpu_hours: what all attempts may take together, counted by slot, CPU slots too."""

    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Budget)) else {"gpu_hours": value}
