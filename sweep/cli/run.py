"""`sweep run` and `sweep resume`: a session in the foreground, watched by a table, plain lines, or nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep import journal, rundir, session
from sweep.cli.changed import change, has_changed, interrupted, name_of
from sweep.cli.control import failed_again, order, say
from sweep.cli.detached import start
from sweep.cli.rounds import begun
from sweep.cli.screen import Screen
from sweep.config.load import load_document
from sweep.config.preflight import preflight, require
from sweep.config.reading import assignments
from sweep.core.codec import to_json
from sweep.core.events import ConfigChanged, Event, LimitsSet, ResumeAsked
from sweep.core.machine import step
from sweep.core.model import SweepState
from sweep.errors import UsageError
from sweep.job import job
from sweep.prepare import doubts
from sweep.rundir import SweepDir
from sweep.tracking.process import Spare


def run_file(
    space: Path,
    overrides: Mapping[str, Any],
    started_by: Mapping[str, Any],
    spare: Spare | None,
    *,
    new: bool,
    detach: bool,
    plain: bool,
    as_json: bool,
) -> int:
    """Runs a file to its end, or in the background; returns the exit code. Raises SweepError.

    Its newest sweep is taken up again where that was interrupted, unless a new one is wanted, or due in a chain.
    spare: a follower that was started ahead, unless it is for the background.
    """
    project = Path.cwd()
    screen = Screen(plain=plain, as_json=as_json)
    if not new and not started_by and (found := interrupted(space, project)):
        told, directory = found
        sweep = told.sweep
        changed = change(sweep, directory, space, overrides)
        screen.say(f"{sweep.id} was interrupted and goes on (`sweep run --new {space}` begins another)")
        return _go_on(told, directory, screen, changed, spare, detach=detach)
    config, document = load_document(space, overrides)
    require(config, document, project)
    what = begun(config, space, project, started_by)
    session.check(what.config, document.at)
    for warning in doubts(config, document, project):
        screen.say(f"warning: {warning}")
    for line in what.notes:
        screen.say(line)
    if detach:
        task = {"space": str(space), "overrides": dict(overrides), "started_by": dict(started_by)}
        return _detach(task, as_json)
    origin = (name_of(space, project), overrides, started_by, spare)
    return screen.drive(session.begin(what.config, what.text, project, os.environ, screen.view, *origin))


def submit_job(
    command: Sequence[str], devices: str, settings: Mapping[str, Any], priority: int, *, as_json: bool
) -> int:
    """One command in the background, on the next free device; returns the exit code. Raises SweepError."""
    config = job(command, {**_job_devices(devices), "priority": priority, **settings})
    if problems := preflight(config, Path.cwd()):
        raise UsageError("\n".join(problems))
    return _detach({"config": config.model_dump(mode="json")}, as_json)


def _job_devices(devices: str) -> dict[str, Any]:
    if not devices.isdecimal():
        return {"devices": assignments([f"devices={devices}"])["devices"]}
    if int(devices) == 0:
        raise UsageError("--devices 0: at least one", hint="GPU 0 is `--devices '[0]'`")
    return {"devices_per_trial": int(devices)}


def resume_sweep(
    wanted: str | None,
    *,
    trials: int | None,
    failed: bool,
    frozen: bool,
    detach: bool,
    plain: bool,
    as_json: bool,
) -> int:
    """Takes a sweep over and runs it to its end; returns the exit code. Raises SweepError.

    One that is driven by somebody is told to go on, if it was paused or is to have new limits. frozen: with its
    file as it was, whatever has become of it.
    """
    directory = rundir.find(Path.cwd(), wanted)
    told = journal.Replay(directory.journal)
    sweep = told.sweep
    screen = Screen(plain=plain, as_json=as_json)
    changed = None
    if not frozen and (space := has_changed(sweep, directory)):
        if rundir.locked(directory.controller_lock):
            screen.say(f"{space} was changed, which {sweep.id} does not take over while it runs; see `sweep set`")
        else:
            changed = change(sweep, directory, space, {})
    return _go_on(told, directory, screen, changed, trials=trials, failed=failed, detach=detach)


def _go_on(
    told: journal.Replay,
    directory: SweepDir,
    screen: Screen,
    changed: ConfigChanged | None,
    spare: Spare | None = None,
    *,
    trials: int | None = None,
    failed: bool = False,
    detach: bool,
) -> int:
    sweep = told.sweep
    events: list[Event] = []
    if changed is not None:
        events.append(changed)
        step(sweep, changed)  # its limits are looked at below; what is resumed must not have it yet
        for line in changed.told:
            screen.say(line)
    if failed:
        events += failed_again(sweep)
    if trials is not None:
        events.append(LimitsSet(0.0, trials=trials))
    has_more = events or sweep.in_line() or sweep.room()
    if sweep.state in (SweepState.PAUSED, SweepState.DRAINING) or (sweep.state.ended and has_more):
        events.append(ResumeAsked(0.0))
    elif sweep.state.ended and sweep.rules.metrics:
        screen.say(f"it has ended; `sweep resume {sweep.id} --trials {len(sweep.trials) + 20}` would extend it")
    if events and rundir.locked(directory.controller_lock):
        for event in events:
            order(directory, event)
        say(directory, screen.as_json, "goes on")
        return 0
    if detach:
        task = {"directory": str(directory.path), "events": [to_json(event) for event in events]}
        return _detach(task, screen.as_json)
    return screen.drive(
        session.resume(directory, os.environ, screen.view, events, None if changed else told, spare)
    )


def _detach(task: dict[str, Any], as_json: bool) -> int:
    said = start(task)
    print(json.dumps(said) if as_json else f"{said['id']}  in {said['directory']}")
    return 0
