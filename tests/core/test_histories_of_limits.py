"""Histories of what the rules do not allow: stalls, time, NaN, failures too many; and of pauses before a retry."""

from __future__ import annotations

import math
from typing import Any

import pytest
from world import World, controller, opened

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Outcome, SweepState, TrialState, Verdict
from sweep.errors import IllegalEvent

FIRST = (0, 1)


def running(**rules: Any) -> World:
    """A sweep whose trials 0, 1 and 2 run."""
    world = World(opened(**rules))
    world.feed(controller(world.time()))
    while world.asks or world.launches or (world.sweep.demand() and world.free()):
        if world.asks:
            world.sample()
        elif world.launches:
            world.start(next(iter(world.launches)))
        else:
            world.feed(e.SlotOffered(world.time(), world.free()[0], f"gpu-{world.free()[0]}"))
    return world


def report(world: World, value: float, key: tuple[int, int] = FIRST, step: int = 1) -> list[do.Effect]:
    return world.feed(e.Reported(world.time(), *key, step, {"acc": value}))


def fail(world: World, key: tuple[int, int] = FIRST, **how: Any) -> list[do.Effect]:
    return world.feed(e.AttemptEnded(world.time(), *key, **{"code": 1, "cause": f"ValueError: {key[0]}", **how}))


@pytest.mark.parametrize(
    ("action", "reported", "state"),
    [
        ("prune", True, TrialState.PRUNED),
        ("prune", False, TrialState.FAIL),
        ("fail", True, TrialState.FAIL),
        ("retry", True, TrialState.WAITING),
    ],
)
def test_a_stall_prunes_fails_or_is_tried_again(action: str, reported: bool, state: TrialState) -> None:
    world = running(stall_action=action, retries={"STALLED": 1} if action == "retry" else {})
    if reported:
        report(world, 0.5)
    (order,) = world.feed(e.StallSeen(world.time(), *FIRST, "nothing moved for 600 s", "trials/0/1/stall"))
    assert isinstance(order, do.Deliver) and (order.verdict, order.grace) == (Verdict.STALL, 0.0)
    world.feed(e.AttemptEnded(world.time(), *FIRST, signal=9, signalled=True))
    trial = world.sweep.trials[0]
    first = trial.attempts[0]
    assert (first.outcome, first.why, first.evidence) == (
        Outcome.STALLED,
        "nothing moved for 600 s",
        "trials/0/1/stall",
    )
    assert trial.state is state


def test_a_retry_after_a_stall_takes_another_device_where_one_is_offered() -> None:
    world = World(opened(stall_action="retry", retries={"STALLED": 1}, ahead=0))
    world.feed(controller(world.time()))
    world.feed(e.SlotOffered(world.time(), "s0", "gpu-a"))
    world.sample()
    world.start(FIRST)
    world.feed(e.SlotOffered(world.time(), "s1", "gpu-a"))  # these two wait for the sampler
    world.feed(e.SlotOffered(world.time(), "s2", "gpu-b"))
    world.feed(e.StallSeen(world.time(), *FIRST, "nothing moved"))
    world.feed(e.AttemptEnded(world.time(), *FIRST, signal=9, signalled=True))
    assert world.sweep.trials[0].attempts[-1].device == "gpu-b"


def test_what_has_a_verdict_gets_no_milder_one() -> None:
    world = running()
    world.feed(e.StopAsked(world.time(), 0))
    for kind in (e.StallSeen, e.TimedOut):
        event = kind(world.time(), *FIRST, "too long")
        with pytest.raises(IllegalEvent):
            world.feed(event)


def test_a_trial_whose_time_is_up_may_write_a_checkpoint_and_go_on_from_it() -> None:
    world = running(retries={"TIMED_OUT": 1}, backoff=0.0)
    report(world, 0.5)
    (order,) = world.feed(e.TimedOut(world.time(), *FIRST, "its limit of 60 s has passed"))
    assert isinstance(order, do.Deliver) and order.grace > 0
    world.feed(e.Checkpointed(world.time(), *FIRST, 1, "trials/0/1/checkpoints/1"))
    world.feed(e.AttemptEnded(world.time(), *FIRST, code=1, acknowledged="stop"))
    assert world.sweep.trials[0].attempts[0].outcome is Outcome.TIMED_OUT
    assert world.sweep.trials[0].state is not TrialState.FAIL and world.sweep.trials[0].checkpoints


def test_pauses_before_a_retry_double_and_a_loss_waits_for_nothing() -> None:
    world = running(retries={"CRASHED": 3}, backoff=10.0, trials=3)
    for attempt, pause in ((1, 10.0), (2, 20.0), (3, 40.0)):
        fail(world, (0, attempt))
        assert world.sweep.resting == {0: world.now + pause} and f"in {pause:g} s" in world.sweep.trials[0].why
        world.feed(e.RetryDue(world.time(), 0))
        world.feed(e.SlotOffered(world.time(), world.free()[0], "gpu"))
        world.start((0, attempt + 1))
    with pytest.raises(IllegalEvent):
        world.feed(e.RetryDue(world.time(), 0))
    world.feed(e.AttemptEnded(world.time(), 0, 4))
    assert world.sweep.trials[0].attempts[-1].outcome is Outcome.LOST and not world.sweep.resting


def test_a_sweep_waits_for_who_rests_but_not_when_it_is_stopped() -> None:
    world = running(retries={"CRASHED": 1}, backoff=10.0, trials=3)
    fail(world)
    for key in ((1, 1), (2, 1)):
        world.complete(key)
    assert world.sweep.state is SweepState.RUNNING and not world.sweep.demand()
    world.feed(e.StopAsked(world.time()))
    assert world.sweep.state is SweepState.FINISHED and world.sweep.trials[0].state is TrialState.FAIL


def test_a_trial_that_rests_can_be_stopped() -> None:
    world = running(retries={"CRASHED": 1}, backoff=10.0, trials=3)
    fail(world)
    world.feed(e.StopAsked(world.time(), 0))
    assert world.sweep.trials[0].state is TrialState.FAIL and not world.sweep.resting


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_ignored_pruned_or_fails_as_the_rules_say(value: float) -> None:
    assert [type(order) for order in report(running(), value)] == [do.Judge]
    for rule, outcome in (("prune", Outcome.PRUNED), ("fail", Outcome.STOPPED)):
        world = running(on_nan=rule)
        report(world, 0.5)
        (order,) = report(world, value, step=2)
        assert isinstance(order, do.Deliver)
        heeds = "prune" if rule == "prune" else "stop"
        world.feed(e.AttemptEnded(world.time(), *FIRST, code=1, acknowledged=heeds))
        assert world.sweep.trials[0].outcome is outcome and f"acc was {value}" in world.sweep.trials[0].why


def test_the_budget_is_what_all_slots_took_together() -> None:
    world = running(slot_hours=0.01)
    begun = world.sweep.slot_seconds(world.now)
    world.now += 10.0
    assert world.sweep.slot_seconds(world.now) == begun + 30.0, "three slots"
    world.feed(e.TimeUp(world.time(), budget=True))
    assert world.sweep.state is SweepState.DRAINING and "budget of 0.01 slot-hours" in world.sweep.why
    with pytest.raises(IllegalEvent):
        running().feed(e.TimeUp(1.0, budget=True))


def test_the_budget_counts_every_device_of_a_trial() -> None:
    world = World(opened(slot_hours=1.0, ahead=0))
    world.feed(controller(world.time()))
    world.feed(e.SlotOffered(world.time(), "gpu-a+gpu-b+gpu-c", "GPU-a,GPU-b,GPU-c"))
    world.sample()
    world.start(FIRST)
    begun = world.sweep.slot_seconds(world.now)
    world.now += 10.0
    assert world.sweep.slot_seconds(world.now) == begun + 30.0
    launched = world.sweep.trials[0].attempts[0].launched
    fail(world)
    ended = world.sweep.trials[0].attempts[0].ended
    assert ended is not None and world.sweep.taken == 3 * (ended - launched)


def test_a_retry_shuns_every_device_of_the_attempt_that_failed() -> None:
    world = World(opened(retries={"CRASHED": 1}, ahead=0))
    world.feed(controller(world.time()))
    world.feed(e.SlotOffered(world.time(), "a+b", "A,B"))
    world.sample()
    world.start(FIRST)
    world.feed(e.SlotOffered(world.time(), "c+b", "C,B"))
    world.feed(e.SlotOffered(world.time(), "c+d", "C,D"))
    fail(world)
    assert world.sweep.trials[0].attempts[-1].device == "C,D"


def test_what_the_file_says_of_a_failure_comes_before_the_rules() -> None:
    world = running(retries={"CRASHED": 5})
    fail(world, action="fail")
    assert world.sweep.trials[0].state is TrialState.FAIL
    world = running()
    fail(world, action="retry")
    assert len(world.sweep.trials[0].attempts) <= 2 and world.sweep.trials[0].state is not TrialState.FAIL
    world = running()
    fail(world, action="stop")
    assert world.sweep.state is SweepState.STOPPING and world.sweep.failed and "ValueError" in world.sweep.why


def test_what_the_file_says_of_a_failure_is_not_said_of_what_was_told_to_end() -> None:
    world = running(attempt_timeout=60.0)
    for verdict in (e.StopAsked(world.time(), 0), e.TimedOut(world.time(), 1, 1, "its time has passed")):
        world.feed(verdict)
        fail(world, (verdict.trial or 0, 1), action="retry")
        assert world.sweep.trials[verdict.trial or 0].state is TrialState.FAIL
    world = running()
    world.feed(e.StopAsked(world.time(), 0))
    fail(world, action="stop")
    assert world.sweep.state is SweepState.RUNNING


def test_a_trial_that_has_used_up_its_time_is_not_tried_again() -> None:
    world = running(trial_timeout=100.0, retries={"CRASHED": 5}, trials=3)
    world.now += 60.0
    fail(world)
    assert world.sweep.trials[0].state is not TrialState.FAIL
    world.feed(e.SlotOffered(world.time(), world.free()[0], "gpu"))
    world.start((0, 2))
    world.now += 60.0
    fail(world, (0, 2))
    assert world.sweep.trials[0].state is TrialState.FAIL


def test_nobody_pays_for_the_time_of_a_loss() -> None:
    world = running(slot_hours=1.0, trial_timeout=100.0)
    world.now += 1e6  # the machine was off
    world.feed(e.AttemptEnded(world.time(), *FIRST))
    assert world.sweep.trials[0].attempts[0].outcome is Outcome.LOST and world.sweep.taken == 0.0
    assert world.sweep.trials[0].state is not TrialState.FAIL


def test_want_of_memory_is_told_with_what_was_measured() -> None:
    world = running()
    fail(world, hint="oom", peak={"memory": 4e7, "device_memory": 7.94e10})
    trial = world.sweep.trials[0]
    assert (trial.outcome, trial.why) == (
        Outcome.OOM,
        "ValueError: 0 (exit code 1); its peak: 40 MB of memory, 79.4 GB used on its device",
    )


def test_an_end_for_a_limit_is_nobodys_from_outside() -> None:
    world = running()
    fail(world, code=None, signal=9, cause="it went over its limit of 9 processes and threads", hint="limit")
    trial = world.sweep.trials[0]
    said = "it went over its limit of 9 processes and threads (signal 9, SIGKILL)"
    assert (trial.outcome, trial.why) == (Outcome.CRASHED, said)


@pytest.mark.parametrize(
    ("end", "ran_out"),
    [
        ({"hint": "oom", "peak": {"memory": 4e7, "device_memory": 7.94e10}}, 7.94e10),
        ({"hint": "oom"}, 0.0),
        ({}, None),
    ],
)
def test_the_sampler_is_told_where_memory_ran_out(end: dict[str, Any], ran_out: float | None) -> None:
    tells = [order for order in fail(running(), **end) if isinstance(order, do.Tell)]
    assert [tell.ran_out for tell in tells] == [ran_out]


def test_too_many_failures_end_the_sweep_once_there_are_enough_to_count() -> None:
    world = running(fail_rate=0.5, trials=30, ahead=0)
    for number in range(12):
        while (number, 1) not in world.running:
            if world.asks:
                world.sample()
            elif world.launches:
                world.start(next(iter(world.launches)))
            else:
                world.feed(e.SlotOffered(world.time(), world.free()[0], "gpu"))
        if number % 3 == 0:
            world.complete((number, 1))
        else:
            fail(world, (number, 1))
        assert (world.sweep.state is not SweepState.RUNNING) == (number >= 10), number
        if number >= 10:  # of ten that had ended six had failed already, but the tenth did not
            break
    assert "7 of 11 trials failed, more than fail_rate allows" in world.sweep.why
