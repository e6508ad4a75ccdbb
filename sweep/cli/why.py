"""`sweep why`: what happened to a trial, from the journal, in words."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from sweep import journal, rundir
from sweep.cli import words
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Outcome, Sweep, Trial, TrialState
from sweep.errors import NotFoundError
from sweep.rundir import SweepDir


def why(wanted: str | None, trial: int, *, as_json: bool) -> None:
    """Prints the history of one trial. Raises NotFoundError."""
    directory = rundir.find(Path.cwd(), wanted)
    told, sweep = history(directory, trial)
    if trial not in sweep.trials:
        raise NotFoundError(f"{sweep.id} has no trial {trial}", hint=f"`sweep status {sweep.id}` lists them")
    if as_json:
        print(json.dumps({"id": sweep.id, "trial": trial, "events": told}))
        return
    for one in told:
        print(f"{datetime.fromtimestamp(one['at']):%H:%M:%S}  {one['text']}")


def history(directory: SweepDir, number: int) -> tuple[list[dict[str, Any]], Sweep]:
    """The trial's events in words, each with its time, and the sweep as it is now."""
    sweep: Sweep | None = None
    told: list[dict[str, Any]] = []
    reports, unrun = 0, ""
    for record in journal.records(directory.journal):
        event = record.event
        if sweep is None:
            assert isinstance(event, e.SweepOpened)
            sweep = open_sweep(event)
            continue
        step(sweep, event)
        if isinstance(event, e.AttemptStarted) and event.trial == number:
            reports = 0
        if isinstance(event, e.Reported) and event.trial == number:
            reports += 1
        text = _tell(event, sweep, directory, number, reports)
        if text:
            told.append({"at": event.at, "text": text})
        if not unrun and (unrun := _unrun(sweep, number)):
            told.append({"at": event.at, "text": unrun})
    assert sweep is not None
    if number in sweep.trials and (waiting := _waits(sweep, number)):
        told.append({"at": sweep.at, "text": waiting})
    return told, sweep


def _tell(event: e.Event, sweep: Sweep, directory: SweepDir, number: int, reports: int) -> str:
    match event:
        case e.TrialSampled() if event.number == number:
            by = "the user" if event.origin == "enqueued" else "the sampler"
            return f"configured by {by}: {words.parameters(event.params)}" if event.params else "taken in"
        case e.ControllerStarted() if number in sweep.live:
            return f"process {event.pid} took the sweep over; the trial ran on"
        case e.AttemptStarted() if event.trial == number:
            return f"attempt {event.attempt} started on {sweep.trials[number].attempts[-1].slot}"
        case e.PruneAdvised() if event.trial == number:
            value = sweep.trials[number].latest.get(sweep.rules.metrics[0])
            shown = "" if value is None else f" ({sweep.rules.metrics[0]} {words.number(value)})"
            return f"the pruner gave it up at step {event.step}{shown}"
        case e.StallSeen() if event.trial == number:
            kept = f"; what it did then: {directory.path / event.evidence}" if event.evidence else ""
            return f"taken to hang{kept}"
        case e.TimedOut() if event.trial == number:
            return f"told to end: {event.why}"
        case e.Evicted() if event.trial == number:
            return f"told to leave its device: {words.clean(event.why)}"
        case e.StopAsked() if event.trial in (None, number) and number in sweep.live:
            return f"told to stop: {event.why}"
        case e.LaunchFailed() if event.trial == number:
            return f"attempt {event.attempt} could not be started: {event.cause}"
        case e.AttemptEnded() if event.trial == number:
            return _ended(sweep, number, event.attempt, reports)
        case e.CheckpointDropped() if event.trial == number:
            return f"its checkpoint {event.directory} was removed: {event.why}"
        case e.Noted() if event.trial == number:
            return event.text
    return ""


def _ended(sweep: Sweep, number: int, attempt: int, reports: int) -> str:
    trial = sweep.trials[number]
    one = trial.attempts[attempt - 1]
    outcome = (one.outcome or Outcome.LOST).value
    why = f": {words.clean(one.why)}" if one.why else ""
    text = f"attempt {attempt} ended {outcome} after {words.plural(reports, 'report')}{why}"
    if trial.state is TrialState.WAITING:
        return f"{text}; another follows{' on a device of its own' if one.crowded else ''}"
    return f"{text}; {_result(trial)}"


def _result(trial: Trial) -> str:
    values = ", ".join(words.number(value) for value in trial.values or ())
    return f"the trial is {trial.state.value}" + (f" with {values}" if values else "")


def _unrun(sweep: Sweep, number: int) -> str:
    """How it ended, if it did without an attempt."""
    trial = sweep.trials.get(number)
    if trial is None or trial.attempts or not trial.state.terminal:
        return ""
    return f"not run: {words.clean(trial.why)}; {_result(trial)}"


def _waits(sweep: Sweep, number: int) -> str:
    if sweep.trials[number].state is not TrialState.WAITING:
        return ""
    if sweep.state.ended or sweep.state.value != "RUNNING":
        return f"it waits; the sweep is {sweep.state.value}"
    if sweep.hold:
        return f"it waits; {sweep.hold}"
    if number in sweep.resting:
        return f"it waits for its next attempt, due at {datetime.fromtimestamp(sweep.resting[number]):%H:%M:%S}"
    place = list(sweep.ready).index(number)
    return f"it waits for a free slot, with {words.plural(place, 'trial')} before it"
