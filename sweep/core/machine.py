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
6.  After each event (but what a trial says, and a changed file) `advance.py` looks at what is possible now.

A trial moves so (attempt's phase in brackets):

    TrialSampled -> WAITING -> Launch -> RUNNING [LAUNCHING -> RUNNING] -> AttemptEnded -> COMPLETE | PRUNED | FAIL
                       ^                                                      |
                       +------------------------- retry ---------------------+

(a copy of a trial that is known goes from WAITING to COMPLETE: again.py)

and a sweep so:

    RUNNING <-> PAUSED;  RUNNING, PAUSED -> DRAINING -> STOPPING;  any of these -> FINISHED | FAILED
    all but STOPPING -> RUNNING, by a resume
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sweep.core import again, trials
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.advance import advance
from sweep.core.model import Sweep, SweepState, TrialState, Verdict
from sweep.core.trials import (
    Effects,
    add_trial,
    deliver,
    end_trial,
    find,
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
        file=event.file,
        overrides=event.overrides,
        queue=deque(event.config.get("enqueue", ())),
        started_by=event.started_by,
    )


def step(sweep: Sweep, event: e.Event) -> Effects:
    """Applies one event, in place. Raises IllegalEvent and changes nothing where the event does not fit."""
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise IllegalEvent(f"{type(event).__name__} cannot happen to an open sweep")
    if sweep.state.ended and type(event) not in _AFTER_END:
        raise IllegalEvent(f"{type(event).__name__} after the sweep {sweep.state.value}")
    orders = handler(sweep, event)
    if type(event) not in _NOTHING_FOLLOWS:
        sweep.at = max(sweep.at, event.at)
        advance(sweep, orders)
    return orders


# ---- what happens to the sweep -------------------------------------------------------------------------------


def _controller_started(sweep: Sweep, event: e.ControllerStarted) -> Effects:
    """The new controller owns no lease and no answer is on its way; time without a controller does not count."""
    if known := [one["number"] for one in event.sampled if one["number"] in sweep.trials]:
        raise IllegalEvent(f"trial {known[0]} exists already")
    if sweep.controller:
        sweep.active += max(0.0, sweep.at - sweep.resumed)
    if sweep.paused is not None:
        sweep.forgiven += max(0.0, sweep.at - sweep.paused)
        sweep.paused = event.at
    sweep.resumed = event.at
    sweep.controller = {
        "pid": event.pid,
        "start_time": event.start_time,
        "boot_id": event.boot_id,
        "host": event.host,
    }
    sweep.hold = ""
    sweep.offers.clear()
    sweep.asking = sweep.preferred = 0
    for one in event.sampled:
        add_trial(sweep, one["number"], one["params"], one["origin"])
    waiting = (
        [trial for trial in sweep.ready if sweep.trials[trial].run_id is None] if sweep.rules.needs_run else []
    )
    orders: Effects = [do.MakeRun(number) for number in waiting]
    orders += [deliver(sweep, sweep.trials[n]) for n in sorted(sweep.live) if verdict_due(sweep.trials[n])]
    return orders


def _config_changed(sweep: Sweep, event: e.ConfigChanged) -> Effects:
    sweep.former.append((event.at, sweep.config))
    sweep.config, sweep.overrides = event.config, event.overrides
    sweep.rules = replace(sweep.rules, **event.rules)
    sweep.queue.extend(event.enqueue)
    again.look_back(sweep)
    return []


def _stop_asked(sweep: Sweep, event: e.StopAsked) -> Effects:
    verdict = Verdict.KILL if event.now else Verdict.STOP
    if event.trial is not None:
        trial = find(sweep, event.trial)
        if trial.state.terminal:
            raise IllegalEvent(f"trial {trial.number} is {trial.state.value} already")
        if trial.attempt is not None:
            return sentence(sweep, trial, verdict, event.why)
        if sweep.resting.pop(trial.number, None) is None:
            sweep.ready.remove(trial.number)
        return end_trial(sweep, trial, TrialState.FAIL, None, event.why)
    sweep.called_off = True
    if sweep.state is not SweepState.STOPPING:
        wind_down(sweep, SweepState.STOPPING, event.why)
    return sentence_all(sweep, verdict, event.why)


def _drain_asked(sweep: Sweep, event: e.DrainAsked) -> Effects:
    if sweep.state is SweepState.STOPPING:
        raise IllegalEvent("the sweep is stopping already")
    sweep.called_off = True
    if sweep.state is not SweepState.DRAINING:
        wind_down(sweep, SweepState.DRAINING, event.why)
    return []


def _pause_asked(sweep: Sweep, event: e.PauseAsked) -> Effects:
    if sweep.state is not SweepState.RUNNING:
        raise IllegalEvent(f"a sweep that is {sweep.state.value} cannot be paused")
    sweep.state = SweepState.PAUSED
    sweep.paused = event.at
    return []


def _resume_asked(sweep: Sweep, event: e.ResumeAsked) -> Effects:
    """Continues from anywhere: a pause, a drain that is called off, an end whose limits have room again."""
    if sweep.state in (SweepState.RUNNING, SweepState.STOPPING):
        raise IllegalEvent(f"a sweep that is {sweep.state.value} cannot be resumed")
    sweep.state = SweepState.RUNNING
    if sweep.paused is not None:
        sweep.forgiven += max(0.0, event.at - sweep.paused)
        sweep.paused = None
    sweep.why = sweep.exhausted = ""
    sweep.failed = sweep.called_off = False
    sweep.copies = 0
    if sweep.first_failures:  # the script may have been mended: they are counted anew
        sweep.first_failures = []
    deadline = sweep.deadline()
    if deadline is not None and event.at >= deadline:
        sweep.forgiven = sweep.active + event.at - sweep.resumed
    return []


def _time_up(sweep: Sweep, event: e.TimeUp) -> Effects:
    rules = sweep.rules
    limit = rules.slot_hours if event.budget else rules.timeout
    if limit is None:
        raise IllegalEvent(f"the sweep has no {'budget' if event.budget else 'timeout'}")
    if sweep.state is SweepState.RUNNING:
        what = "budget of {:g} slot-hours is used up" if event.budget else "timeout of {:g} s has passed"
        wind_down(sweep, SweepState.DRAINING, f"its {what.format(limit)}")
    return []


def _limits_set(sweep: Sweep, event: e.LimitsSet) -> Effects:
    changes: dict[str, Any] = {}
    if event.trials is not None:
        changes["trials"] = event.trials
    if event.slots is not None:
        changes["slots"] = event.slots or None
    if event.priority is not None:
        changes["priority"] = event.priority
    sweep.rules = replace(sweep.rules, **changes)
    return []


def _enqueued(sweep: Sweep, event: e.Enqueued) -> Effects:
    if sweep.room() <= len(sweep.queue) - sweep.preferred:
        raise IllegalEvent(f"the limit of {sweep.rules.trials} trials leaves no room for one more: raise it first")
    sweep.queue.append(event.params)
    return []


def _launches_held(sweep: Sweep, event: e.LaunchesHeld) -> Effects:
    sweep.hold = event.why
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


_HANDLERS: dict[type[e.Event], Callable[[Sweep, Any], Effects]] = {
    **trials.HANDLERS,
    e.ConfigChanged: _config_changed,
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
    e.LaunchesHeld: _launches_held,
    e.Noted: _noted,
}
# What may still be said of a sweep that has ended: that it goes on, and remarks.
_AFTER_END = {
    *(e.ResumeAsked, e.LimitsSet, e.Enqueued, e.Noted, e.RunLinked),
    *(e.ConfigChanged, e.ControllerStarted),
}
# What a trial says makes nothing possible that was not, and carries the trial's own time. A changed file takes
# effect with the controller that follows: until then the state holds what its predecessor had leased.
_NOTHING_FOLLOWS = {e.Reported, e.Checkpointed, e.ConfigChanged}
