"""Histories of attempts that fail, of scripts that are broken and of controllers that die."""

from __future__ import annotations

import math

import pytest
from history import begin, crash, launch, names, run, sample
from world import controller

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Outcome, SweepState, TrialState, Verdict
from sweep.errors import IllegalEvent

# ---- attempts ------------------------------------------------------------------------------------------------


def test_without_a_word_about_retries_there_are_none() -> None:
    world = begin()
    crash(world, run(world))
    assert world.sweep.trials[0].state is TrialState.FAIL


def test_retries_are_first_in_line_and_counted_over_all_that_is_charged() -> None:
    world = begin(retries={"CRASHED": 2, "OOM": 2})
    sample(world)
    crash(world, run(world))
    assert world.sweep.trials[0].why == "attempt 1 CRASHED: boom (exit code 1); another follows"
    again = run(world)
    assert again == (0, 2) and world.sweep.trials[0].why == ""
    world.feed(e.AttemptEnded(world.time(), *again, code=1, hint="oom"))
    again = run(world)
    assert again == (0, 3)
    crash(world, again)
    assert [a.outcome for a in world.sweep.trials[0].attempts] == [Outcome.CRASHED, Outcome.OOM, Outcome.CRASHED]
    assert world.sweep.trials[0].state is TrialState.FAIL


def test_a_lost_attempt_is_not_charged_but_there_is_an_end_to_it() -> None:
    world = begin(retries={"CRASHED": 1})
    crash(world, run(world))
    for attempt in (2, 3, 4):
        assert world.sweep.trials[0].state is TrialState.WAITING
        key = launch(world)
        assert key == (0, attempt)
        if attempt == 3:
            world.feed(e.LaunchFailed(world.time(), *key, "no space left"))
        else:
            world.feed(e.AttemptEnded(world.time(), *key))
    assert world.sweep.trials[0].state is TrialState.FAIL
    assert world.sweep.trials[0].why == "its supervisor is gone and left no word"


def test_reports_of_an_old_attempt_never_reach_the_new_one() -> None:
    world = begin(retries={"CRASHED": 1})
    first = run(world)
    world.feed(e.Reported(world.time(), *first, 5, {"acc": 0.5}))
    crash(world, first)
    second = run(world)
    for event in (
        e.Reported(world.time(), *first, 6, {"acc": 0.9}),
        e.Checkpointed(world.time(), *first, 6, "trials/0/1/checkpoints/6"),
        e.PruneAdvised(world.time(), *first, 5),
        e.AttemptEnded(world.time(), *first, code=0),
    ):
        with pytest.raises(IllegalEvent, match="attempt 0/1 is not the live one"):
            world.feed(event)
    assert world.feed(e.Reported(world.time(), *second, 5, {"acc": 0.1})) == []  # step 5 is judged already
    assert names(world.feed(e.Reported(world.time(), *second, 6, {"acc": 0.2}))) == ["Judge"]
    attempt = world.sweep.trials[0].attempts[1]
    assert (attempt.step, attempt.lines, world.sweep.trials[0].step) == (6, 2, 6)


def test_reports_that_come_before_the_start_is_known_count() -> None:
    world = begin(trials=1)
    key = launch(world)
    assert names(world.feed(e.Reported(world.time(), *key, 1, {"acc": 0.5}))) == ["Judge"]
    world.feed(e.AttemptEnded(world.time(), *key, code=0))
    assert world.sweep.trials[0].values == (0.5,)


def test_checkpoints_that_stay_are_the_newest_and_the_best() -> None:
    world = begin(keep=2)
    key = run(world)
    dropped = []
    for step, value in enumerate([0.1, 0.9, 0.2, math.nan, 0.3]):
        world.feed(e.Reported(world.time(), *key, step, {"acc": value}))
        orders = world.feed(e.Checkpointed(world.time(), *key, step, f"c/{step}"))
        dropped += [order.directory for order in orders]
    assert dropped == ["c/0", "c/2"]
    assert [c.step for c in world.sweep.trials[0].checkpoints] == [1, 3, 4]


def test_a_checkpoint_that_is_made_again_is_not_deleted() -> None:
    world = begin(keep=1)
    key = run(world)
    world.feed(e.Checkpointed(world.time(), *key, 1, "c/1"))
    assert world.feed(e.Checkpointed(world.time(), *key, 1, "c/1")) == []


# ---- failing alike -------------------------------------------------------------------------------------------


def test_first_trials_that_fail_alike_end_the_sweep() -> None:
    world = begin(slots=4, trials=9, fail_fast=2)
    keys = [run(world), run(world), run(world)]
    crash(world, keys[0], "KeyError: 'lr' at line 10")
    orders = crash(world, keys[1], "KeyError: 'lr' at line 12")
    assert do.Deliver(*keys[2], Verdict.STOP, 30.0, 5.0) in orders
    sample(world)
    world.complete(keys[2])
    why = "the first 2 trials failed alike: KeyError: 'lr' at line 12 (exit code 1)"
    assert (world.sweep.state, world.sweep.why) == (SweepState.FAILED, why)


def test_a_resume_after_that_counts_anew() -> None:
    world = begin(fail_fast=2)
    crash(world, run(world))
    crash(world, run(world))
    sample(world)
    assert world.sweep.state is SweepState.FAILED
    world.feed(e.ResumeAsked(world.time()))
    crash(world, run(world))
    assert world.sweep.state is SweepState.RUNNING
    crash(world, run(world))
    assert world.sweep.state is SweepState.STOPPING


@pytest.mark.parametrize("second", ["another cause", "none"])
def test_a_trial_that_fares_otherwise_calls_it_off(second: str) -> None:
    world = begin(fail_fast=2)
    crash(world, run(world))
    if second == "none":
        world.complete(run(world))
    else:
        crash(world, run(world), second)
    crash(world, run(world))
    crash(world, run(world))
    assert world.sweep.state is SweepState.RUNNING


def test_what_users_stop_does_not_count_as_failing_alike() -> None:
    world = begin(fail_fast=2, trials=9)
    for _ in range(2):
        key = run(world)
        world.feed(e.StopAsked(world.time(), key[0]))
        crash(world, key)
    assert world.sweep.state is SweepState.RUNNING
    crash(world, run(world))
    key = run(world)
    world.feed(e.StopAsked(world.time(), why="enough"))
    world.feed(e.AttemptEnded(world.time(), *key, code=1, acknowledged="stop"))
    sample(world)
    assert world.sweep.why == "enough"


# ---- controllers that die ------------------------------------------------------------------------------------


def test_another_controller_asks_and_leases_anew_and_says_verdicts_again() -> None:
    world = begin(enqueue=({"lr": 1.0}, {"lr": 2.0}))
    key, young = run(world), launch(world)
    world.feed(e.PruneAdvised(world.time(), *key, 1))
    world.feed(e.PruneAdvised(world.time(), *young, 1))
    world.feed(e.SlotOffered(world.time(), "s2", "cpu"))
    assert world.leased == {"s2"} and len(world.asks) == 2
    orders = world.feed(controller(world.time()))
    assert orders == [do.Deliver(*key, Verdict.PRUNE, 30.0, 5.0), do.Ask()]
    assert not world.leased and world.sweep.demand() > 0


def test_what_was_sampled_and_not_yet_written_is_taken_over() -> None:
    world = begin(trials=3, enqueue=({"lr": 1.0}, {"lr": 2.0}), needs_run=True)
    sampled = [{"number": 0, "params": {"lr": 1.0}, "origin": "enqueued"}]
    orders = world.feed(controller(world.time(), sampled))
    assert do.MakeRun(0) in orders and list(world.sweep.queue) == [{"lr": 2.0}]
    world.drive()
    assert len(world.told) == 3


def test_a_trial_that_needs_its_run_waits_for_it() -> None:
    world = begin(needs_run=True)
    assert world.feed(e.TrialSampled(world.time(), 0, {})) == [do.MakeRun(0)]
    assert world.feed(e.SlotOffered(world.time(), "s0", "cpu")) == [do.Ask()]
    assert world.feed(controller(world.time())) == [do.MakeRun(0)]
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    assert do.Launch(0, 1, "s0") in world.feed(e.RunLinked(world.time(), 0, "run0"))
    world.feed(controller(world.time()))
    assert not world.runs


def test_a_drained_sweep_does_not_wait_for_runs() -> None:
    world = begin(needs_run=True)
    sample(world)
    world.feed(e.DrainAsked(world.time()))
    assert world.sweep.state is SweepState.FAILED
    world.feed(e.RunLinked(world.time(), 0, "late"))
    world.feed(e.ResumeAsked(world.time()))
    assert run(world) == (0, 1)


def test_the_end_comes_with_the_controller_that_finds_nothing_left() -> None:
    world = begin()
    world.feed(e.StopAsked(world.time()))
    assert not world.sweep.state.ended  # a configuration is on its way
    assert world.feed(controller(world.time())) == [do.Finish()]
    assert world.sweep.why == "stopped by the user"
