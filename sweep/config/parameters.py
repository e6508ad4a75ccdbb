"""The kinds of parameters as types: what a single one can show to be wrong is refused here."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sweep.config import command
from sweep.config.words import Problem, found, listed, show, suggest

_EXACT = 2**53  # beyond it a float, which Optuna computes with, skips whole numbers


def refuse(*problems: Problem) -> PydanticCustomError:
    text = "; ".join(problem.message for problem in problems)
    return PydanticCustomError("sweep", "{text}", {"text": text, "problems": problems})


def whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def same(one: Any, other: Any) -> bool:
    """Equal in the file's terms: `1` and `true` differ, `1` and `1.0` do not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=-_EXACT, le=_EXACT), BeforeValidator(whole)]
Flag = Annotated[bool, Field(strict=True)]


def _when(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise refuse(Problem(f"found {found(value)}; wanted are conditions", (), "such as `{optimizer: sgd}`"))
    wanted = {name: one if isinstance(one, list) else [one] for name, one in value.items()}
    problems = [
        Problem("is an empty list, which never holds", (name,)) for name, any_of in wanted.items() if not any_of
    ]
    for name, any_of in wanted.items():
        problems += [
            Problem(f"found {found(one)}; wanted is a value", (name, index))
            for index, one in enumerate(any_of)
            if isinstance(one, (list, dict))
        ]
    if problems:
        raise refuse(*problems)
    return wanted


When = Annotated[dict[str, list[Any]] | None, BeforeValidator(_when)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _range(low: Any, high: Any, step: Any, log: bool, least: str) -> None:
    problems = []
    if low > high:
        problems.append(Problem(f"{show(low)} is above the upper bound, {show(high)}", ("low",)))
    if log and (low < 1 if isinstance(low, int) else low <= 0):
        problems.append(Problem(f"{show(low)} is not {least}, as a logarithmic scale needs it", ("low",)))
    if step is not None and step <= 0:
        problems.append(Problem(f"{show(step)} is not above 0", ("step",)))
    if log and step not in (None, 1 if isinstance(low, int) else None):
        problems.append(Problem("`step` and `log` cannot go together, in Optuna either", ("step",)))
    if not problems and math.isinf(high - low):
        problems.append(Problem(f"{show(low)} .. {show(high)} is too wide to be computed with", ("high",)))
    elif not problems and step is not None and (high - low) / step > _EXACT:
        problems.append(Problem(f"{show(step)} is too small a step for {show(low)} .. {show(high)}", ("step",)))
    if problems:
        raise refuse(*problems)


def not_finite(value: Any) -> bool:
    """NaN or infinity, at any depth: JSON has no such numbers."""
    if isinstance(value, (list, dict)):
        return any(not_finite(one) for one in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def finite(value: Any) -> Any:
    if not_finite(value):
        raise refuse(Problem(f"found {found(value)}; wanted are finite numbers"))
    return value


class Float(Model):
    """A real number in [low, high]; `step` and `log` as in Optuna's FloatDistribution."""

    type: Literal["float"] = "float"
    low: Number
    high: Number
    step: Number | None = None
    log: Flag = False
    when: When = None

    @model_validator(mode="after")
    def _holds(self) -> Float:
        _range(self.low, self.high, self.step, self.log, "above 0")
        return self


class Int(Model):
    """A whole number in [low, high]; `step` and `log` as in Optuna's IntDistribution."""

    type: Literal["int"] = "int"
    low: Whole
    high: Whole
    step: Whole = 1
    log: Flag = False
    when: When = None

    @model_validator(mode="after")
    def _holds(self) -> Int:
        _range(self.low, self.high, self.step, self.log, "1 or more")
        return self


def highest(parameter: Float | Int) -> float | int:
    """The highest value that the steps reach, which Optuna takes for `high`."""
    if parameter.step is None:
        return parameter.high
    if isinstance(parameter, Int):
        return parameter.low + (parameter.high - parameter.low) // parameter.step * parameter.step
    low, high, step = (Decimal(str(value)) for value in (parameter.low, parameter.high, parameter.step))
    return float(low + (high - low) // step * step)


def _choices(value: Any) -> Any:
    if not isinstance(value, list):
        raise refuse(Problem(f"found {found(value)}; wanted is a list of values"))
    if not value:
        raise refuse(Problem("is an empty list", (), "name at least one choice"))
    problems = []
    seen: dict[Any, Any] = {}
    for index, choice in enumerate(value):
        if isinstance(choice, (list, dict)) or not_finite(choice):
            wanted = "a choice is text, a number, true, false or null"
            problems.append(Problem(f"found {found(choice)}; {wanted}", (index,)))
            continue
        if choice not in seen:
            seen[choice] = choice
        elif same(choice, seen[choice]):
            problems.append(Problem(f"{show(choice)} is among the choices already", (index,)))
        else:
            said = f"{show(choice)} and {show(seen[choice])} are one choice to Python, and to Optuna"
            hint = f"make them text: '{show(choice)}' and '{show(seen[choice])}'"
            problems.append(Problem(said, (index,), hint))
    if problems:
        raise refuse(*problems)
    return value


class Categorical(Model):
    """One of `choices`."""

    type: Literal["categorical"] = "categorical"
    choices: Annotated[list[Any], BeforeValidator(_choices)]
    when: When = None


class Constant(Model):
    """The same in every trial: handed to the command and to MLflow, never sampled."""

    type: Literal["constant"] = "constant"
    value: Annotated[Any, AfterValidator(finite)]
    when: When = None


TYPES: dict[str, type[Float | Int | Categorical | Constant]] = {
    "float": Float,
    "int": Int,
    "categorical": Categorical,
    "constant": Constant,
}
_UNTYPED = {
    "low": "`type: float` or `type: int`",
    "high": "`type: float` or `type: int`",
    "choices": "`type: categorical`, or write the list alone",
    "value": "`type: constant`, or write the value alone",
}


def _parameter(value: Any) -> Any:
    if isinstance(value, list):
        return {"type": "categorical", "choices": value}
    if isinstance(value, Model):
        return value
    if not isinstance(value, dict):
        return {"type": "constant", "value": value}
    if "type" not in value:
        missing = next((hint for key, hint in _UNTYPED.items() if key in value), None)
        hint = f"add {missing}" if missing else f"`type` is one of {listed(TYPES)}"
        raise refuse(Problem(f"has {listed(value) or 'nothing'} but no `type`", (), hint))
    kind = value["type"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise refuse(Problem(f"found {found(kind)}", ("type",), suggest(str(kind), TYPES)))
    return value


def _parameter_name(name: str) -> str:
    if not command.NAME.fullmatch(name):
        hint = "letters, digits, `_`, `-` and `.`, a letter or `_` first, so that `{name}` works in the command"
        raise refuse(Problem("is no name for a parameter", (), hint))
    if name in command.RESERVED:
        raise refuse(Problem(f"`{{{name}}}` means something else in a command", (), "take another name"))
    return name


Parameter = Annotated[
    Float | Int | Categorical | Constant, Field(discriminator="type"), BeforeValidator(_parameter)
]
Space = dict[Annotated[str, AfterValidator(_parameter_name)], Parameter]
