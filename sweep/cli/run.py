"""`sweep run` and `sweep resume`: a session in the foreground, watched by a table, plain lines, or nobody."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from sweep import journal, rundir, session
from sweep.cli.changed import change, has_changed, interrupted, name_of
from sweep.cli.control import failed_again, order
from sweep.cli.detached import start
from sweep.cli.document import sweep_document
from sweep.cli.keys import Keys, has_keys
from sweep.cli.live import LiveTable, can_draw
from sweep.cli.plain import PlainLines
from sweep.cli.rounds import begun
from sweep.cli.summary import print_summary
from sweep.config.load import load
from sweep.config.preflight import preflight, shadows
from sweep.config.reading import assignments
from sweep.core.codec import to_json
from sweep.core.events import ConfigChanged, Event, LimitsSet, ResumeAsked
from sweep.core.machine import step
from sweep.core.model import SweepState
from sweep.errors import ConfigError, UsageError
from sweep.job import job
from sweep.notify import tell
from sweep.ports import View
from sweep.rundir import SweepDir
from sweep.session import Session
from sweep.tracking.lag import lag_of
from sweep.tracking.process import Spare

CATCH_UP = 60.0  # seconds that the end of a sweep waits for MLflow


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
    screen = _Screen(plain=plain, as_json=as_json)
    if not new and not started_by and (found := interrupted(space, project)):
        told, directory = found
        sweep = told.sweep
        changed = change(sweep, directory, space, overrides)
        screen.say(f"{sweep.id} was interrupted and goes on (`sweep run --new {space}` begins another)")
        return _go_on(told, directory, screen, changed, spare, detach=detach)
    config, warnings = load(space, overrides)
    if problems := preflight(config, project):
        raise ConfigError("\n".join(problems), where=str(space))
    what = begun(config, space, project, started_by)
    session.check(what.config, str(space))
    for line in (*(f"warning: {warning}" for warning in (*warnings, *shadows(config, project))), *what.notes):
        screen.say(line)
    if detach:
        task = {"space": str(space), "overrides": dict(overrides), "started_by": dict(started_by)}
        return _detach(task, as_json)
    origin = (name_of(space, project), overrides, started_by, spare)
    return screen.drive(session.begin(what.config, what.text, project, os.environ, screen.view, *origin))


def submit_job(name: str | None, devices: str, command: Sequence[str], *, as_json: bool) -> int:
    """One command in the background, on the next free device; returns the exit code. Raises SweepError."""
    config = job(command, {**({"name": name} if name else {}), **_job_devices(devices)})
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
    spare: Spare | None,
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
    screen = _Screen(plain=plain, as_json=as_json)
    changed = None
    if not frozen and (space := has_changed(sweep, directory)):
        if rundir.locked(directory.controller_lock):
            screen.say(f"{space} was changed, which {sweep.id} does not take over while it runs; see `sweep set`")
        else:
            changed = change(sweep, directory, space, {})
    return _go_on(told, directory, screen, changed, spare, trials=trials, failed=failed, detach=detach)


def _go_on(
    told: journal.Replay,
    directory: SweepDir,
    screen: _Screen,
    changed: ConfigChanged | None,
    spare: Spare | None,
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
    if events and rundir.locked(directory.controller_lock):
        for event in events:
            order(directory, event)
        print(f"{sweep.id} goes on")
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


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: the sweep goes on all the same."""
        with suppress(SystemExit):
            super().on_broken_pipe()


class _Screen:
    """Where a person or a program sees the sweep: the table on a terminal, else lines (on stderr for --json)."""

    def __init__(self, *, plain: bool, as_json: bool) -> None:
        self.as_json = as_json
        self._console = _Console(stderr=as_json)
        self._table: LiveTable | None = None
        if not plain and not as_json and can_draw(self._console):
            self._table = LiveTable(self._console, Path.cwd(), detach=has_keys())
        self.view: View = self._table or PlainLines(sys.stderr if as_json else sys.stdout)

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(text, file=sys.stderr)

    def drive(self, session: Session) -> int:
        if not self.as_json:
            for line in (f"{session.sweep.id}  in {session.directory.path}", session.pool.said):
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        detached = False

        def pressed(key: str) -> None:
            nonlocal detached
            if key == "d":
                detached = True
                session.controller.leave()

        try:
            with self._table or nullcontext(), Keys(pressed) if self._table and has_keys() else nullcontext():
                code = session.run()
        finally:
            session.close()
        tell(session.sweep, session.directory, sweep_document, os.environ, self.say)
        if detached and not session.sweep.state.ended:
            return self._hand_over(session)
        if session.sweep.state.ended:
            self._wait_for_mlflow(session)
        if self.as_json:
            with suppress(BrokenPipeError):
                print(json.dumps(sweep_document(session.sweep, session.directory, controller_alive=False)))
        elif session.sweep.state.ended:
            print_summary(self._console, session.sweep, session.directory)
        else:
            self.say(f"left: its trials train on; `sweep resume {session.sweep.id}` takes them over")
        return code

    def _hand_over(self, session: Session) -> int:
        """Another controller, without a terminal, adopts what this one has left."""
        said = start({"directory": str(session.directory.path), "events": []})
        self.say(f"{said['id']} goes on in the background; `sweep attach {said['id']}` shows it")
        return 0

    def _wait_for_mlflow(self, session: Session) -> None:
        """Gives the follower time to catch up, unless the store is in trouble or the user impatient."""
        follower = session.follower
        if follower is None or follower.wait(0.5):
            return
        until = time.monotonic() + CATCH_UP
        said = "MLflow is catching up (Ctrl-C leaves it to go on behind)"
        quiet = self._console.status(said) if self._table else nullcontext()
        try:
            with quiet:
                while time.monotonic() < until and not follower.wait(0.2):
                    lag = lag_of(session.directory)
                    if lag is not None and lag.outage:
                        return
        except KeyboardInterrupt:
            pass
