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
from sweep.core.model import Outcome, Sweep, TrialState
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
    reports = 0
    for record in journal.records(directory.journal):
        event = record.event
        if sweep is None:
            assert isinstance(event, e.SweepOpened)
            sweep = open_sweep(event)
            continue
        step(sweep, event)
        if isinstance(event, e.Reported) and event.trial == number:
            reports += 1
        text = _tell(event, sweep, number, reports)
        if text:
            told.append({"at": event.at, "text": text})
    assert sweep is not None
    if number in sweep.trials and (waiting := _waits(sweep, number)):
        told.append({"at": sweep.at, "text": waiting})
    return told, sweep


def _tell(event: e.Event, sweep: Sweep, number: int, reports: int) -> str:
    match event:
        case e.TrialSampled() if event.number == number:
            by = "the user" if event.origin == "enqueued" else "the sampler"
            return f"configured by {by}: {words.parameters(event.params)}"
        case e.ControllerStarted() if number in sweep.live:
            return f"process {event.pid} took the sweep over; the trial ran on"
        case e.AttemptStarted() if event.trial == number:
            return f"attempt {event.attempt} started on {sweep.trials[number].attempts[-1].slot}"
        case e.PruneAdvised() if event.trial == number:
            value = sweep.trials[number].latest.get(sweep.rules.metrics[0])
            shown = "" if value is None else f" ({sweep.rules.metrics[0]} {words.number(value)})"
            return f"the pruner gave it up at step {event.step}{shown}"
        case e.StopAsked() if event.trial in (None, number) and number in sweep.live:
            return f"told to stop: {event.why}"
        case e.LaunchFailed() if event.trial == number:
            return f"attempt {event.attempt} could not be started: {event.cause}"
        case e.AttemptEnded() if event.trial == number:
            return _ended(sweep, number, event.attempt, reports)
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
        return f"{text}; another follows"
    values = ", ".join(words.number(value) for value in trial.values or ())
    return f"{text}; the trial is {trial.state.value}" + (f" with {values}" if values else "")


def _waits(sweep: Sweep, number: int) -> str:
    if sweep.trials[number].state is not TrialState.WAITING:
        return ""
    if sweep.state.ended or sweep.state.value != "RUNNING":
        return f"it waits; the sweep is {sweep.state.value}"
    place = list(sweep.ready).index(number)
    return f"it waits for a free slot, with {words.plural(place, 'trial')} before it"
