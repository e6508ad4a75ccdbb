"""Histories of slots, limits and samplers, up to the plain end. World.feed checks what is not asserted here."""

from __future__ import annotations

import pytest
from history import begin, crash, names, run, sample

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Outcome, SweepState, TrialState
from sweep.errors import IllegalEvent

# ---- the plain life ------------------------------------------------------------------------------------------


def test_one_trial_from_its_sampling_to_the_end_of_the_sweep() -> None:
    world = begin(trials=1)
    assert world.orders == [do.Ask()]
    assert world.feed(e.TrialSampled(world.time(), 0, {"lr": 0.1})) == []
    assert world.sweep.demand() == 1
    assert world.feed(e.SlotOffered(world.time(), "s0", "cpu")) == [do.Launch(0, 1, "s0")]
    assert world.sweep.demand() == 0
    world.start((0, 1))
    assert world.feed(e.Reported(world.time(), 0, 1, 3, {"acc": 0.7, "loss": 1.0})) == [do.Judge(0, 1, 3, 0.7)]
    assert world.feed(e.Reported(world.time(), 0, 1, 4, {"loss": 0.9})) == []
    end = world.feed(e.AttemptEnded(world.time(), 0, 1, code=0))
    assert end == [do.Tell(0, TrialState.COMPLETE, (0.7,), Outcome.COMPLETED), do.Finish()]
    assert (world.sweep.state, world.sweep.why, world.sweep.best) == (SweepState.FINISHED, "", 0)


def test_what_ended_is_told_before_the_next_is_asked_for() -> None:
    world = begin(ahead=0)
    assert names(world.feed(e.SlotOffered(world.time(), "s0", "cpu"))) == ["Ask"]
    world.sample()
    assert names(crash(world, (0, 1))) == ["Tell"]
    assert names(world.feed(e.SlotOffered(world.time(), "s0", "cpu"))) == ["Ask"]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 2)])
def test_the_best_trial(direction: str, best: int) -> None:
    world = begin(trials=3, directions=(direction,))
    for value in (0.5, 0.9, 0.1):
        world.complete(run(world), value)
    assert world.sweep.best == best


def test_several_objectives_have_values_but_no_best_and_no_judge() -> None:
    world = begin(trials=1, metrics=("acc", "size"), directions=("maximize", "minimize"))
    key = run(world)
    assert world.feed(e.Reported(world.time(), *key, 1, {"acc": 0.5, "size": 9.0})) == []
    world.feed(e.AttemptEnded(world.time(), *key, code=0))
    assert world.sweep.trials[0].values == (0.5, 9.0) and world.sweep.best is None


def test_a_job_has_no_objective_and_is_complete_when_it_ends_well() -> None:
    world = begin(trials=1, metrics=(), directions=())
    key = run(world)
    assert world.feed(e.Reported(world.time(), *key, 1, {"acc": 0.5})) == []
    assert world.feed(e.Checkpointed(world.time(), *key, 1, "c/1")) == []
    end = world.feed(e.AttemptEnded(world.time(), *key, code=0))
    assert end == [do.Tell(0, TrialState.COMPLETE, (), Outcome.COMPLETED), do.Finish()]
    assert world.sweep.best is None


def test_a_trial_that_ends_without_its_metric_fails_and_says_what_it_did_report() -> None:
    world = begin(trials=2)
    silent, other = run(world), run(world)
    world.feed(e.AttemptEnded(world.time(), *silent, code=0))
    world.feed(e.Reported(world.time(), *other, 1, {"accuracy": 0.5}))
    world.feed(e.AttemptEnded(world.time(), *other, code=0))
    whys = [trial.why for trial in world.sweep.trials.values()]
    assert whys == [
        "exited 0, but acc was never reported (reported: nothing at all)",
        "exited 0, but acc was never reported (reported: accuracy)",
    ]
    assert world.sweep.state is SweepState.FAILED and whys[1] in world.sweep.why


# ---- slots ---------------------------------------------------------------------------------------------------


def test_a_slot_is_in_one_place() -> None:
    world = begin()
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    with pytest.raises(IllegalEvent, match="s0 is offered already"):
        world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    sample(world)
    with pytest.raises(IllegalEvent, match="s0 is with trial 0"):
        world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    world.feed(e.LaunchFailed(world.time(), 0, 1, "no space left"))
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))


def test_a_slot_that_nobody_needs_is_given_back() -> None:
    world = begin(trials=1)
    run(world)
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [do.Release("s1")]


@pytest.mark.parametrize("event", [e.PauseAsked(50.0), e.DrainAsked(50.0), e.StopAsked(50.0)])
def test_a_sweep_that_holds_keeps_no_idle_slot_and_takes_none(event: e.Event) -> None:
    world = begin()
    run(world)
    world.feed(e.SlotOffered(world.time(), "s1", "cpu"))
    world.feed(e.SlotOffered(world.time(), "s2", "cpu"))
    assert world.leased == {"s1", "s2"}
    assert set(world.feed(event)) >= {do.Release("s1"), do.Release("s2")}
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [do.Release("s1")]


def test_a_lowered_limit_on_slots_holds_for_slots_that_are_offered_already() -> None:
    world = begin(slots=4, trials=8, ahead=0)
    for slot in ("s0", "s1", "s2"):
        world.feed(e.SlotOffered(world.time(), slot, "cpu"))
    assert world.feed(e.LimitsSet(world.time(), slots=1)) == [do.Release("s2"), do.Release("s1")]
    world.sample()
    assert list(world.launches) == [(0, 1)] and world.sweep.demand() == 0
    world.start((0, 1))
    assert names(world.feed(e.SlotOffered(world.time(), "s1", "cpu"))) == ["Release"]
    world.complete((0, 1))
    assert world.sweep.demand() == 1
    world.feed(e.LimitsSet(world.time(), slots=0, priority=-3))
    assert world.sweep.demand() > 1 and world.sweep.rules.priority == -3


def test_a_slot_beyond_the_limit_launches_nothing() -> None:
    world = begin(slots=2, trials=8)
    world.feed(e.LimitsSet(world.time(), slots=1))
    run(world)
    sample(world)
    assert list(world.sweep.ready) == [1]
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [do.Release("s1")]


def test_the_limit_on_slots_counts_what_is_offered() -> None:
    world = begin(slots=4, trials=8, ahead=0)
    world.feed(e.LimitsSet(world.time(), slots=2))
    assert world.sweep.demand() == 2
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    assert world.sweep.demand() == 1
    world.sample()
    assert world.sweep.demand() == 1


# ---- limits on trials, and the user's own configurations -----------------------------------------------------


def test_a_lowered_limit_on_trials_holds_the_newest_back_and_a_raised_one_lets_it_go() -> None:
    world = begin(trials=5, ahead=2)
    first = run(world)
    sample(world)
    assert list(world.sweep.ready) == [1, 2]
    world.feed(e.LimitsSet(world.time(), trials=2))
    assert world.sweep.demand() == 1
    second = run(world)
    assert second == (1, 1) and world.sweep.demand() == 0
    assert world.feed(e.SlotOffered(world.time(), "s2", "cpu")) == [do.Release("s2")]
    world.complete(first)
    world.complete(second)
    assert world.sweep.state is SweepState.FINISHED
    assert world.sweep.trials[2].state is TrialState.WAITING
    world.feed(e.LimitsSet(world.time(), trials=3))
    world.feed(e.ResumeAsked(world.time()))
    assert run(world) == (2, 1)


def test_a_lowered_limit_on_trials_does_not_hold_a_retry_back() -> None:
    world = begin(trials=3, retries={"CRASHED": 1})
    keys = [run(world), run(world), run(world)]
    world.feed(e.LimitsSet(world.time(), trials=1))
    crash(world, keys[2])
    assert run(world) == (2, 2)


def test_a_raised_limit_goes_on_at_once() -> None:
    world = begin(trials=1)
    key = run(world)
    assert names(world.feed(e.LimitsSet(world.time(), trials=2))) == ["Ask"]
    world.complete(key)
    assert world.sweep.state is SweepState.RUNNING


def test_a_users_configuration_is_next_in_line_and_sampled_once() -> None:
    world = begin(trials=4, enqueue=({"lr": 1.0},))
    assert world.orders == [do.Prefer({"lr": 1.0}), do.Ask()]
    world.sample()
    world.feed(e.Enqueued(world.time(), {"lr": 2.0}))  # nothing is asked for at the moment
    run(world)
    sample(world)
    assert [(t.params, t.origin) for t in world.sweep.trials.values()] == [
        ({"lr": 1.0}, "enqueued"),
        ({"lr": 2.0}, "enqueued"),
    ]
    assert not world.sweep.queue


def test_a_configuration_that_comes_while_a_sample_is_on_its_way_waits_for_the_next() -> None:
    world = begin(trials=3)
    assert world.feed(e.Enqueued(world.time(), {"lr": 1.0})) == []
    world.sample()
    assert world.sweep.trials[0].origin == "sampler"
    run(world)
    sample(world)
    assert world.sweep.trials[1].params == {"lr": 1.0}


def test_a_configuration_that_the_limit_leaves_no_room_for_is_refused() -> None:
    world = begin(trials=2)
    world.feed(e.Enqueued(world.time(), {"lr": 1.0}))
    with pytest.raises(IllegalEvent, match="limit of 2 trials"):
        world.feed(e.Enqueued(world.time(), {"lr": 2.0}))
    world.feed(e.LimitsSet(world.time(), trials=3))
    world.feed(e.Enqueued(world.time(), {"lr": 2.0}))
    world.drive()
    assert [t.params["lr"] for t in world.sweep.trials.values()] == [0.1, 1.0, 2.0]


def test_a_preference_that_the_sampler_did_not_take_is_given_again() -> None:
    world = begin(trials=4, enqueue=({"lr": 1.0},))
    world.feed(e.TrialSampled(world.time(), 0, {"lr": 0.3}))
    run(world)
    assert world.orders.count(do.Prefer({"lr": 1.0})) == 2
    sample(world)
    assert world.sweep.trials[1].origin == "enqueued" and not world.sweep.queue


# ---- a sampler that ends -------------------------------------------------------------------------------------


def test_a_sampler_with_nothing_more_lets_the_rest_run_retries_included() -> None:
    world = begin(trials=None, retries={"CRASHED": 1})
    key = run(world)
    world.feed(e.SamplerExhausted(world.time(), "the grid is done"))
    crash(world, key)
    assert world.sweep.state is SweepState.RUNNING and world.sweep.demand() == 1
    again = run(world)
    assert again == (0, 2) and not world.asks
    world.complete(again)
    assert world.sweep.state is SweepState.FINISHED


def test_a_users_configuration_needs_no_sampler() -> None:
    world = begin(trials=None)
    key = run(world)
    world.feed(e.SamplerExhausted(world.time(), "the grid is done"))
    assert world.feed(e.Enqueued(world.time(), {"lr": 1.0})) == [do.Prefer({"lr": 1.0}), do.Ask()]
    world.sample()
    world.complete(key)
    world.complete(run(world))
    assert world.sweep.state is SweepState.FINISHED and world.sweep.trials[1].origin == "enqueued"


def test_a_configuration_that_is_refused_is_not_asked_for_without_end() -> None:
    world = begin(trials=None)
    run(world)
    world.feed(e.SamplerExhausted(world.time(), "the grid is done"))
    world.feed(e.Enqueued(world.time(), {"lr": 1.0}))
    assert world.feed(e.SamplerExhausted(world.time(), "the grid is done")) == []
    assert not world.sweep.queue


def test_a_sampler_that_fails_ends_the_sweep_as_failed_once_the_running_trials_are_done() -> None:
    world = begin(enqueue=({"lr": 1.0}, {"lr": 2.0}))
    key = run(world)
    world.feed(e.SamplerExhausted(world.time(), "the storage is gone", failed=True))
    assert world.sweep.state is SweepState.DRAINING
    world.feed(e.StopAsked(world.time(), why="Ctrl-C twice: stopped"))
    world.complete(key)
    assert world.sweep.state is SweepState.FAILED and world.sweep.why == "the storage is gone"
    world.feed(e.ResumeAsked(world.time()))
    assert do.Prefer({"lr": 2.0}) in world.orders[-2:]


def test_a_sampler_that_fails_does_not_call_a_stop_off() -> None:
    world = begin()
    run(world)
    world.feed(e.StopAsked(world.time(), why="enough"))
    world.feed(e.SamplerExhausted(world.time(), "the storage is gone", failed=True))
    assert (world.sweep.state, world.sweep.why, world.sweep.failed) == (SweepState.STOPPING, "enough", False)
