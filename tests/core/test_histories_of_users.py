"""Histories of what users ask for: pause, drain, stop, resume, and the sweep's timeout."""

from __future__ import annotations

import pytest
from history import begin, crash, launch, names, run, sample
from world import controller

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Outcome, SweepState, TrialState, Verdict
from sweep.errors import IllegalEvent

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
    told = [o for o in orders if isinstance(o, do.Tell)]
    assert [(o.trial, o.state, o.outcome) for o in told] == [
        (1, TrialState.FAIL, Outcome.CRASHED),
        (0, TrialState.FAIL, Outcome.CRASHED),
    ]
    assert orders[-1] == do.Finish()
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
    assert [o for o in orders if isinstance(o, do.Deliver)] == [do.Deliver(*key, Verdict.STOP, 30.0, 5.0)]
    assert world.sweep.state is SweepState.STOPPING
    assert world.feed(e.AttemptStarted(world.time(), *young, 11, 7, "boot")) == [
        do.Deliver(*young, Verdict.STOP, 30.0, 5.0)
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
    assert world.feed(e.StopAsked(world.time(), now=True, why="now")) == [do.Deliver(*key, Verdict.KILL, 0.0, 5.0)]
    assert world.sweep.why == "first"


def test_no_grace_for_a_script_that_does_not_look() -> None:
    world = begin(heeds=False)
    key = run(world)
    assert world.feed(e.StopAsked(world.time(), key[0])) == [do.Deliver(*key, Verdict.STOP, 0.0, 5.0)]


def test_a_stop_of_a_trial_that_waits() -> None:
    world = begin()
    sample(world)
    orders = world.feed(e.StopAsked(world.time(), 0))
    assert orders == [do.Tell(0, TrialState.FAIL, None, None), do.Ask()]
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
    assert world.sweep.deadline() == 260.0, "the pause does not count"


def test_a_report_carries_the_trials_own_time() -> None:
    world = begin()
    key = run(world)
    at = world.sweep.at
    world.feed(e.Reported(at + 1e6, *key, 1, {"acc": 0.5}))
    world.feed(e.Checkpointed(at + 1e6, *key, 1, "trials/0/1/checkpoints/1"))
    assert world.sweep.at == at


def test_the_timeout_does_not_count_pauses() -> None:
    world = begin(timeout=100.0)  # the controller started at 1
    run(world)
    world.feed(e.PauseAsked(21.0))
    assert world.sweep.deadline() is None
    world.feed(e.ResumeAsked(71.0))
    assert world.sweep.deadline() == 1 + 100 + 50
    world.feed(e.PauseAsked(81.0))
    world.feed(e.ResumeAsked(82.0))
    assert world.sweep.deadline() == 1 + 100 + 51


def test_a_pause_over_several_controllers_is_not_counted_either() -> None:
    world = begin(timeout=100.0)
    run(world)
    world.feed(e.PauseAsked(21.0))
    world.feed(e.Noted(31.0, "the last that this controller wrote"))
    world.feed(controller(1000.0))
    world.feed(e.Noted(1040.0, "still paused"))
    world.feed(e.ResumeAsked(1050.0))
    assert world.sweep.deadline() == 1050 + 100 - 20, "20 s were driven and not paused"


def test_a_changed_file_is_for_the_controller_that_follows() -> None:
    world = begin(slots=1, trials=2)
    run(world)
    old = world.sweep.config
    world.now = 49.0
    changed = e.ConfigChanged(world.time(), {"trials": 4}, {"seed": 1}, {"trials": 4}, [{"lr": 9.0}])
    assert names(world.take_over(changed)) == ["Prefer", "Ask"]
    assert world.sweep.overrides == {"seed": 1} and world.sweep.rules.trials == 4
    world.drive()
    configs = [world.sweep.config_at(trial.attempts[0].launched) for trial in world.sweep.trials.values()]
    assert configs == [old, *3 * [{"trials": 4}]]
    assert [trial.params["lr"] for trial in world.sweep.trials.values()].count(9.0) == 1
    assert len(world.sweep.trials) == 4


def test_an_ended_sweep_goes_on_with_a_changed_file() -> None:
    world = begin(trials=1)
    world.drive()
    assert world.sweep.state is SweepState.FINISHED
    assert world.take_over(e.ConfigChanged(90.0, {}, {}, {"trials": 2})) == []
    world.feed(e.ResumeAsked(world.time() + 90))
    world.drive()
    assert len(world.sweep.trials) == 2
