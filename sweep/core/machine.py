"""The state machine: `step(sweep, event)` changes the state by one fact and says what to do next.

Rules
1.  An event that does not fit raises IllegalEvent before anything is changed.
2.  A terminal trial never moves again, an ended attempt never speaks again.
3.  A slot is in at most one place: offered (leased and idle), or with one live attempt. It leaves the state when
    its attempt has ended (proof of death) and comes back only by a new offer.
4.  Every configuration asked for ends as a trial; every trial that ends is told, once, by the one Tell in
    `trials.end_trial`. When the sweep ends, a trial that ever started ends with it; one that never did stays
    WAITING, for a resume.
5.  Orders of one event are in a fixed sequence, so that a seeded sweep on one slot samples the same sequence
    whatever the timing: what ended is told before the next is asked for, and the next is asked for when a trial
    is launched, not when its slot is wanted.
6.  After each event (but what a trial says) `_advance` looks at what is possible now: launches, then samples, then
    gives leases back that nobody will need, then ends the sweep. Nothing else does these four.

A trial moves so (attempt's phase in brackets):

    TrialSampled -> WAITING -> Launch -> RUNNING [LAUNCHING -> RUNNING] -> AttemptEnded -> COMPLETE | PRUNED | FAIL
                       ^                                                      |
                       +------------------------- retry ---------------------+

and a sweep so:

    RUNNING <-> PAUSED;  RUNNING, PAUSED -> DRAINING -> STOPPING;  any of these -> FINISHED | FAILED
    all but STOPPING -> RUNNING, by a resume
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sweep.core import events as e
from sweep.core import trials
from sweep.core.model import Attempt, Sweep, SweepState, TrialState, Verdict
from sweep.core.trials import (
    Effects,
    add_trial,
    deliver,
    end_trial,
    find,
    move,
    sentence,
    sentence_all,
    verdict_due,
    wind_down,
)
from sweep.errors import IllegalEvent


def open_sweep(event: e.SweepOpened) -> Sweep:
    """The state after the journal's first record."""
    return Sweep(
        id=event.id,
        rules=event.rules,
        config=event.config,
        opened=event.at,
        at=event.at,
        resumed=event.at,
        queue=deque(event.config.get("enqueue", ())),
    )


def step(sweep: Sweep, event: e.Event) -> Effects:
    """Applies one event, in place. Raises IllegalEvent and changes nothing where the event does not fit."""
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise IllegalEvent(f"{type(event).__name__} cannot happen to an open sweep")
    if sweep.state.ended and type(event) not in _AFTER_END:
        raise IllegalEvent(f"{type(event).__name__} after the sweep {sweep.state.value}")
    orders = handler(sweep, event)
    if type(event) not in _SAID_BY_TRIALS:
        sweep.at = max(sweep.at, event.at)
        _advance(sweep, orders)
    return orders


# ---- what happens to the sweep -------------------------------------------------------------------------------


def _controller_started(sweep: Sweep, event: e.ControllerStarted) -> Effects:
    """The new controller owns no lease and no answer is on its way; time without a controller does not count."""
    if known := [one["number"] for one in event.sampled if one["number"] in sweep.trials]:
        raise IllegalEvent(f"trial {known[0]} exists already")
    if sweep.controller:
        sweep.active += max(0.0, sweep.at - sweep.resumed)
    sweep.resumed = event.at
    sweep.controller = {
        "pid": event.pid,
        "start_time": event.start_time,
        "boot_id": event.boot_id,
        "host": event.host,
    }
    sweep.offers.clear()
    sweep.asking = sweep.preferred = 0
    for one in event.sampled:
        add_trial(sweep, one["number"], one["params"], one["origin"])
    waiting = (
        [trial for trial in sweep.ready if sweep.trials[trial].run_id is None] if sweep.rules.needs_run else []
    )
    orders: Effects = [e.MakeRun(number) for number in waiting]
    orders += [deliver(sweep, sweep.trials[n]) for n in sorted(sweep.live) if verdict_due(sweep.trials[n])]
    return orders


def _stop_asked(sweep: Sweep, event: e.StopAsked) -> Effects:
    verdict = Verdict.KILL if event.now else Verdict.STOP
    if event.trial is not None:
        trial = find(sweep, event.trial)
        if trial.state.terminal:
            raise IllegalEvent(f"trial {trial.number} is {trial.state.value} already")
        if trial.attempt is not None:
            return sentence(sweep, trial, verdict, event.why)
        sweep.ready.remove(trial.number)
        return end_trial(sweep, trial, TrialState.FAIL, None, event.why)
    if sweep.state is not SweepState.STOPPING:
        wind_down(sweep, SweepState.STOPPING, event.why)
    return sentence_all(sweep, verdict, event.why)


def _drain_asked(sweep: Sweep, event: e.DrainAsked) -> Effects:
    if sweep.state is SweepState.STOPPING:
        raise IllegalEvent("the sweep is stopping already")
    if sweep.state is not SweepState.DRAINING:
        wind_down(sweep, SweepState.DRAINING, event.why)
    return []


def _pause_asked(sweep: Sweep, event: e.PauseAsked) -> Effects:
    if sweep.state is not SweepState.RUNNING:
        raise IllegalEvent(f"a sweep that is {sweep.state.value} cannot be paused")
    sweep.state = SweepState.PAUSED
    return []


def _resume_asked(sweep: Sweep, event: e.ResumeAsked) -> Effects:
    """Continues from anywhere: a pause, a drain that is called off, an end whose limits have room again."""
    if sweep.state in (SweepState.RUNNING, SweepState.STOPPING):
        raise IllegalEvent(f"a sweep that is {sweep.state.value} cannot be resumed")
    sweep.state = SweepState.RUNNING
    sweep.why = sweep.exhausted = ""
    sweep.failed = False
    if sweep.first_failures:  # the script may have been mended: they are counted anew
        sweep.first_failures = []
    deadline = sweep.deadline()
    if deadline is not None and event.at >= deadline:
        sweep.forgiven = sweep.active + event.at - sweep.resumed
    return []


def _time_up(sweep: Sweep, event: e.TimeUp) -> Effects:
    if sweep.rules.timeout is None:
        raise IllegalEvent("the sweep has no timeout")
    if sweep.state is SweepState.RUNNING:
        wind_down(sweep, SweepState.DRAINING, f"its timeout of {sweep.rules.timeout:g} s has passed")
    return []


def _limits_set(sweep: Sweep, event: e.LimitsSet) -> Effects:
    changes: dict[str, Any] = {}
    if event.trials is not None:
        changes["trials"] = event.trials
    if event.slots is not None:
        changes["slots"] = event.slots or None
    sweep.rules = replace(sweep.rules, **changes)
    return []


def _enqueued(sweep: Sweep, event: e.Enqueued) -> Effects:
    if sweep.room() <= len(sweep.queue) - sweep.preferred:
        raise IllegalEvent(f"the limit of {sweep.rules.trials} trials leaves no room for one more: raise it first")
    sweep.queue.append(event.params)
    return []


def _noted(sweep: Sweep, event: e.Noted) -> Effects:
    return []


def _slot_offered(sweep: Sweep, event: e.SlotOffered) -> Effects:
    if event.slot in sweep.offers:
        raise IllegalEvent(f"{event.slot} is offered already")
    if event.slot in sweep.held:
        raise IllegalEvent(f"{event.slot} is with trial {sweep.held[event.slot]}")
    sweep.offers[event.slot] = event.device
    return []


def _sampler_exhausted(sweep: Sweep, event: e.SamplerExhausted) -> Effects:
    """A sampler that fails ends the sweep; one that will not take the user's own configuration loses it only."""
    if not sweep.asking:
        raise IllegalEvent("no configuration was asked for")
    sweep.asking -= 1
    if sweep.preferred > sweep.asking:
        sweep.preferred = sweep.asking
        if not event.failed:  # asked for again, it would be refused again, without end
            sweep.queue.popleft()
    sweep.exhausted = event.why
    if event.failed and sweep.state in (SweepState.RUNNING, SweepState.PAUSED):
        wind_down(sweep, SweepState.DRAINING, event.why, failed=True)
    return []


# ---- what follows --------------------------------------------------------------------------------------------


def _advance(sweep: Sweep, orders: Effects) -> None:
    needed = 0
    if sweep.state is SweepState.RUNNING:
        while sweep.offers and sweep.spare() and sweep.in_line() and _runnable(sweep, sweep.ready[0]):
            orders.append(_launch(sweep))
        _ask(sweep, orders)
        needed = min(sweep.in_line() + sweep.asking, sweep.spare())
    while len(sweep.offers) > needed:
        slot, _ = sweep.offers.popitem()
        orders.append(e.Release(slot))
    if not sweep.state.ended and not sweep.live and not sweep.asking and _nothing_left(sweep):
        _finish(sweep, orders)


def _nothing_left(sweep: Sweep) -> bool:
    if sweep.state in (SweepState.DRAINING, SweepState.STOPPING):
        return True
    return not sweep.in_line() and not sweep.unsampled()


def _finish(sweep: Sweep, orders: Effects) -> None:
    for number in [n for n in sweep.ready if sweep.trials[n].attempts]:
        trial = sweep.trials[number]
        sweep.ready.remove(number)
        why = f"{trial.attempts[-1].why}; the sweep ended before another attempt"
        orders += end_trial(sweep, trial, TrialState.FAIL, None, why)
    done = sweep.counts[TrialState.COMPLETE] > 0
    sweep.state = SweepState.FINISHED if done and not sweep.failed else SweepState.FAILED
    sweep.why = sweep.why or ("" if done else _why_none(sweep))
    orders.append(e.Finish())


def _why_none(sweep: Sweep) -> str:
    failed = [t for t in sweep.trials.values() if t.state is TrialState.FAIL]
    if not failed:
        pruned = "every one was pruned" if sweep.counts[TrialState.PRUNED] else "none was started"
        return f"no trial completed: {sweep.exhausted or pruned}"
    return f"no trial completed; the last failure, trial {failed[-1].number}: {failed[-1].why}"


def _runnable(sweep: Sweep, number: int) -> bool:
    return not sweep.rules.needs_run or sweep.trials[number].run_id is not None


def _launch(sweep: Sweep) -> e.Launch:
    """First trial in line, longest-offered slot."""
    trial = sweep.trials[sweep.ready.popleft()]
    slot = next(iter(sweep.offers))
    device = sweep.offers.pop(slot)
    move(sweep, trial, TrialState.RUNNING)
    attempt = Attempt(len(trial.attempts) + 1, slot, device, launched=sweep.at)
    trial.attempts.append(attempt)
    trial.why = ""
    sweep.live.add(trial.number)
    sweep.held[slot] = trial.number
    return e.Launch(trial.number, attempt.number, slot)


def _ask(sweep: Sweep, orders: Effects) -> None:
    """Enough configurations for every leased slot, and some ahead."""
    usable = min(len(sweep.offers), sweep.spare())
    wanted = usable + sweep.ahead() - len(sweep.ready) - sweep.asking
    if wanted <= 0:
        return
    for _ in range(min(wanted, sweep.unsampled())):
        if len(sweep.queue) > sweep.preferred:
            orders.append(e.Prefer(sweep.queue[sweep.preferred]))
            sweep.preferred += 1
        orders.append(e.Ask())
        sweep.asking += 1


_HANDLERS: dict[type[e.Event], Callable[[Sweep, Any], Effects]] = {
    **trials.HANDLERS,
    e.ControllerStarted: _controller_started,
    e.SamplerExhausted: _sampler_exhausted,
    e.SlotOffered: _slot_offered,
    e.StopAsked: _stop_asked,
    e.DrainAsked: _drain_asked,
    e.PauseAsked: _pause_asked,
    e.ResumeAsked: _resume_asked,
    e.TimeUp: _time_up,
    e.LimitsSet: _limits_set,
    e.Enqueued: _enqueued,
    e.Noted: _noted,
}
# What may still be said of a sweep that has ended: that it goes on, and remarks.
_AFTER_END = {e.ResumeAsked, e.LimitsSet, e.Enqueued, e.Noted, e.ControllerStarted, e.RunLinked}
# What a trial says makes nothing possible that was not, and carries the trial's own time.
_SAID_BY_TRIALS = {e.Reported, e.Checkpointed}
