"""Histories of configurations that were tried before: repeated, skipped, averaged."""

from __future__ import annotations

from typing import Any

import pytest
from history import begin, launch, names
from world import World

from sweep.core import again
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import SweepState, TrialState


def sampled(world: World, **params: Any) -> list[do.Effect]:
    number = world.number
    return world.feed(e.TrialSampled(world.time(), number, params))


def run(world: World, value: float, **params: Any) -> int:
    """Samples it, runs it and lets it complete; returns its number."""
    number = world.number
    sampled(world, **params)
    world.feed(e.SlotOffered(world.time(), world.free()[0], "cpu"))
    world.start((number, 1))
    world.complete((number, 1), value)
    return number


def ended(world: World, number: int) -> tuple[Any, ...]:
    trial = world.sweep.trials[number]
    return trial.state, trial.values, len(trial.attempts)


def test_by_default_it_is_run_again_and_worth_what_it_measured() -> None:
    world = begin(slots=1)
    assert [ended(world, run(world, value, lr=0.1)) for value in (0.5, 0.7)] == [
        (TrialState.COMPLETE, (0.5,), 1),
        (TrialState.COMPLETE, (0.7,), 1),
    ]
    assert not world.sweep.tried


def test_skip_ends_it_at_once_with_the_first_ones_value_and_tells_it_before_it_asks_again() -> None:
    world = begin(slots=1, duplicates="skip")
    run(world, 0.5, lr=0.1, kind="a")
    orders = sampled(world, kind="a", lr=0.1)
    assert names(orders) == ["Tell", "Ask"]
    assert orders[0] == do.Tell(1, TrialState.COMPLETE, (0.5,))
    assert (*ended(world, 1), world.sweep.trials[1].why) == (TrialState.COMPLETE, (0.5,), 0, "same as trial 0")
    assert world.sweep.best == 0
    assert ended(world, run(world, 0.7, lr=0.1, kind="b")) == (TrialState.COMPLETE, (0.7,), 1)


def test_skip_looks_again_when_the_original_completes_while_its_copy_waits() -> None:
    world = begin(slots=1, duplicates="skip")
    sampled(world, lr=0.1)
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    sampled(world, lr=0.1)  # ahead: trial 0 is on its way
    assert world.sweep.trials[1].state is TrialState.WAITING
    world.start((0, 1))
    world.complete((0, 1), 0.5)
    assert ended(world, 1) == (TrialState.COMPLETE, (0.5,), 0)


@pytest.mark.parametrize("how", [{"code": 1, "cause": "boom"}, {"code": 0, "acknowledged": "prune"}])
def test_what_failed_or_was_pruned_is_no_original(how: dict[str, Any]) -> None:
    world = begin(slots=1, duplicates="skip")
    sampled(world, lr=0.1)
    key = launch(world)
    world.start(key)
    world.feed(e.Reported(world.time(), *key, 1, {"acc": 0.2}))
    world.feed(e.AttemptEnded(world.time(), *key, **how))
    assert ended(world, run(world, 0.5, lr=0.1))[2] == 1


def test_a_configuration_of_the_users_own_runs_all_the_same() -> None:
    world = begin(slots=1, duplicates="skip", trials=2, enqueue=({"lr": 0.1}, {"lr": 0.1}))
    world.sample()
    world.start(launch(world))
    world.complete((0, 1))
    world.sample()
    assert (world.sweep.trials[1].params, world.sweep.trials[1].state) == ({"lr": 0.1}, TrialState.WAITING)


def test_a_space_that_offers_nothing_new_is_exhausted() -> None:
    world = begin(slots=1, duplicates="skip", trials=None)
    run(world, 0.5, lr=0.1)
    while world.sweep.state is SweepState.RUNNING:
        sampled(world, lr=0.1)
    assert world.sweep.state is SweepState.FINISHED
    assert world.sweep.why == world.sweep.exhausted
    assert world.sweep.exhausted == f"the last {again.MOST} configurations had all been tried before"
    assert len(world.sweep.trials) == again.MOST + 1


def test_average_runs_it_again_and_takes_the_mean_of_all_that_was_measured() -> None:
    world = begin(slots=1, duplicates="average")
    found = [ended(world, run(world, value, lr=0.1)) for value in (0.3, 0.9, 0.6)]
    assert [values[0] for _, values, _ in found] == pytest.approx([0.3, 0.6, 0.6])
    assert [runs for *_, runs in found] == [1, 1, 1]
    assert world.sweep.trials[2].why == "the mean of 3 runs like trial 0; this one measured 0.6"
    assert world.sweep.trials[1].attempts[0].why == ""


def test_the_rule_may_come_into_force_later() -> None:
    world = begin(slots=1)
    run(world, 0.5, lr=0.1)
    world.take_over(e.ConfigChanged(world.time(), {}, rules={"duplicates": "skip"}))
    sampled(world, lr=0.1)
    assert ended(world, 1) == (TrialState.COMPLETE, (0.5,), 0)
