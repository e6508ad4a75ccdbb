"""A world for the core: it keeps the orders of a sweep until somebody answers them, and checks what must hold.

`World.feed` plays one event and fails where an order or the state after it breaks a rule; `check` recounts the
state from scratch. Nothing here knows how the machine works inside.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from dataclasses import fields
from typing import Any

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.codec import from_json, rows, state_from_rows, to_json
from sweep.core.machine import open_sweep, step
from sweep.core.model import Attempt, Outcome, Phase, Rules, Sweep, SweepState, Trial, TrialState, Verdict
from sweep.core.policy import better
from sweep.errors import IllegalEvent

PLENTY = 100  # more slots or configurations than any test wants
FAILURES = {Outcome.CRASHED, Outcome.LOST, Outcome.OOM, Outcome.TIMED_OUT, Outcome.STOPPED}


def opened(enqueue: tuple[dict[str, Any], ...] = (), **rules: Any) -> e.SweepOpened:
    rules = {"metrics": ("acc",), "directions": ("maximize",), "trials": 5, "fail_fast": 0, **rules}
    return e.SweepOpened(0.0, "digits-1", Rules(**rules), {"enqueue": list(enqueue)})


def controller(at: float, sampled: list[dict[str, Any]] | None = None) -> e.ControllerStarted:
    return e.ControllerStarted(at, 100, 7, "boot", "host", "0.1.0", sampled or [])


def picture(sweep: Sweep) -> str:
    """Two states are the same exactly where their pictures are (NaN is like NaN, and a set has no order)."""
    values = [getattr(sweep, f.name) for f in fields(sweep)]
    return repr([sorted(value) if isinstance(value, set) else value for value in values])


def through_json(event: e.Event) -> e.Event:
    return from_json(json.loads(json.dumps(to_json(event), allow_nan=False)))


class World:
    """A sweep and its twin that only reads what was written, with every order that waits for its answer."""

    def __init__(self, opening: e.SweepOpened, slots: int = 3) -> None:
        self.sweep = open_sweep(opening)
        self.twin = open_sweep(through_json(opening))  # type: ignore[arg-type]
        self.log: list[e.Event] = [opening]
        self.slots = [f"s{n}" for n in range(slots)]
        self.number = 0  # the study's next
        self.now = 0.0
        self.asks: deque[dict[str, Any] | None] = deque()  # with what was preferred for each
        self.queue = list(opening.config["enqueue"])  # the user's own, not yet sampled
        self.leased: set[str] = set()
        self.runs: list[int] = []
        self.launches: dict[tuple[int, int], str] = {}
        self.running: dict[tuple[int, int], str] = {}
        self.judges: list[do.Judge] = []
        self.judged: dict[int, int] = {}
        self.delivered: dict[tuple[int, int], Verdict] = {}
        self.told: dict[int, do.Tell] = {}
        self.final: dict[int, str] = {}
        self.orders: list[do.Effect] = []
        self.newest: list[do.Effect] = []  # those of the newest event
        self._preferred: dict[str, Any] | None = None

    def free(self) -> list[str]:
        taken = {*self.leased, *self.launches.values(), *self.running.values()}
        return [slot for slot in self.slots if slot not in taken]

    def time(self) -> float:
        self.now += 1.0
        return self.now

    def feed(self, event: e.Event) -> list[do.Effect]:
        """Raises IllegalEvent, after a look that nothing has changed."""
        sweep = self.sweep
        before, ended = picture(sweep), sweep.state.ended
        try:
            orders = step(sweep, event)
        except IllegalEvent:
            assert picture(sweep) == before, f"{event} was refused, but changed the state"
            raise
        self._heard(event)
        for order in orders:
            self._carry_out(order, event)
        self.orders += orders
        self.newest = orders
        self.log.append(event)
        finishes = sum(isinstance(order, do.Finish) for order in orders)
        assert finishes == (sweep.state.ended and (not ended or isinstance(event, e.ResumeAsked)))
        if len(self.log) % 3 == 0:
            self.twin = state_from_rows(json.loads(json.dumps(self.twin, default=rows)))  # as a snapshot has it
        assert step(self.twin, through_json(event)) == orders or "nan" in repr(orders)
        assert picture(self.twin) == picture(sweep)
        if not isinstance(event, e.ConfigChanged):  # which takes effect with the controller that follows
            self._look()
        return orders

    def take_over(self, changed: e.ConfigChanged) -> list[do.Effect]:
        """Another controller, with a changed file."""
        assert self.feed(changed) == []
        return self.feed(controller(self.time()))

    def offer(self, event: e.Event) -> bool:
        """Plays an event that may be out of place."""
        try:
            self.feed(event)
        except IllegalEvent:
            return False
        return True

    # -- what an event means for those outside

    def _heard(self, event: e.Event) -> None:
        if isinstance(event, (e.TrialSampled, e.SamplerExhausted)):
            self.asks.popleft()
            if isinstance(event, e.TrialSampled):
                self.number = max(self.number, event.number + 1)
                del self.queue[: event.origin == "enqueued"]
            else:
                self.queue = list(self.sweep.queue)  # one that it did not take may be gone
        elif isinstance(event, e.Enqueued):
            self.queue.append(event.params)
        elif isinstance(event, e.ConfigChanged):
            self.queue += event.enqueue
        elif isinstance(event, e.SlotOffered):
            assert event.slot in self.free() or event.slot not in self.slots
            self.leased.add(event.slot)
        elif isinstance(event, e.AttemptStarted):
            self.running[event.trial, event.attempt] = self.launches.pop((event.trial, event.attempt))
        elif isinstance(event, (e.AttemptEnded, e.LaunchFailed)):
            where = self.launches if (event.trial, event.attempt) in self.launches else self.running
            del where[event.trial, event.attempt]
        elif isinstance(event, e.RunLinked) and event.trial in self.runs:
            self.runs.remove(event.trial)
        elif isinstance(event, e.ControllerStarted):
            self.asks.clear()
            self.leased.clear()
            self.runs.clear()
            self.judges.clear()
            self.delivered.clear()
            self._preferred = None
            del self.queue[: sum(one["origin"] == "enqueued" for one in event.sampled)]
            self.number = max([self.number, *(one["number"] + 1 for one in event.sampled)])

    def _carry_out(self, order: do.Effect, cause: e.Event) -> None:
        sweep = self.sweep
        if isinstance(order, do.Prefer):
            assert self._preferred is None, "two preferences for one order to sample"
            self._preferred = order.params
        elif isinstance(order, do.Ask):
            self.asks.append(self._preferred)
            self._preferred = None
            assert sweep.rules.trials is None or len(sweep.trials) + len(self.asks) <= sweep.rules.trials
        elif isinstance(order, do.Launch):
            self.leased.remove(order.slot)  # KeyError: launched on a slot that nobody offered
            self.launches[order.trial, order.attempt] = order.slot
            assert sweep.rules.slots is None or len(self.launches) + len(self.running) <= sweep.rules.slots
            assert not sweep.rules.needs_run or sweep.trials[order.trial].run_id
        elif isinstance(order, do.Release):
            self.leased.remove(order.slot)
        elif isinstance(order, do.MakeRun):
            assert sweep.rules.needs_run
            if order.trial not in self.runs:
                self.runs.append(order.trial)
        elif isinstance(order, do.Judge):
            assert sweep.rules.single
            assert order.step > self.judged.get(order.trial, -math.inf), "Optuna takes one value a step"
            self.judged[order.trial] = order.step
            self.judges.append(order)
        elif isinstance(order, do.Deliver):
            key = (order.trial, order.attempt)
            assert key in self.running, "a verdict for a process that is not there"
            known = self.delivered.get(key)
            assert known is None or order.verdict.strength > known.strength
            assert bool(order.grace) == (sweep.rules.heeds and order.verdict not in (Verdict.KILL, Verdict.STALL))
            self.delivered[key] = order.verdict
        elif isinstance(order, do.Discard):
            kept = [c.directory for trial in sweep.trials.values() for c in trial.checkpoints]
            assert order.directory not in kept
        elif isinstance(order, do.Tell):
            self._tell(order, cause)

    def _tell(self, order: do.Tell, cause: e.Event) -> None:
        trial = self.sweep.trials[order.trial]
        assert order.trial not in self.told, "told twice"
        assert order.state.terminal and order.state is trial.state and order.values == trial.values
        assert (order.values is not None) == (order.state is TrialState.COMPLETE)
        if order.state is TrialState.COMPLETE and not trial.attempts:
            assert order.outcome is None and self.sweep.rules.duplicates == "skip" and trial.origin == "sampler"
        elif order.state is TrialState.COMPLETE:
            assert isinstance(cause, e.AttemptEnded) and cause.code == 0 and order.outcome is Outcome.COMPLETED
        if order.outcome is Outcome.STALLED and order.state is TrialState.PRUNED:
            assert self.sweep.rules.stall_action == "prune" and trial.best
        if order.outcome in FAILURES:  # neither a crash nor a lost host is evidence
            assert order.state is TrialState.FAIL
        self.told[order.trial] = order
        self.final[order.trial] = _unmoving(trial)

    def _look(self) -> None:
        sweep = self.sweep
        check(sweep)
        assert sweep.asking == len(self.asks)
        # of a preference that came to nothing it knows when the orders beside it are answered, not before
        assert sweep.preferred >= sum(preferred is not None for preferred in self.asks)
        assert list(sweep.queue) == self.queue
        assert set(sweep.offers) == self.leased
        assert sweep.held == {slot: key[0] for key, slot in [*self.launches.items(), *self.running.items()]}
        assert set(self.told) == {n for n, trial in sweep.trials.items() if trial.state.terminal}
        for key in self.running:
            assert self.delivered.get(key) is sweep.trials[key[0]].attempts[-1].verdict
        for number, unmoving in self.final.items():
            assert _unmoving(sweep.trials[number]) == unmoving, "a terminal trial moved"

    # -- edges that do their work

    def sample(self) -> None:
        preferred = self.asks[0]
        params = {"lr": 0.1} if preferred is None else preferred
        origin = "sampler" if preferred is None else "enqueued"
        self.feed(e.TrialSampled(self.time(), self.number, params, origin))

    def start(self, key: tuple[int, int]) -> None:
        self.feed(e.AttemptStarted(self.time(), *key, 1000 + key[0], 7, "boot"))

    def complete(self, key: tuple[int, int], value: float = 0.5) -> None:
        """Reports and ends well, or heeds its verdict."""
        verdict = self.sweep.trials[key[0]].attempts[-1].verdict
        self.feed(e.Reported(self.time(), *key, 1, dict.fromkeys(self.sweep.rules.metrics, value)))
        heeds = None if verdict is None else "prune" if verdict is Verdict.PRUNE else "stop"
        self.feed(e.AttemptEnded(self.time(), *key, code=0, acknowledged=heeds))

    def round(self) -> None:
        """Every edge answers what it was asked, once."""
        for _ in range(len(self.asks)):
            self.sample()
        for number in list(self.runs):
            self.feed(e.RunLinked(self.time(), number, f"run{number}"))
        while self.sweep.demand() and self.free():
            self.feed(e.SlotOffered(self.time(), self.free()[0], "cpu"))
        for number in list(self.sweep.resting):
            self.feed(e.RetryDue(self.time(), number))
        for key in list(self.launches):
            self.start(key)
        for key in list(self.running):
            self.complete(key)

    def drive(self) -> None:
        """To the end, with edges that work; an unlimited sweep is drained, one that is paused or held goes on."""
        for turn in range(PLENTY):
            if self.sweep.state.ended:
                break
            if self.sweep.state is SweepState.PAUSED and not (self.asks or self.launches or self.running):
                self.feed(e.ResumeAsked(self.time()))
            if self.sweep.hold:
                self.feed(e.LaunchesHeld(self.time(), ""))
            if turn > 10 and self.sweep.state is SweepState.RUNNING and self.sweep.rules.trials is None:
                self.feed(e.DrainAsked(self.time()))
            self.round()
        assert self.sweep.state.ended, "the sweep does not end"


def _unmoving(trial: Trial) -> str:
    return repr([getattr(trial, f.name) for f in fields(trial) if f.name != "run_id"])


# ---- the state, recounted ------------------------------------------------------------------------------------


def check(sweep: Sweep) -> None:
    """Fails where an index does not say what the trials say, or where the state contradicts itself."""
    trials = sweep.trials
    live = {n: t.attempt for n, t in trials.items() if t.attempt is not None}
    assert sweep.counts == {state: Counter(t.state for t in trials.values())[state] for state in TrialState}
    assert sweep.live == set(live)
    assert sweep.held == {attempt.slot: n for n, attempt in live.items()} and len(sweep.held) == len(live)
    assert not set(sweep.held) & set(sweep.offers), "a slot in two places"
    waiting = [n for n in sorted(trials) if trials[n].state is TrialState.WAITING]
    assert sorted([*sweep.ready, *sweep.resting]) == waiting
    assert all(trials[n].attempts for n in sweep.resting)
    retries = [bool(trials[n].attempts) for n in sweep.ready]
    assert retries == sorted(retries, reverse=True), "a retry is not first in line"
    assert 0 <= sweep.preferred <= min(sweep.asking, len(sweep.queue))
    for number, trial in trials.items():
        assert trial.number == number
        _check_trial(trial, sweep.rules)
        if trial.state is TrialState.COMPLETE and not trial.attempts:
            original = trials[int(trial.why.removeprefix("same as trial "))]
            assert original.attempts and (original.params, original.values) == (trial.params, trial.values)
    _check_best(sweep)
    _check_progress(sweep)


def _check_trial(trial: Trial, rules: Rules) -> None:
    assert [a.number for a in trial.attempts] == list(range(1, len(trial.attempts) + 1))
    for attempt in trial.attempts[:-1]:
        assert attempt.phase is Phase.ENDED
    for attempt in trial.attempts:
        _check_attempt(attempt)
    assert (trial.state is TrialState.RUNNING) == (trial.attempt is not None)
    assert (trial.values is not None) == (trial.state is TrialState.COMPLETE)
    if trial.values is not None:
        assert len(trial.values) == len(rules.metrics) and not any(math.isnan(v) for v in trial.values)
        assert trial.outcome is (Outcome.COMPLETED if trial.attempts else None)
    if trial.state in (TrialState.FAIL, TrialState.PRUNED):
        assert trial.why, "nobody says why"
    own = [a for a in trial.attempts if a.outcome is not Outcome.LOST or a.verdict is not Verdict.MOVE]
    own = [a for a in own if not a.crowded]
    lost = sum(a.outcome is Outcome.LOST for a in own)
    assert lost <= 3 and len(own) - lost <= 1 + max([1, *rules.retries.values()])


def _check_attempt(attempt: Attempt) -> None:
    ended = attempt.phase is Phase.ENDED
    assert (attempt.outcome is not None) == ended == (attempt.ended is not None)
    assert (attempt.pid is None) == (attempt.started is None)
    if not ended:
        assert (attempt.phase is Phase.RUNNING) == (attempt.pid is not None)


def _check_best(sweep: Sweep) -> None:
    complete = [t for t in sweep.trials.values() if t.state is TrialState.COMPLETE]
    if not complete or not sweep.rules.single:
        assert sweep.best is None
        return
    assert sweep.best is not None
    values = sweep.trials[sweep.best].values
    assert values is not None
    for trial in complete:
        assert trial.values is not None
        assert not better(sweep.rules.directions[0], trial.values[0], values[0])


def _check_progress(sweep: Sweep) -> None:
    """What is possible has been ordered, what is not needed is not held, and an end comes when it is due."""
    demand, held_back = sweep.demand(), len(sweep.ready) - sweep.in_line()
    assert demand >= 0 and held_back >= 0
    launches = sweep.state is SweepState.RUNNING and not sweep.hold
    if not launches:
        assert not sweep.offers and not demand
    if sweep.state.ended:
        assert not sweep.live and not sweep.asking and not sweep.resting
        assert not any(sweep.trials[n].attempts for n in sweep.ready), "a trial that has begun did not end"
        return
    if sweep.state in (SweepState.DRAINING, SweepState.STOPPING):
        assert sweep.live or sweep.asking, "it has nothing to wait for and does not end"
        return
    assert sweep.live or sweep.asking or sweep.in_line() or sweep.resting or sweep.unsampled()
    if launches:
        assert len(sweep.offers) <= min(sweep.in_line() + sweep.asking, sweep.spare())
        if sweep.offers and sweep.in_line():
            assert sweep.rules.needs_run and sweep.trials[sweep.ready[0]].run_id is None
        if sweep.unsampled():
            assert len(sweep.ready) + sweep.asking >= sweep.rules.ahead + len(sweep.offers)
        if not sweep.offers and sweep.in_line() and sweep.spare():
            assert demand, "a trial waits for a slot that nobody looks for"
