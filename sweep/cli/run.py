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
from sweep.cli.control import failed_again, order
from sweep.cli.detached import start
from sweep.cli.document import sweep_document
from sweep.cli.keys import Keys, has_keys
from sweep.cli.live import LiveTable, can_draw
from sweep.cli.plain import PlainLines
from sweep.cli.summary import print_summary
from sweep.config.load import load
from sweep.config.preflight import preflight
from sweep.config.reading import assignments
from sweep.core.events import LimitsSet, ResumeAsked, to_json
from sweep.core.model import SweepState
from sweep.errors import ConfigError, UsageError
from sweep.job import job
from sweep.ports import View
from sweep.session import Session

CATCH_UP = 60.0  # seconds that the end of a sweep waits for MLflow


def run_file(space: Path, overrides: Mapping[str, Any], *, detach: bool, plain: bool, as_json: bool) -> int:
    """Runs a file to its end, or in the background; returns the exit code. Raises SweepError."""
    project = Path.cwd()
    config, warnings = load(space, overrides)
    if problems := preflight(config, project):
        raise ConfigError("\n".join(problems), where=str(space))
    session.check(config, str(space))
    screen = _Screen(plain=plain, as_json=as_json)
    for warning in warnings:
        screen.say(f"warning: {warning}")
    if detach:
        return _detach({"space": str(space), "overrides": dict(overrides)}, as_json)
    return screen.drive(session.begin(config, space.read_bytes(), project, os.environ, screen.view))


def submit_job(name: str | None, devices: str, command: Sequence[str], *, as_json: bool) -> int:
    """One command in the background, on the next free device; returns the exit code. Raises SweepError."""
    config = job(command, {**({"name": name} if name else {}), **_job_devices(devices)})
    if problems := preflight(config, Path.cwd()):
        raise UsageError("\n".join(problems))
    return _detach({"config": config.model_dump(mode="json")}, as_json)


def _job_devices(devices: str) -> dict[str, Any]:
    if not devices.isdecimal():
        return {"devices": assignments([f"devices={devices}"])["devices"]}
    if devices != "1":
        raise UsageError(f"--devices {devices}: more than one device a job is not in this version yet")
    return {}


def resume_sweep(
    wanted: str | None, *, trials: int | None, failed: bool, detach: bool, plain: bool, as_json: bool
) -> int:
    """Takes a sweep over and runs it to its end; returns the exit code. Raises SweepError.

    One that is driven by somebody is told to go on, if it was paused or is to have new limits.
    """
    directory = rundir.find(Path.cwd(), wanted)
    sweep = journal.replay(directory.journal)[0]
    events = failed_again(sweep) if failed else []
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
        return _detach(task, as_json)
    screen = _Screen(plain=plain, as_json=as_json)
    return screen.drive(session.resume(directory, os.environ, screen.view, events))


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
        self._json = as_json
        self._console = _Console(stderr=as_json)
        self._table: LiveTable | None = None
        if not plain and not as_json and can_draw(self._console):
            self._table = LiveTable(self._console, Path.cwd(), detach=has_keys())
        self.view: View = self._table or PlainLines(sys.stderr if as_json else sys.stdout)

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(text, file=sys.stderr)

    def drive(self, session: Session) -> int:
        if not self._json:
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
        if detached and not session.sweep.state.ended:
            return self._hand_over(session)
        if session.sweep.state.ended:
            self._wait_for_mlflow(session)
        if self._json:
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
        """Gives the follower time to catch up; whoever is impatient leaves it to itself."""
        follower = session.follower
        if follower is None or follower.wait(0.5):
            return
        until = time.monotonic() + CATCH_UP
        said = "MLflow is catching up (Ctrl-C leaves it to go on behind)"
        quiet = self._console.status(said) if self._table else nullcontext()
        try:
            with quiet:
                while time.monotonic() < until:
                    if follower.wait(0.2):
                        return
        except KeyboardInterrupt:
            pass
        self.say("MLflow has not caught up yet; that goes on behind, and nothing is lost")
