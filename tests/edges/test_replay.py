"""A replay does what Optuna does with the same reports, takes what slots would take, and tells what is unknown."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.model import Named, SweepConfig
from sweep.errors import ConfigError, UsageError
from sweep.search.names import build_pruner
from sweep.search.replay import Curve, replay

NAME = "ocr-rec-3"


def config(direction: str = "maximize") -> SweepConfig:
    space = {"x": {"type": "float", "low": 0, "high": 1}}
    return SweepConfig.model_validate(
        {"name": "ocr-rec", "command": "t {x}", "metric": "acc", "direction": direction, "space": space}
    )


def curve(number: int, values: Sequence[float], *, pace: float = 1.0, pruned: bool = False) -> Curve:
    """One report each `pace` seconds, and the end with the last one."""
    reports = tuple((step, value, step * pace) for step, value in enumerate(values, start=1))
    return Curve(number, reports, len(values) * pace, None if pruned else values[-1])


def noisy(count: int, steps: int = 9, seed: int = 3) -> list[Curve]:
    draw = random.Random(seed)
    tops = [draw.random() for _ in range(count)]
    return [
        curve(number, [top * (1 - math.exp(-step / 3)) + draw.gauss(0, 0.05) for step in range(1, steps + 1)])
        for number, top in enumerate(tops)
    ]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("median", {"n_startup_trials": 3, "n_warmup_steps": 2}),
        ("percentile", {"percentile": 25.0, "n_startup_trials": 2}),
        ("successivehalving", {"min_resource": 1, "reduction_factor": 2}),
        ("hyperband", {"min_resource": 1, "max_resource": 9, "reduction_factor": 3}),
        ("patient", {"wrapped_pruner": "median", "patience": 1}),
    ],
)
def test_prunes_what_optuna_would_have_pruned(name: str, options: dict[str, Any], direction: str) -> None:
    """On one slot, in the same order, as `study.optimize` asks the same pruner."""
    curves, pruner = noisy(40), Named(name=name, options=options)
    expected: dict[int, int] = {}

    def objective(trial: optuna.Trial) -> float:
        for step, value, _ in curves[trial.number].reports:
            trial.report(value, step)
            if trial.should_prune():
                expected[trial.number] = step
                raise optuna.TrialPruned
        return curves[trial.number].reports[-1][1]

    sweep = config(direction)
    real = build_pruner(sweep.model_copy(update={"pruner": pruner}))
    study = optuna.create_study(study_name=NAME, direction=direction, pruner=real)
    study.optimize(objective, n_trials=len(curves))
    assert expected, "nothing was pruned: it shows nothing"

    found = replay(sweep, NAME, curves, pruner, 1)
    assert found.pruned == expected
    assert (found.best, found.value) == (study.best_trial.number, study.best_value)
    assert found.complete == len(curves) - len(expected)
    assert found.slot_seconds == found.seconds == sum(expected.get(c.number, c.seconds) for c in curves)
    assert found.unknown == ()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_slots_take_the_next_trial_when_they_are_free(seconds: list[int], slots: int) -> None:
    curves = [Curve(number, (), float(time), float(time)) for number, time in enumerate(seconds)]
    free = [0.0] * slots
    for time in seconds:
        heapq.heapreplace(free, free[0] + time)
    found = replay(config(), NAME, reversed(curves), None, slots)
    assert found.seconds == max(free)
    assert found.slot_seconds == sum(seconds)
    assert found.value == max(seconds)


def test_more_slots_let_the_pruner_see_less() -> None:
    """Side by side, nothing has completed that a median could be made of, until all have reported all."""
    curves, pruner = noisy(12), Named(name="median", options={"n_startup_trials": 1})
    assert replay(config(), NAME, curves, pruner, 1).pruned
    wide = replay(config(), NAME, curves, pruner, 12)
    assert set(wide.pruned.values()) == {9}
    assert wide.seconds == max(one.seconds for one in curves)


def test_nothing_is_made_up_beyond_a_record() -> None:
    """Trial 1 led when it was pruned: without its pruner it is unknown, and neither the best nor complete."""
    curves = [curve(0, [0.1, 0.2, 0.3]), curve(1, [0.9, 0.95], pruned=True), curve(2, [0.1, 0.1, 0.4])]
    found = replay(config(), NAME, curves, Named(name="nop"), 1)
    assert found.unknown == (1,)
    assert (found.best, found.found, found.complete) == (2, 8.0, 2)
    earlier = replay(config(), NAME, curves, Named(name="threshold", options={"upper": 0.5}), 1)
    assert (earlier.pruned, earlier.unknown, earlier.seconds) == ({1: 1}, (), 7.0)


def test_trials_keep_their_numbers_where_others_are_left_out() -> None:
    """Hyperband deals trials out by their numbers."""
    pruner = Named(name="hyperband", options={"min_resource": 1, "max_resource": 9})
    curves = noisy(30)
    some = [one for one in curves if one.number % 3]
    assert replay(config(), NAME, some, pruner, 1).pruned.keys() <= {one.number for one in some}
    alone = [curves[20]]
    assert replay(config(), NAME, alone, pruner, 1) == replay(config(), NAME, alone, pruner, 4)


def test_is_the_same_one_every_time() -> None:
    """Also where everything happens at once."""
    pruner = Named(name="successivehalving", options={"reduction_factor": 2})
    first = replay(config(), NAME, noisy(20), pruner, 4)
    assert first.pruned
    assert replay(config(), NAME, list(reversed(noisy(20))), pruner, 4) == first


def test_a_pruner_that_cannot_work_is_an_error_for_people() -> None:
    with pytest.raises(ConfigError, match="Optuna has no pruner 'medan'"):
        replay(config(), NAME, noisy(2), Named(name="medan"), 1)
    with pytest.raises(ConfigError, match=r"pruner\.startup: MedianPruner has no such argument"):
        replay(config(), NAME, noisy(2), Named(name="median", options={"startup": 1}), 1)
    bad = Named(name="hyperband", options={"min_resource": 1, "max_resource": "much"})
    with pytest.raises((UsageError, ConfigError), match=r"max_resource|hyperband"):
        replay(config(), NAME, noisy(2), bad, 1)
