"""What must hold whatever happens: edges that answer in any order or twice, controllers that die, users."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from world import World, controller, opened

from sweep.core import events as e

INDEX = st.integers(0, 11)
STEP = st.integers(0, 4)
CHOICES = st.lists(st.integers(0, 99), min_size=4, max_size=12)
SELDOM = st.integers(0, 3)
VALUE = st.sampled_from([0.1, 0.5, 0.9, -1.0, math.nan, math.inf, -math.inf])
LIMIT = st.none() | st.integers(1, 12)
RULES = st.fixed_dictionaries(
    {
        "trials": LIMIT,
        "slots": st.none() | st.integers(1, 3),
        "ahead": st.integers(0, 2),
        "fail_fast": st.sampled_from([0, 2]),
        "keep": st.integers(1, 2),
        "needs_run": st.booleans(),
        "heeds": st.booleans(),
        "timeout": st.none() | st.just(20.0),
        "value": st.sampled_from(["last", "best"]),
        "retries": st.sampled_from([{}, {"CRASHED": 1}, {"CRASHED": 2, "OOM": 2}]),
    }
)
OBJECTIVES = st.sampled_from(
    [(("acc",), ("maximize",)), (("loss",), ("minimize",)), (("acc", "loss"), ("maximize", "minimize"))]
)
# how a process ends: code, signal, acknowledged, signalled, hint
ENDS = st.sampled_from(
    [
        (0, None, None, False, ""),
        (0, None, "prune", False, ""),
        (1, None, "prune", False, ""),
        (0, None, "stop", False, ""),
        (0, None, None, True, ""),
        (1, None, None, False, ""),
        (1, None, None, False, "oom"),
        (None, 9, None, True, ""),
        (None, None, None, False, ""),
    ]
)


class AnySweep(RuleBasedStateMachine):
    """Every rule goes through World.feed, which checks all that it knows after each event."""

    world: World

    @initialize(rules=RULES, objectives=OBJECTIVES, enqueued=st.integers(0, 2), choices=CHOICES)
    def open(self, rules: dict, objectives: tuple, enqueued: int, choices: list[int]) -> None:
        metrics, directions = objectives
        enqueue = tuple({"lr": float(n)} for n in range(enqueued))
        self.world = World(opened(enqueue, metrics=metrics, directions=directions, **rules))
        self.world.feed(controller(self.world.time()))
        self.work(choices)

    # -- edges that do their work, in any order

    def work(self, choices: list[int]) -> None:
        for choice in choices:
            possible = self._possible()
            if possible:
                possible[choice % len(possible)]()

    # Hypothesis leaves some rules out of each example: with three it seldom leaves the work out
    work_on = rule(choices=CHOICES)(work)
    work_more = rule(choices=CHOICES)(lambda self, choices: self.work(choices))
    work_most = rule(choices=CHOICES)(lambda self, choices: self.work(choices))

    def _possible(self) -> list[Callable[[], object]]:
        world = self.world
        if world.sweep.state.ended:
            return [self.resume, lambda: world.feed(e.LimitsSet(world.time(), len(world.sweep.trials) + 3, 3))]
        possible: list[Callable[[], object]] = []
        if world.asks:
            possible.append(world.sample)
        if world.runs:
            possible.append(lambda: self.link(0))
        if world.sweep.demand() and world.free():
            possible.append(lambda: self.offer(world.slots.index(world.free()[0])))
        possible += [partial(world.start, key) for key in world.launches]
        for key in world.running:
            possible.append(partial(world.feed, e.Reported(world.now, *key, 1 + len(world.log) % 4, {"acc": 0.4})))
            possible.append(partial(world.complete, key))
        if world.judges:
            possible.append(lambda: self.advise(0))
        return possible

    # -- edges that do it less well

    @rule(index=INDEX)
    def offer(self, index: int) -> None:
        world = self.world
        slot = world.slots[index % len(world.slots)]
        free, wanted, held = slot in world.free(), world.sweep.demand(), set(world.sweep.offers)
        heard = world.offer(e.SlotOffered(world.time(), slot, "cpu"))
        assert heard == (free and not world.sweep.state.ended)
        if heard and wanted:
            assert e.Release(slot) not in world.newest, "it asked for a slot and gave it back"
        elif heard:
            assert set(world.sweep.offers) <= held, "it keeps a slot that it has no use for"

    @precondition(lambda self: self.world.asks)
    @rule(skip=st.integers(0, 1))
    def sample(self, skip: int) -> None:
        self.world.number += skip  # others ask the same study
        self.world.sample()

    @precondition(lambda self: self.world.asks)
    @rule(failed=st.booleans(), seldom=SELDOM)
    def exhaust(self, failed: bool, seldom: int) -> None:
        if not seldom:
            self.world.feed(e.SamplerExhausted(self.world.time(), "a grid is done", failed))

    @precondition(lambda self: self.world.asks)
    @rule()
    def sample_without_what_was_preferred(self) -> None:
        self.world.feed(e.TrialSampled(self.world.time(), self.world.number, {"lr": 0.3}))

    @precondition(lambda self: self.world.runs)
    @rule(index=INDEX)
    def link(self, index: int) -> None:
        number = self.world.runs[index % len(self.world.runs)]
        self.world.feed(e.RunLinked(self.world.time(), number, f"run{number}"))

    @precondition(lambda self: self.world.launches)
    @rule(index=INDEX)
    def start(self, index: int) -> None:
        self.world.start(self._one(self.world.launches, index))

    @precondition(lambda self: self.world.launches)
    @rule(index=INDEX)
    def fail_to_start(self, index: int) -> None:
        key = self._one(self.world.launches, index)
        self.world.feed(e.LaunchFailed(self.world.time(), *key, "the nursery died"))

    @precondition(lambda self: self.world.running or self.world.launches)
    @rule(index=INDEX, step=STEP, value=VALUE, whole=st.booleans())
    def report(self, index: int, step: int, value: float, whole: bool) -> None:
        metrics = self.world.sweep.rules.metrics
        said = dict.fromkeys(metrics if whole else metrics[:1], value)
        self.world.feed(e.Reported(self.world.time(), *self._alive(index), step, said))

    @precondition(lambda self: self.world.running)
    @rule(index=INDEX, step=STEP)
    def checkpoint(self, index: int, step: int) -> None:
        trial, attempt = self._alive(index)
        directory = f"trials/{trial}/{attempt}/checkpoints/{step}"
        self.world.feed(e.Checkpointed(self.world.time(), trial, attempt, step, directory))

    @precondition(lambda self: self.world.judges)
    @rule(index=INDEX)
    def advise(self, index: int) -> None:
        order = self.world.judges.pop(index % len(self.world.judges))
        self.world.offer(e.PruneAdvised(self.world.time(), order.trial, order.attempt, order.step))

    @precondition(lambda self: self.world.running or self.world.launches)
    @rule(index=INDEX, how=ENDS)
    def end(self, index: int, how: tuple) -> None:
        code, signal, acknowledged, signalled, hint = how
        event = e.AttemptEnded(
            self.world.time(), *self._alive(index), code, signal, acknowledged, signalled, "boom 17", hint
        )
        self.world.feed(event)

    # -- what goes wrong around them

    @rule(missed=st.integers(0, 2), seldom=SELDOM)
    def another_controller(self, missed: int, seldom: int) -> None:
        """The last one died; of what it had asked for, some was sampled and not yet written."""
        world = self.world
        if seldom:
            return
        missed = min(missed, len(world.asks))
        lost = [world.asks[n] for n in range(missed)]
        sampled = [
            {
                "number": world.number + n,
                "params": preferred or {"lr": 0.2},
                "origin": "enqueued" if preferred is not None else "sampler",
            }
            for n, preferred in enumerate(lost)
        ]
        world.feed(controller(world.time(), sampled))

    @rule(data=st.data())
    def once_more(self, data: st.DataObject) -> None:
        """Anything that was said before is said again."""
        self.world.offer(self.world.log[data.draw(st.integers(0, len(self.world.log) - 1))])

    @rule(trial=st.integers(0, 8), attempt=st.integers(1, 3), kind=st.integers(0, 7))
    def out_of_place(self, trial: int, attempt: int, kind: int) -> None:
        """Said of any attempt, live or not: heard for the live one only."""
        at = self.world.time()
        event = [
            e.AttemptStarted(at, trial, attempt, 1, 1, "boot"),
            e.Reported(at, trial, attempt, 2, {"acc": 0.4}),
            e.Checkpointed(at, trial, attempt, 2, f"trials/{trial}/{attempt}/checkpoints/2"),
            e.PruneAdvised(at, trial, attempt, 2),
            e.AttemptEnded(at, trial, attempt, code=0),
            e.LaunchFailed(at, trial, attempt, "gone"),
            e.RunLinked(at, trial, "run"),
            e.TrialSampled(at, trial, {"lr": 0.7}),
        ][kind]
        known = self.world.sweep.trials.get(trial)
        live = known.attempt if known else None
        if self.world.offer(event) and kind < 6:
            assert live is not None and live.number == attempt

    # -- users

    @rule(seldom=SELDOM)
    def pause(self, seldom: int) -> None:
        if not seldom:
            self.world.offer(e.PauseAsked(self.world.time()))

    @rule()
    def resume(self) -> None:
        if self.world.offer(e.ResumeAsked(self.world.time())):
            deadline = self.world.sweep.deadline()
            assert deadline is None or deadline > self.world.now

    @rule(seldom=SELDOM)
    def drain(self, seldom: int) -> None:
        if not seldom:
            self.world.offer(e.DrainAsked(self.world.time()))

    @rule(now=st.booleans(), seldom=SELDOM)
    def stop(self, now: bool, seldom: int) -> None:
        if not seldom:
            self.world.offer(e.StopAsked(self.world.time(), None, now))

    @rule(trial=st.integers(0, 8), now=st.booleans())
    def stop_a_trial(self, trial: int, now: bool) -> None:
        self.world.offer(e.StopAsked(self.world.time(), trial, now))

    @rule(trials=LIMIT, slots=st.none() | st.integers(0, 3))
    def limit(self, trials: int | None, slots: int | None) -> None:
        self.world.feed(e.LimitsSet(self.world.time(), trials, slots))

    @rule(value=st.integers(0, 2))
    def enqueue(self, value: int) -> None:
        self.world.offer(e.Enqueued(self.world.time(), {"lr": float(value)}))

    @rule()
    def time_up(self) -> None:
        deadline = self.world.sweep.deadline()
        if deadline is not None and self.world.now >= deadline:
            self.world.feed(e.TimeUp(self.world.time()))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.drive()

    def _one(self, keys: dict[tuple[int, int], str], index: int) -> tuple[int, int]:
        return list(keys)[index % len(keys)]

    def _alive(self, index: int) -> tuple[int, int]:
        return self._one({**self.world.launches, **self.world.running}, index)


def test_whatever_happens() -> None:
    bounds = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None, database=None)
    run_state_machine_as_test(AnySweep, settings=bounds)
