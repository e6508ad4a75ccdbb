"""The space of a next round holds the best of the one before, within the file's bounds, whatever the space."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config.checks import misfit, params_problems
from sweep.config.command import possible
from sweep.config.model import Categorical, Constant, Float, Int, Parameter
from sweep.config.narrow import carried, narrowed
from sweep.config.parameters import highest
from sweep.config.space import in_order, is_active

Space = dict[str, Parameter]


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def parameters(draw: st.DrawFn, when: dict[str, list[Any]] | None = None) -> Parameter:
    kind = draw(st.sampled_from(["float", "log", "step", "int", "int log", "int step", "choice"]))
    if kind == "choice":
        choices = st.one_of(st.integers(0, 9), st.sampled_from(["a", "b", "c", "d"]))
        return Categorical(choices=draw(st.lists(choices, min_size=1, max_size=5, unique=True)), when=when)
    if kind == "float":
        low = draw(floats(-1e6, 1e6))
        return Float(low=low, high=low + draw(floats(0, 1e6)), when=when)
    if kind == "log":
        low = draw(floats(1e-12, 1e3))
        return Float(low=low, high=low * draw(floats(1, 1e9)), log=True, when=when)
    if kind == "step":
        low, step = draw(st.integers(-50, 50)) / 10, draw(st.sampled_from([0.1, 0.25, 0.3, 1.0, 7.0]))
        return Float(low=low, high=low + draw(floats(0, 100)), step=step, when=when)
    low = draw(st.integers(1 if kind == "int log" else -(2**53) + 2**41, 2**40))
    step = draw(st.integers(1, 40)) if kind == "int step" else 1
    return Int(low=low, high=low + draw(st.integers(0, 2**40)), step=step, log=kind == "int log", when=when)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """A choice, some that hang on it, and one that hangs on those."""
    space: Space = {"top": Categorical(choices=["x", "y", "z"]), "fixed": Constant(value=3)}
    for index in range(draw(st.integers(1, 5))):
        parent = draw(st.sampled_from([None, "top", *(f"p{one}" for one in range(index))]))
        when = None
        if parent is not None:
            possible_values = st.just(draw(value_of(space[parent])))
            when = {parent: draw(st.lists(possible_values, min_size=1, max_size=1))}
        space[f"p{index}"] = draw(parameters(when))
    names = draw(st.permutations(list(space)))
    return {name: space[name] for name in names}


@st.composite
def value_of(draw: st.DrawFn, parameter: Parameter) -> Any:
    if isinstance(parameter, Constant):
        return parameter.value
    if isinstance(parameter, Categorical):
        return draw(st.sampled_from(parameter.choices))
    top = highest(parameter)
    if isinstance(parameter, Int):
        return parameter.low + draw(st.integers(0, (int(top) - parameter.low) // parameter.step)) * parameter.step
    if parameter.step is not None:
        count = round((top - parameter.low) / parameter.step)
        return min(top, parameter.low + draw(st.integers(0, count)) * parameter.step)  # as Optuna computes it
    return draw(floats(parameter.low, top))


@st.composite
def configurations(draw: st.DrawFn, space: Space) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in in_order(space):
        if is_active(space[name], chosen):
            chosen[name] = draw(value_of(space[name]))
    return chosen


@given(data=st.data(), space=spaces(), share=st.floats(0.01, 1.0))
def test_it_holds_the_best_within_the_bounds(data: st.DataObject, space: Space, share: float) -> None:
    best = data.draw(st.lists(configurations(space), min_size=1, max_size=4))
    new = narrowed(space, space, best, share)
    assert new == narrowed(space, space, best, share)
    assert list(new) == [name for name in space if name in new]
    for params in best:
        for name, value in params.items():
            assert misfit(new[name], value) is None, f"{name}={value!r} in {new[name]}"
    for name, parameter in new.items():
        old = space[name]
        type(parameter).model_validate(parameter.model_dump())  # which refuses bounds that Optuna would
        if isinstance(parameter, (Float, Int)) and isinstance(old, (Float, Int)):
            assert old.low <= parameter.low <= parameter.high <= old.high
            assert misfit(old, parameter.low) is None and misfit(old, highest(parameter)) is None
            assert (parameter.step, parameter.log) == (old.step, old.log)
        elif isinstance(parameter, Categorical) and isinstance(old, Categorical):
            assert [one for one in old.choices if one in parameter.choices] == parameter.choices
        for parent, wanted in (parameter.when or {}).items():
            assert all(misfit(new[parent], one) is None for one in wanted), "a condition that can hold"


@given(data=st.data(), space=spaces(), other=spaces(), share=st.floats(0.01, 1.0))
def test_what_is_carried_fits_whatever_the_other_space_was(
    data: st.DataObject, space: Space, other: Space, share: float
) -> None:
    best = data.draw(st.lists(configurations(other), min_size=1, max_size=4))
    new = narrowed(space, other, best, share)
    for params in carried(new, best):
        assert not list(params_problems(new, params))
        assert not any(isinstance(new[name], Constant) for name in params)
        assert any(params.items() <= {**one}.items() for one in best)


@given(data=st.data(), space=spaces(), share=st.floats(0.01, 1.0))
def test_all_of_the_best_comes_first_in_the_same_space(data: st.DataObject, space: Space, share: float) -> None:
    best = data.draw(st.lists(configurations(space), min_size=1, max_size=4))
    sampled = [{name: one for name, one in params.items() if name != "fixed"} for params in best]
    unique = [one for index, one in enumerate(sampled) if one not in sampled[:index]]
    assert [dict(sorted(one.items())) for one in carried(narrowed(space, space, best, share), best)] == [
        dict(sorted(one.items())) for one in unique
    ]


def one(parameter: Parameter, values: list[Any], share: float, before: Parameter | None = None) -> Any:
    best = [{"p": value} for value in values]
    return narrowed({"p": parameter}, {"p": before or parameter}, best, share)["p"]


def test_the_share_of_the_width_around_the_middle() -> None:
    found = one(Float(low=0, high=10), [4.0, 6.0], 0.5)
    assert (found.low, found.high) == (2.5, 7.5)


def test_a_logarithm_is_narrowed_as_one() -> None:
    found = one(Float(low=1e-4, high=1.0, log=True), [1e-2], 0.5)
    assert math.isclose(found.low, 1e-3) and math.isclose(found.high, 1e-1)


def test_at_an_edge_it_keeps_its_width() -> None:
    found = one(Float(low=0, high=10), [10.0], 0.2)
    assert (found.low, found.high) == (8.0, 10.0)


def test_the_width_is_that_of_the_sweep_before_and_the_bounds_are_the_files() -> None:
    found = one(Float(low=0, high=10), [2.0], 0.5, before=Float(low=1, high=3))
    assert (found.low, found.high) == (1.5, 2.5)


def test_none_of_the_best_is_cut_off() -> None:
    found = one(Float(low=0, high=10), [1.0, 9.0], 0.1)
    assert (found.low, found.high) == (1.0, 9.0)


def test_steps_are_the_files() -> None:
    found = one(Int(low=16, high=128, step=16), [64], 0.25)
    assert (found.low, found.high, found.step) == (48, 80, 16)


def test_what_the_best_had_outside_the_bounds_says_nothing() -> None:
    parameter = Float(low=0, high=1)
    assert one(parameter, [5.0], 0.5) == parameter
    assert one(Categorical(choices=["a", "b"]), ["c"], 0.5).choices == ["a", "b"]


def test_what_can_never_be_active_goes_and_its_option_with_it() -> None:
    space: Space = {
        "optimizer": Categorical(choices=["sgd", "adam"]),
        "momentum": Float(low=0, high=1, when={"optimizer": ["sgd"]}),
        "nesterov": Categorical(choices=[True, False], when={"momentum": [0.5]}),
        "beta": Float(low=0, high=1, when={"optimizer": ["sgd", "adam"]}),
    }
    new = narrowed(space, space, [{"optimizer": "adam", "beta": 0.5}], 0.5)
    assert list(new) == ["optimizer", "beta"]
    assert new["beta"].when == {"optimizer": ["adam"]}
    words = ["python", "t.py", "--optimizer", "{optimizer}", "--momentum", "{momentum}", "--beta={beta}"]
    assert possible(words, new) == ["python", "t.py", "--optimizer", "{optimizer}", "--beta={beta}"]


def test_a_child_whose_parent_is_left_to_the_sampler_is_left_to_it_too() -> None:
    space: Space = {
        "optimizer": Categorical(choices=["sgd", "adam"]),
        "momentum": Float(low=0, high=1, when={"optimizer": ["sgd"]}),
    }
    assert carried(space, [{"optimizer": "lion", "momentum": 0.5}]) == []
    assert carried(space, [{"optimizer": "adam", "momentum": 0.5, "old": 1}]) == [{"optimizer": "adam"}]


@pytest.mark.parametrize("share", [0.001, 1.0])
def test_a_range_of_one_value_stays_one(share: float) -> None:
    found = one(Int(low=5, high=5), [5], share)
    assert (found.low, found.high) == (5, 5)
