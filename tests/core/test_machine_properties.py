"""What must hold whatever happens: edges that answer in any order or twice, controllers that die, users."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from world import World, controller, opened

from sweep.core import effects as do
from sweep.core import events as e

INDEX = st.integers(0, 11)
STEP = st.integers(0, 4)
SELDOM = st.integers(0, 2)
WORK = st.lists(st.integers(0, 99), max_size=7)
VALUE = st.sampled_from([0.1, 0.5, 0.9, -1.0, math.nan, math.inf, -math.inf])
LIMIT = st.none() | st.integers(1, 12)
RULES = st.fixed_dictionaries(
    {
        "trials": LIMIT,
        "slots": st.sampled_from([None, 1, 2]),
        "ahead": st.sampled_from([1, 0, 2]),
        "fail_fast": st.sampled_from([0, 2]),
        "keep": st.sampled_from([1, 2]),
        "needs_run": st.booleans(),
        "heeds": st.booleans(),
        "timeout": st.sampled_from([None, 20.0]),
        "value": st.sampled_from(["last", "best"]),
        "retries": st.sampled_from([{}, {"CRASHED": 1}, {"CRASHED": 2, "OOM": 2}, {"STALLED": 1, "TIMED_OUT": 1}]),
        "backoff": st.sampled_from([0.0, 5.0]),
        "stall_action": st.sampled_from(["prune", "retry", "fail"]),
        "on_nan": st.sampled_from(["ignore", "prune", "fail"]),
        "duplicates": st.sampled_from(["repeat", "skip", "average"]),
        "slot_hours": st.sampled_from([None, 0.01]),
        "fail_rate": st.sampled_from([None, 0.5]),
    }
)
OBJECTIVES = st.sampled_from(
    [(("acc",), ("maximize",)), (("loss",), ("minimize",)), (("acc", "loss"), ("maximize", "minimize")), ((), ())]
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
        (1, None, None, False, "retry"),
        (1, None, None, False, "stop"),
        (None, 9, None, True, ""),
        (None, None, None, False, ""),
    ]
)


def happens(**given: st.SearchStrategy) -> Callable[[Callable[..., None]], Any]:
    """A rule that lets the edges do some of their work first, in any order.

    Hypothesis leaves many rules out of each example, so that the others come often; this is what makes them meet
    a sweep in the midst of its life.
    """

    def wrap(happening: Callable[..., None]) -> Any:
        def worked(self: AnySweep, work: list[int], **given: Any) -> None:
            self.work(work)
            happening(self, **given)

        worked.__name__ = happening.__name__
        return rule(work=WORK, **given)(worked)

    return wrap


class AnySweep(RuleBasedStateMachine):
    """Every event goes through World.feed, which checks all that it knows after it."""

    world: World

    @initialize(rules=RULES, objectives=OBJECTIVES, enqueued=st.integers(0, 2))
    def open(self, rules: dict, objectives: tuple, enqueued: int) -> None:
        metrics, directions = objectives
        enqueue = tuple({"lr": float(n)} for n in range(enqueued))
        self.world = World(opened(enqueue, metrics=metrics, directions=directions, **rules))
        self.world.feed(controller(self.world.time()))

    # -- edges that do their work

    def work(self, choices: list[int]) -> None:
        for choice in choices:
            possible = self._possible()
            if possible:
                possible[choice % len(possible)]()

    def _possible(self) -> list[Callable[[], object]]:
        world = self.world
        if world.sweep.state.ended:
            more = e.LimitsSet(world.time(), len(world.sweep.trials) + 3)
            return [partial(world.feed, more), partial(world.feed, e.ResumeAsked(world.time()))]
        possible: list[Callable[[], object]] = [partial(world.start, key) for key in world.launches]
        if world.asks:
            possible.append(world.sample)
        if world.runs:
            possible.append(partial(world.feed, e.RunLinked(world.time(), world.runs[0], "run")))
        if world.sweep.demand() and world.free():
            possible.append(partial(world.feed, e.SlotOffered(world.time(), world.free()[0], "cpu")))
        for key in world.running:
            said = dict.fromkeys(world.sweep.rules.metrics, 0.4)
            possible.append(partial(world.feed, e.Reported(world.time(), *key, len(world.log) % 5, said)))
            possible.append(partial(world.complete, key))
            possible.append(partial(world.feed, e.AttemptEnded(world.time(), *key, code=1, cause="boom")))
        if world.judges:
            possible.append(partial(self._advise, 0))
        return possible or [partial(world.offer, e.ResumeAsked(world.time()))]

    # -- edges that do it less well

    @happens(index=INDEX)
    def offer(self, index: int) -> None:
        world = self.world
        slot = world.slots[index % len(world.slots)]
        free, wanted, held = slot in world.free(), world.sweep.demand(), set(world.sweep.offers)
        heard = world.offer(e.SlotOffered(world.time(), slot, "cpu"))
        assert heard == (free and not world.sweep.state.ended)
        if heard and wanted:
            assert do.Release(slot) not in world.newest, "it asked for a slot and gave it back"
        elif heard:
            assert set(world.sweep.offers) <= held, "it keeps a slot that it has no use for"

    @happens()
    def sample_beside_others(self) -> None:
        self.world.number += 1  # somebody else asks the same study
        if self.world.asks:
            self.world.sample()

    @happens()
    def sample_without_what_was_preferred(self) -> None:
        if self.world.asks:
            self.world.feed(e.TrialSampled(self.world.time(), self.world.number, {"lr": 0.3}))

    @happens(failed=st.booleans(), seldom=SELDOM)
    def exhaust(self, failed: bool, seldom: int) -> None:
        if self.world.asks and not seldom:
            self.world.feed(e.SamplerExhausted(self.world.time(), "a grid is done", failed))

    @happens(index=INDEX)
    def link_out_of_order(self, index: int) -> None:
        if self.world.runs:
            number = self.world.runs[index % len(self.world.runs)]
            self.world.feed(e.RunLinked(self.world.time(), number, f"run{number}"))

    @happens(index=INDEX)
    def fail_to_start(self, index: int) -> None:
        for key in _one(self.world.launches, index):
            self.world.feed(e.LaunchFailed(self.world.time(), *key, "the nursery died"))

    @happens(index=INDEX, step=STEP, value=VALUE, whole=st.booleans())
    def report(self, index: int, step: int, value: float, whole: bool) -> None:
        metrics = self.world.sweep.rules.metrics
        for key in self._alive(index):
            said = dict.fromkeys(metrics if whole else metrics[:1], value)
            self.world.feed(e.Reported(self.world.time(), *key, step, said))

    @happens(index=INDEX, step=STEP)
    def checkpoint(self, index: int, step: int) -> None:
        for trial, attempt in self._alive(index):
            directory = f"trials/{trial}/{attempt}/checkpoints/{step}"
            self.world.feed(e.Checkpointed(self.world.time(), trial, attempt, step, directory))

    @happens(index=INDEX)
    def advise_out_of_order(self, index: int) -> None:
        if self.world.judges:
            self._advise(index % len(self.world.judges))

    def _advise(self, index: int) -> None:
        """The trial may have ended in between."""
        order = self.world.judges.pop(index)
        self.world.offer(e.PruneAdvised(self.world.time(), order.trial, order.attempt, order.step))

    @happens(index=INDEX, how=ENDS)
    def end(self, index: int, how: tuple) -> None:
        code, signal, acknowledged, signalled, hint = how
        for key in self._alive(index):
            at = self.world.time()
            said = {"hint": hint} if hint == "oom" else {"action": hint}
            self.world.feed(e.AttemptEnded(at, *key, code, signal, acknowledged, signalled, "boom 17", **said))

    # -- what goes wrong around them

    @happens(missed=st.integers(0, 2))
    def another_controller(self, missed: int) -> None:
        """The last one died; of what it had asked for, some was sampled and not yet written."""
        world = self.world
        sampled = [
            {
                "number": world.number + n,
                "params": preferred or {"lr": 0.2},
                "origin": "sampler" if preferred is None else "enqueued",
            }
            for n, preferred in enumerate(list(world.asks)[:missed])
        ]
        world.feed(controller(world.time(), sampled))

    @happens(trials=LIMIT, timeout=st.sampled_from([None, 5.0, 40.0]), wishes=st.integers(0, 1))
    def another_controller_with_another_file(self, trials: int | None, timeout: float | None, wishes: int) -> None:
        world = self.world
        rules = {"trials": trials, "timeout": timeout}
        world.take_over(e.ConfigChanged(world.time(), {}, {}, rules, [{"lr": 0.4}] * wishes))

    @happens(index=st.integers(0, 999))
    def once_more(self, index: int) -> None:
        """Anything that was said before is said again."""
        event = self.world.log[index % len(self.world.log)]
        if isinstance(event, e.ConfigChanged):
            self.world.take_over(event)
        else:
            self.world.offer(event)

    @happens(trial=st.integers(0, 9), attempt=st.integers(1, 3), kind=st.integers(0, 10))
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
            e.StallSeen(at, trial, attempt, "nothing moved"),
            e.TimedOut(at, trial, attempt, "too long"),
            e.Evicted(at, trial, attempt, "its device has failed"),
            e.RetryDue(at, trial),
            e.RunLinked(at, trial, "run"),
            e.TrialSampled(at, trial, {"lr": 0.7}),
        ][kind]
        known = self.world.sweep.trials.get(trial)
        live = known.attempt if known else None
        if self.world.offer(event) and kind < 8:
            assert live is not None and live.number == attempt

    @happens()
    def wait_for_a_retry(self) -> None:
        for number in list(self.world.sweep.resting)[:1]:
            self.world.feed(e.RetryDue(self.world.time(), number))

    # -- users

    @happens()
    def pause(self) -> None:
        self.world.offer(e.PauseAsked(self.world.time()))

    @happens()
    def resume(self) -> None:
        if self.world.offer(e.ResumeAsked(self.world.time())):
            deadline = self.world.sweep.deadline()
            assert deadline is None or deadline > self.world.now

    @happens()
    def drain(self) -> None:
        self.world.offer(e.DrainAsked(self.world.time()))

    @happens(now=st.booleans())
    def stop(self, now: bool) -> None:
        self.world.offer(e.StopAsked(self.world.time(), None, now))

    @happens(index=INDEX, now=st.booleans())
    def stop_a_trial(self, index: int, now: bool) -> None:
        sweep = self.world.sweep
        numbers = [*sorted(sweep.live), *sweep.ready, *sweep.resting, len(sweep.trials)]
        self.world.offer(e.StopAsked(self.world.time(), numbers[index % len(numbers)], now))

    @happens(trials=LIMIT, slots=st.sampled_from([None, 0, 1, 2]))
    def limit(self, trials: int | None, slots: int | None) -> None:
        self.world.feed(e.LimitsSet(self.world.time(), trials, slots))

    @happens(why=st.sampled_from(["", "the disk is full"]))
    def hold(self, why: str) -> None:
        self.world.offer(e.LaunchesHeld(self.world.time(), why))

    @happens(value=st.integers(0, 2))
    def enqueue(self, value: int) -> None:
        self.world.offer(e.Enqueued(self.world.time(), {"lr": float(value)}))

    @happens()
    def time_up(self) -> None:
        deadline = self.world.sweep.deadline()
        if deadline is not None and self.world.now >= deadline:
            self.world.feed(e.TimeUp(self.world.time()))

    @happens()
    def budget_used_up(self) -> None:
        sweep, now = self.world.sweep, self.world.now
        limit = sweep.rules.slot_hours
        if limit is not None and not sweep.state.ended and sweep.slot_seconds(now) >= limit * 3600:
            self.world.feed(e.TimeUp(self.world.time(), budget=True))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.drive()

    def _alive(self, index: int) -> list[tuple[int, int]]:
        return _one({**self.world.launches, **self.world.running}, index)


def _one(keys: dict[tuple[int, int], str], index: int) -> list[tuple[int, int]]:
    return [list(keys)[index % len(keys)]] if keys else []


def test_whatever_happens() -> None:
    bounds = settings(max_examples=80, stateful_step_count=30, derandomize=True, deadline=None, database=None)
    run_state_machine_as_test(AnySweep, settings=bounds)
