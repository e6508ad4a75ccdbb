"""The space as a structure: which parameters a configuration has, in which order, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.config.model import Categorical, Constant, Float, Int
from sweep.errors import ConfigError

Space = Mapping[str, Float | Int | Categorical | Constant]


def is_active(parameter: Float | Int | Categorical | Constant, chosen: Mapping[str, Any]) -> bool:
    """Whether the parameter's `when` holds for what has been chosen; a parent that is not active never holds."""
    return all(name in chosen and _among(chosen[name], wanted) for name, wanted in (parameter.when or {}).items())


def _among(value: Any, wanted: Any) -> bool:
    choices = wanted if isinstance(wanted, list) else [wanted]
    # in Python True == 1 == 1.0; in a file `true` and `1` are different choices
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


def in_order(space: Space) -> list[str]:
    """The names, each behind those that its `when` looks at, otherwise as the file has them. No cycles."""
    ordered: dict[str, None] = {}

    def place(name: str) -> None:
        for parent in space[name].when or {}:
            if parent not in ordered:
                place(parent)
        ordered[name] = None

    for name in space:
        place(name)
    return list(ordered)


def values(name: str, parameter: Float | Int | Categorical | Constant) -> list[Any]:
    """Every value that a parameter can have. Raises ConfigError for a real range without a step."""
    if isinstance(parameter, Constant):
        return [parameter.value]
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    if isinstance(parameter, Int):
        return list(range(parameter.low, parameter.high + 1, parameter.step))
    if parameter.step is None:
        raise ConfigError(
            "has infinitely many values", key=f"space.{name}", hint="give it a `step`, or list the values to try"
        )
    count = int((parameter.high - parameter.low) / parameter.step + 1e-9)
    return [round(parameter.low + i * parameter.step, 12) for i in range(count + 1)]


def configurations(space: Space) -> int:
    """How many different configurations the space holds. Raises ConfigError where it is infinite."""
    names = in_order(space)
    parents = {parent for parameter in space.values() for parent in parameter.when or {}}

    def count(index: int, chosen: dict[str, Any]) -> int:
        if index == len(names):
            return 1
        name = names[index]
        parameter = space[name]
        if not is_active(parameter, chosen):
            return count(index + 1, chosen)
        possible = values(name, parameter)
        if name not in parents:
            return len(possible) * count(index + 1, chosen)
        return sum(count(index + 1, {**chosen, name: value}) for value in possible)

    return count(0, {})
