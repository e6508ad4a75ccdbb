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
    for first in space:
        todo = [first]
        while todo:
            missing = [parent for parent in space[todo[-1]].when or {} if parent not in ordered]
            if missing:
                todo += reversed(missing)
            else:
                ordered[todo.pop()] = None
    return list(ordered)


def values(name: str, parameter: Float | Int | Categorical | Constant) -> list[Any]:
    """Every value that a parameter can have. Raises ConfigError for a real range without a step."""
    if isinstance(parameter, Constant):
        return [parameter.value]
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    if isinstance(parameter, Int):
        return list(range(parameter.low, parameter.high + 1, parameter.step))
    if parameter.low == parameter.high:
        return [parameter.low]
    if parameter.step is None:
        raise ConfigError(
            "has infinitely many values", key=f"space.{name}", hint="give it a `step`, or list the values to try"
        )
    count = int((parameter.high - parameter.low) / parameter.step + 1e-9)
    return [round(parameter.low + i * parameter.step, 12) for i in range(count + 1)]


def configurations(space: Space) -> int:
    """How many different configurations the space holds. Raises ConfigError where it is infinite.

    Goes through the parameters in order, with how many ways there are to each choice of those that a later `when`
    looks at.
    """
    names = in_order(space)
    last = {parent: name for name in names for parent in space[name].when or {}}  # who looks at it last
    ways: dict[tuple[tuple[str, int], ...], int] = {(): 1}  # (name, which of its values), ... -> ways
    possible: dict[str, list[Any]] = {}
    for name in names:
        before, ways = ways, {}
        for state, count in before.items():
            chosen = {parent: possible[parent][which] for parent, which in state}
            kept = tuple(one for one in state if last[one[0]] != name)
            if not is_active(space[name], chosen):
                ways[kept] = ways.get(kept, 0) + count
                continue
            if name not in possible:
                possible[name] = values(name, space[name])
            if name not in last:
                ways[kept] = ways.get(kept, 0) + count * len(possible[name])
                continue
            for which in range(len(possible[name])):
                after = (*kept, (name, which))
                ways[after] = ways.get(after, 0) + count
    return sum(ways.values())
