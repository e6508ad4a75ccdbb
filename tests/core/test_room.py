"""Which checkpoints go where there is no room, and what the state machine makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World, controller, opened

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep
from sweep.core.model import Attempt, Checkpoint, Phase, Sweep, Trial, TrialState
from sweep.core.pareto import front
from sweep.core.room import expendable, to_drop
from sweep.errors import IllegalEvent

STATES = st.sampled_from(list(TrialState))


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    goals = draw(st.integers(0, 2))
    names = tuple(f"m{n}" for n in range(goals))
    sweep = open_sweep(opened(metrics=names, directions=("maximize", "minimize")[:goals]))
    for number in range(draw(st.integers(0, 8))):
        trial = Trial(number, {}, state=draw(STATES))
        if trial.state is not TrialState.WAITING or draw(st.booleans()):
            trial.attempts = [Attempt(1, "s", "cpu", Phase.ENDED, ended=draw(st.floats(0, 9)))]
        if trial.state is TrialState.COMPLETE:
            trial.values = tuple(draw(st.integers(0, 3)) for _ in names)
        steps = range(draw(st.integers(0, 3)))
        trial.checkpoints = [Checkpoint(step, f"trials/{number}/1/checkpoints/{step}") for step in steps]
        sweep.trials[number] = trial
    return sweep


def best_of(sweep: Sweep) -> list[Trial]:
    trials = sweep.trials.values()
    whole = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return front(trials, sweep.rules.directions) if sweep.rules.directions else whole


@given(sweeps())
def test_what_is_pinned_never_goes_and_all_else_may(sweep: Sweep) -> None:
    going = [(number, one.directory) for number, one in expendable(sweep)]
    pinned = {(trial.number, one.directory) for trial in best_of(sweep) for one in trial.checkpoints}
    pinned |= {
        (trial.number, trial.checkpoints[-1].directory)
        for trial in sweep.trials.values()
        if not trial.state.terminal and trial.checkpoints
    }
    every = {(trial.number, one.directory) for trial in sweep.trials.values() for one in trial.checkpoints}
    assert len(going) == len(set(going)) and set(going) == every - pinned


@given(sweeps(), st.integers(-5, 60), st.data())
def test_no_more_goes_than_has_to(sweep: Sweep, excess: int, data: st.DataObject) -> None:
    order = list(expendable(sweep))
    sizes = {one.directory: data.draw(st.integers(0, 9)) for _, one in order if data.draw(st.booleans())}
    gone = to_drop(sweep, sizes, excess)
    known = [found for found in order if found[1].directory in sizes]
    assert gone == known[: len(gone)], "in the order in which they are missed least"
    freed = [sizes[one.directory] for _, one in gone]
    assert sum(freed) >= excess or gone == known
    assert not freed or sum(freed[:-1]) < excess


@given(sweeps())
def test_those_without_a_result_go_first_and_the_worst_of_the_beaten_next(sweep: Sweep) -> None:
    trials = [sweep.trials[number] for number, _ in expendable(sweep)]
    ranks = [0 if t.state in (TrialState.FAIL, TrialState.PRUNED) else 1 + (not t.state.terminal) for t in trials]
    assert ranks == sorted(ranks)
    values = [t.values[0] for t in trials if t.state is TrialState.COMPLETE and t.values]
    assert values == sorted(values), "m0 is maximized"


def test_a_checkpoint_that_is_dropped_is_discarded_and_known_no_more() -> None:
    world = World(opened())
    world.feed(controller(world.time()))
    world.feed(e.TrialSampled(world.time(), 0, {}))
    world.feed(e.SlotOffered(world.time(), "s0", "cpu"))
    world.feed(e.AttemptStarted(world.time(), 0, 1, 11, 7, "boot"))
    for step in (1, 2):
        world.feed(e.Checkpointed(world.time(), 0, 1, step, f"trials/0/1/checkpoints/{step}"))
    directory = world.sweep.trials[0].checkpoints[0].directory
    dropped = e.CheckpointDropped(world.time(), 0, directory, "no room")
    assert world.feed(dropped) == [do.Discard(directory)]
    assert directory not in [one.directory for one in world.sweep.trials[0].checkpoints]
    with pytest.raises(IllegalEvent):
        world.feed(dropped)


def test_nothing_starts_while_launches_are_held_and_what_runs_runs_on() -> None:
    world = World(opened(trials=3))
    world.feed(controller(world.time()))
    for number in range(2):
        world.feed(e.TrialSampled(world.time(), number, {}))
        world.feed(e.SlotOffered(world.time(), f"s{number}", "cpu"))
    world.feed(e.AttemptStarted(world.time(), 0, 1, 11, 7, "boot"))
    world.feed(e.LaunchesHeld(world.time(), "the disk is full"))
    assert world.sweep.demand() == 0
    world.feed(e.Reported(world.time(), 0, 1, 1, {"acc": 0.5}))
    orders = world.feed(e.AttemptEnded(world.time(), 0, 1, code=0))
    assert [type(order) for order in orders] == [do.Tell]
    world.feed(e.LaunchesHeld(world.time(), ""))
    assert world.sweep.demand() == 1


def test_the_next_controller_looks_for_itself() -> None:
    world = World(opened())
    world.feed(controller(world.time()))
    world.feed(e.LaunchesHeld(world.time(), "the disk is full"))
    world.feed(controller(world.time()))
    assert not world.sweep.hold
