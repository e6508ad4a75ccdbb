"""Histories: what a user, or a bad day, does to a sweep, and what must come of it. World.feed checks the rest."""

from __future__ import annotations

import math

import pytest
from world import World, controller, opened

from sweep.core import events as e
from sweep.core.model import Outcome, SweepState, TrialState, Verdict
from sweep.errors import IllegalEvent


def begin(slots: int = 3, enqueue: tuple[dict, ...] = (), **rules: object) -> World:
    world = World(opened(enqueue, **rules), slots)
    world.feed(controller(world.time()))
    return world


def sample(world: World) -> None:
    for _ in range(len(world.asks)):
        world.sample()


def launch(world: World) -> tuple[int, int]:
    """One more trial or retry, on the next free slot; its process is not there yet."""
    sample(world)
    orders = world.feed(e.SlotOffered(world.time(), world.free()[0], "cpu"))
    return next((o.trial, o.attempt) for o in orders if isinstance(o, e.Launch))


def run(world: World) -> tuple[int, int]:
    key = launch(world)
    world.start(key)
    return key


def crash(world: World, key: tuple[int, int], cause: str = "boom") -> list[e.Effect]:
    return world.feed(e.AttemptEnded(world.time(), *key, code=1, cause=cause))


def names(orders: list[e.Effect]) -> list[str]:
    return [type(order).__name__ for order in orders]


# ---- the plain life ------------------------------------------------------------------------------------------


def test_one_trial_from_its_sampling_to_the_end_of_the_sweep() -> None:
    world = begin(trials=1)
    assert world.orders == [e.Ask()]
    assert world.feed(e.TrialSampled(world.time(), 0, {"lr": 0.1})) == []
    assert world.sweep.demand() == 1
    assert world.feed(e.SlotOffered(world.time(), "s0", "cpu")) == [e.Launch(0, 1, "s0")]
    assert world.sweep.demand() == 0
    world.start((0, 1))
    assert world.feed(e.Reported(world.time(), 0, 1, 3, {"acc": 0.7, "loss": 1.0})) == [e.Judge(0, 1, 3, 0.7)]
    assert world.feed(e.Reported(world.time(), 0, 1, 4, {"loss": 0.9})) == []
    end = world.feed(e.AttemptEnded(world.time(), 0, 1, code=0))
    assert end == [e.Tell(0, TrialState.COMPLETE, (0.7,), Outcome.COMPLETED), e.Finish()]
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
    assert end == [e.Tell(0, TrialState.COMPLETE, (), Outcome.COMPLETED), e.Finish()]
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
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [e.Release("s1")]


@pytest.mark.parametrize("event", [e.PauseAsked(50.0), e.DrainAsked(50.0), e.StopAsked(50.0)])
def test_a_sweep_that_holds_keeps_no_idle_slot_and_takes_none(event: e.Event) -> None:
    world = begin()
    run(world)
    world.feed(e.SlotOffered(world.time(), "s1", "cpu"))
    world.feed(e.SlotOffered(world.time(), "s2", "cpu"))
    assert world.leased == {"s1", "s2"}
    assert set(world.feed(event)) >= {e.Release("s1"), e.Release("s2")}
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [e.Release("s1")]


def test_a_lowered_limit_on_slots_holds_for_slots_that_are_offered_already() -> None:
    world = begin(slots=4, trials=8, ahead=0)
    for slot in ("s0", "s1", "s2"):
        world.feed(e.SlotOffered(world.time(), slot, "cpu"))
    assert world.feed(e.LimitsSet(world.time(), slots=1)) == [e.Release("s2"), e.Release("s1")]
    world.sample()
    assert list(world.launches) == [(0, 1)] and world.sweep.demand() == 0
    world.start((0, 1))
    assert names(world.feed(e.SlotOffered(world.time(), "s1", "cpu"))) == ["Release"]
    world.complete((0, 1))
    assert world.sweep.demand() == 1
    world.feed(e.LimitsSet(world.time(), slots=0))
    assert world.sweep.demand() > 1


def test_a_slot_beyond_the_limit_launches_nothing() -> None:
    world = begin(slots=2, trials=8)
    world.feed(e.LimitsSet(world.time(), slots=1))
    run(world)
    sample(world)
    assert list(world.sweep.ready) == [1]
    assert world.feed(e.SlotOffered(world.time(), "s1", "cpu")) == [e.Release("s1")]


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
    assert world.feed(e.SlotOffered(world.time(), "s2", "cpu")) == [e.Release("s2")]
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
    assert world.orders == [e.Prefer({"lr": 1.0}), e.Ask()]
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
    assert world.orders.count(e.Prefer({"lr": 1.0})) == 2
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
    assert world.feed(e.Enqueued(world.time(), {"lr": 1.0})) == [e.Prefer({"lr": 1.0}), e.Ask()]
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
    assert e.Prefer({"lr": 2.0}) in world.orders[-2:]


def test_a_sampler_that_fails_does_not_call_a_stop_off() -> None:
    world = begin()
    run(world)
    world.feed(e.StopAsked(world.time(), why="enough"))
    world.feed(e.SamplerExhausted(world.time(), "the storage is gone", failed=True))
    assert (world.sweep.state, world.sweep.why, world.sweep.failed) == (SweepState.STOPPING, "enough", False)


# ---- pause, drain, stop, resume ------------------------------------------------------------------------------


def test_a_pause_starts_nothing_and_a_resume_goes_on() -> None:
    world = begin()
    key = run(world)
    world.feed(e.PauseAsked(world.time()))
    sample(world)
    assert not world.asks and world.sweep.demand() == 0
    world.complete(key)
    assert world.sweep.state is SweepState.PAUSED
    world.feed(e.ResumeAsked(world.time()))
    assert world.sweep.demand() > 0 and run(world) == (1, 1)


def test_a_paused_sweep_whose_last_trial_ends_has_ended() -> None:
    world = begin(trials=1)
    key = run(world)
    world.feed(e.PauseAsked(world.time()))
    world.complete(key)
    assert world.sweep.state is SweepState.FINISHED


def test_a_drained_sweep_keeps_what_was_sampled_for_a_resume() -> None:
    world = begin()
    key = run(world)
    world.feed(e.PauseAsked(world.time()))
    world.feed(e.DrainAsked(world.time(), "Ctrl-C"))
    sample(world)
    assert names(world.feed(e.Reported(world.time(), *key, 1, {"acc": 0.5}))) == ["Judge"]
    orders = world.feed(e.AttemptEnded(world.time(), *key, code=0))
    assert names(orders) == ["Tell", "Finish"] and world.sweep.why == "Ctrl-C"
    assert world.sweep.trials[1].state is TrialState.WAITING and 1 not in world.told
    world.feed(e.ResumeAsked(world.time()))
    assert world.sweep.why == "" and run(world) == (1, 1)
    world.drive()
    assert len(world.told) == 5


def test_the_end_of_the_sweep_ends_a_trial_that_waits_for_a_retry() -> None:
    world = begin(retries={"CRASHED": 1})
    key, other = run(world), run(world)
    sample(world)
    crash(world, key, "bad batch")
    assert world.sweep.trials[0].state is TrialState.WAITING
    world.feed(e.DrainAsked(world.time()))
    assert world.sweep.trials[0].state is TrialState.WAITING  # the drain may still be called off
    orders = world.feed(e.AttemptEnded(world.time(), *other, code=1))
    told = [o for o in orders if isinstance(o, e.Tell)]
    assert [(o.trial, o.state, o.outcome) for o in told] == [
        (1, TrialState.FAIL, Outcome.CRASHED),
        (0, TrialState.FAIL, Outcome.CRASHED),
    ]
    assert orders[-1] == e.Finish()
    assert world.sweep.trials[0].why == "bad batch (exit code 1); the sweep ended before another attempt"


def test_a_drain_that_is_called_off_gives_the_retry() -> None:
    world = begin(retries={"CRASHED": 1})
    key, _ = run(world), run(world)
    crash(world, key)
    world.feed(e.DrainAsked(world.time()))
    world.feed(e.ResumeAsked(world.time()))
    assert run(world) == (0, 2)


def test_a_stop_tells_every_attempt_and_waits_for_proof() -> None:
    world = begin()
    key, young = run(world), launch(world)
    orders = world.feed(e.StopAsked(world.time()))
    assert [o for o in orders if isinstance(o, e.Deliver)] == [e.Deliver(*key, Verdict.STOP, 30.0, 5.0)]
    assert world.sweep.state is SweepState.STOPPING
    assert world.feed(e.AttemptStarted(world.time(), *young, 11, 7, "boot")) == [
        e.Deliver(*young, Verdict.STOP, 30.0, 5.0)
    ]
    sample(world)
    world.feed(e.AttemptEnded(world.time(), *key, code=None, signal=15, signalled=True))
    assert not world.sweep.state.ended
    world.feed(e.AttemptEnded(world.time(), *young, code=0, acknowledged="stop"))
    assert world.sweep.state is SweepState.FAILED and world.sweep.why == "stopped by the user"
    assert [world.sweep.trials[n].outcome for n in (0, 1)] == [Outcome.STOPPED, Outcome.STOPPED]
    assert world.sweep.trials[2].state is TrialState.WAITING


def test_a_second_stop_is_sharper_and_the_first_one_stays_the_reason() -> None:
    world = begin()
    key = run(world)
    world.feed(e.StopAsked(world.time(), why="first"))
    assert world.feed(e.StopAsked(world.time(), why="again")) == []
    assert world.feed(e.StopAsked(world.time(), now=True, why="now")) == [e.Deliver(*key, Verdict.KILL, 0.0, 5.0)]
    assert world.sweep.why == "first"


def test_no_grace_for_a_script_that_does_not_look() -> None:
    world = begin(heeds=False)
    key = run(world)
    assert world.feed(e.StopAsked(world.time(), key[0])) == [e.Deliver(*key, Verdict.STOP, 0.0, 5.0)]


def test_a_stop_of_a_trial_that_waits() -> None:
    world = begin()
    sample(world)
    orders = world.feed(e.StopAsked(world.time(), 0))
    assert orders == [e.Tell(0, TrialState.FAIL, None, None), e.Ask()]
    assert world.sweep.trials[0].why == "stopped by the user" and not world.sweep.ready


@pytest.mark.parametrize("state", [SweepState.RUNNING, SweepState.PAUSED])
@pytest.mark.parametrize("started", [True, False])
def test_a_trial_that_was_stopped_is_not_tried_again_however_it_went(state: SweepState, started: bool) -> None:
    world = begin(retries={"CRASHED": 5})
    key = run(world) if started else launch(world)
    if state is SweepState.PAUSED:
        world.feed(e.PauseAsked(world.time()))
    world.feed(e.StopAsked(world.time(), key[0]))
    if started:
        world.feed(e.AttemptEnded(world.time(), *key))
    else:
        world.feed(e.LaunchFailed(world.time(), *key, "the nursery died"))
    trial = world.sweep.trials[0]
    assert (trial.state, trial.outcome, trial.why) == (TrialState.FAIL, Outcome.STOPPED, "stopped by the user")


def test_a_prune_after_a_stop_changes_nothing_and_a_stop_after_a_prune_does() -> None:
    world = begin()
    key, other = run(world), run(world)
    world.feed(e.StopAsked(world.time(), key[0]))
    for told in (key, other):
        if told == other:
            world.feed(e.PruneAdvised(world.time(), *told, 1))
        with pytest.raises(IllegalEvent, match="has a verdict already"):
            world.feed(e.PruneAdvised(world.time(), *told, 2))
    assert names(world.feed(e.StopAsked(world.time(), other[0]))) == ["Deliver"]
    world.feed(e.AttemptEnded(world.time(), *other, code=1, acknowledged="prune"))
    assert world.sweep.trials[1].state is TrialState.PRUNED  # it had taken notice of the first already


# ---- time ----------------------------------------------------------------------------------------------------


def test_the_timeout_counts_the_time_of_controllers_only() -> None:
    world = begin(timeout=100.0)  # the controller started at 1
    assert world.sweep.deadline() == 101.0
    world.now = 40.0
    world.feed(e.Noted(world.time(), "the last word of the first controller"))
    world.feed(controller(1000.0))
    assert world.sweep.deadline() == 1000.0 + 100.0 - 40.0
    world.feed(e.PauseAsked(1001.0))
    assert world.sweep.deadline() is None


def test_a_resume_after_the_timeout_gives_it_anew() -> None:
    world = begin(timeout=100.0)
    run(world)
    world.feed(e.TimeUp(101.0))
    assert (world.sweep.state, world.sweep.why) == (SweepState.DRAINING, "its timeout of 100 s has passed")
    world.feed(e.DrainAsked(102.0, "Ctrl-C"))
    assert world.sweep.why == "its timeout of 100 s has passed"
    world.feed(e.ResumeAsked(150.0))
    assert world.sweep.deadline() == 250.0
    world.feed(e.PauseAsked(160.0))
    world.feed(e.ResumeAsked(170.0))
    assert world.sweep.deadline() == 250.0


def test_a_report_carries_the_trials_own_time() -> None:
    world = begin()
    key = run(world)
    at = world.sweep.at
    world.feed(e.Reported(at + 1e6, *key, 1, {"acc": 0.5}))
    world.feed(e.Checkpointed(at + 1e6, *key, 1, "trials/0/1/checkpoints/1"))
    assert world.sweep.at == at


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
    assert e.Deliver(*keys[2], Verdict.STOP, 30.0, 5.0) in orders
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
    assert orders == [e.Deliver(*key, Verdict.PRUNE, 30.0, 5.0), e.Ask()]
    assert not world.leased and world.sweep.demand() > 0


def test_what_was_sampled_and_not_yet_written_is_taken_over() -> None:
    world = begin(trials=3, enqueue=({"lr": 1.0}, {"lr": 2.0}), needs_run=True)
    sampled = [{"number": 0, "params": {"lr": 1.0}, "origin": "enqueued"}]
    orders = world.feed(controller(world.time(), sampled))
    assert e.MakeRun(0) in orders and list(world.sweep.queue) == [{"lr": 2.0}]
    world.drive()
    assert len(world.told) == 3


def test_a_trial_that_needs_its_run_waits_for_it() -> None:
    world = begin(needs_run=True)
    assert world.feed(e.TrialSampled(world.time(), 0, {})) == [e.MakeRun(0)]
    assert world.feed(e.SlotOffered(world.time(), "s0", "cpu")) == [e.Ask()]
    assert world.feed(controller(world.time())) == [e.MakeRun(0)]
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    assert e.Launch(0, 1, "s0") in world.feed(e.RunLinked(world.time(), 0, "run0"))
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
    assert world.feed(controller(world.time())) == [e.Finish()]
    assert world.sweep.why == "stopped by the user"
