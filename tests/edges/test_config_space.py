"""The space as a structure: the order of its parameters, and how many configurations it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config.model import SweepConfig
from sweep.config.space import configurations, in_order, is_active, values
from sweep.search import preview


def config(space: dict[str, Any], **keys: Any) -> SweepConfig:
    whole = {"name": "s", "command": "true", "metric": "acc", "direction": "maximize", "space": space}
    return SweepConfig.model_validate({**whole, **keys})


def test_a_thousand_conditions_on_one_another(count: int = 1000) -> None:
    chain: dict[str, Any] = {"p0": ["a", "b"]}
    for n in range(1, count):
        chain[f"p{n}"] = {"type": "categorical", "choices": ["a", "b"], "when": {f"p{n - 1}": "a"}}
    space = config(dict(reversed(chain.items()))).space
    assert in_order(space) == list(chain)
    assert configurations(space) == count + 1


def counted(space: Any) -> int:
    """By writing all of them out."""
    names = in_order(space)
    partial: list[dict[str, Any]] = [{}]
    for name in names:
        partial = [
            {**chosen, **more}
            for chosen in partial
            for more in (
                [{name: one} for one in values(name, space[name])] if is_active(space[name], chosen) else [{}]
            )
        ]
    return len(partial)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters that look at others before or behind them in the file, in no ring."""
    names = [f"p{n}" for n in range(draw(st.integers(1, 6)))]
    ranks = dict(zip(names, draw(st.permutations(range(len(names)))), strict=True))
    space: dict[str, Any] = {}
    for name in names:
        lower = [other for other in names if ranks[other] < ranks[name]]
        parents = draw(st.lists(st.sampled_from(lower), unique=True, max_size=2)) if lower else []
        when = {"when": {parent: draw(st.sampled_from([["a"], ["b"], ["a", "b"]])) for parent in parents}}
        choices = draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"]]))
        space[name] = {"type": "categorical", "choices": choices, **(when if parents else {})}
    return space


@given(spaces())
def test_configurations_are_counted_as_if_written_out(space: dict[str, Any]) -> None:
    parsed = config(space).space
    assert configurations(parsed) == counted(parsed)
    order = in_order(parsed)
    assert sorted(order) == sorted(space)
    assert all(order.index(p) < order.index(name) for name, one in parsed.items() for p in one.when or {})


@pytest.mark.parametrize("sampler", ["grid", "bruteforce"])
@pytest.mark.parametrize("log", [False, True])
def test_a_real_parameter_of_one_value_is_one_value(sampler: str, log: bool) -> None:
    space = {"x": {"type": "float", "low": 0.5, "high": 0.5, "log": log}, "kind": ["a", "b"]}
    single = config(space, sampler=sampler)
    assert configurations(single.space) == 2
    found = preview(single, 5)
    assert sorted(one["kind"] for one in found) == ["a", "b"] and {one["x"] for one in found} == {0.5}
