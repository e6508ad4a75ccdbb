"""Begins a sweep, or takes one over: wires the concrete edges to a controller, and takes them apart again.

Nothing is half-written after a mistake: what the file says is checked before the sweep's folder is made, and a
folder whose sweep could not begin is removed.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sweep import __version__, journal, logs, projects, rundir, source
from sweep.clock import WallClock
from sweep.config.model import SweepConfig
from sweep.config.rules import rules
from sweep.controller import Controller
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Phase, Sweep, SweepState
from sweep.disk import DiskWatch
from sweep.errors import ConfigError, UsageError
from sweep.guard import Guard
from sweep.job import NothingToSearch
from sweep.launch.local import Nursery, open_pidfd, settle, wait_for_launches
from sweep.launch.process import boot_id, start_time
from sweep.ports import Inbox, View
from sweep.prepare import Preparer
from sweep.rundir import SweepDir
from sweep.slots.cpu import thread_limits
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool
from sweep.slots.usage import EVERY, FIRST, Gauge, Target
from sweep.suspicion import Suspicion
from sweep.tracking.process import Follower, Spare
from sweep.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from sweep.search import OptunaSearch

log = logging.getLogger("sweep.session")
# Seconds after which a thread that samples gives way to the loop (the interpreter's default is 5 ms): at each of
# its system calls the loop lets go of the interpreter and has to get it back.
TURN = 0.0002


class Session:
    """One controller's life with one sweep. Use `begin` or `resume`, then `run`, then `close`."""

    def __init__(self, sweep: Sweep, config: SweepConfig, directory: SweepDir, pool: Pool) -> None:
        self.sweep = sweep
        self.config = config
        self.directory = directory
        self.pool = pool
        self.interrupts = 0  # how often Ctrl-C was pressed
        self.follower: Follower | None = None
        self.controller: Controller
        self._closing = ExitStack()

    # ---- wiring

    def _wire(
        self,
        writer: journal.Writer,
        clock: WallClock,
        environ: Mapping[str, str],
        view: View | None,
        told: journal.Replay | None,
        spare: Spare | None,
    ) -> None:
        config, directory = self.config, self.directory
        _log_to(directory, environ, self._closing)
        project = directory.path.parent.parent
        mlflow: dict[str, str] = {}
        if config.mlflow.enabled:
            uri = tracking_uri(config.mlflow.model_dump(), project, environ)
            if config.report.mode == "mlflow":
                mlflow = {"MLFLOW_TRACKING_URI": uri}
            self.follower = Follower(directory, environ, spare)
            self._closing.callback(self.follower.close)
        elif spare is not None:
            spare.dismiss()
        nursery = Nursery(directory, project, config.warm, {**environ, **_warm_environment(self.pool, config)})
        self._closing.callback(nursery.close)
        post: list[Any] = []  # the controller does not exist yet
        search = self._make_search(lambda event: post[0](event), clock.now)
        missed = search.reconcile(self.sweep, told.judged if told else lambda trials: {})
        disk = DiskWatch(directory, config.disk, clock.now)
        self._closing.callback(disk.stop)
        every = FIRST if self.pool.auto else EVERY  # a peak that is missed would be missed when devices are shared
        gauge = Gauge(self._targets, self.pool.measure, clock.now, config.stall.after, every)
        self.controller = Controller(
            self.sweep,
            directory,
            journal.Keeper(writer, self.sweep, told.kept if told else 0),
            clock,
            search,
            nursery,
            self.pool,
            Preparer(config, self.sweep, directory, project, environ, mlflow),
            disk,
            Guard(directory, config.stall, lambda: gauge.latest),
            Suspicion(self.pool.ward, config.devices.yields == "checkpoint"),
            self.follower,
            view,
        )
        self._closing.callback(self.controller.close)
        self._closing.callback(search.close)  # first of the two: what it still answers wakes the controller
        post.append(self.controller.post)
        me = os.getpid()
        identity = (me, start_time(me) or 0, boot_id())
        self.controller.feed(e.ControllerStarted(clock.now(), *identity, platform.node(), __version__, missed))
        search.start()
        gauge.start()
        self._closing.callback(gauge.stop)

    def _make_search(self, inbox: Inbox, now: Callable[[], float]) -> OptunaSearch | NothingToSearch:
        if not self.config.metric:
            return NothingToSearch(inbox, now, len(self.sweep.trials))
        from sweep.search import OptunaSearch  # 0.2 s, which a job does not need

        return OptunaSearch(self.config, self.sweep, self.config.storage or self.directory.study, inbox, now)

    def _targets(self) -> list[Target]:
        found = []
        for watch in self.controller.attempts.watched():
            attempt = self.sweep.trials[watch.trial].attempts[watch.attempt - 1]
            if attempt.pid is not None:
                key = (watch.trial, watch.attempt)
                found.append(Target(key, watch.paths.usage, attempt.pid, attempt.device.split(",")))
        return found

    # ---- life

    def run(self) -> int:
        """Drives the sweep to its end; returns the exit code that a command should end with."""
        sys.setswitchinterval(TURN)
        before = {number: signal.signal(number, self._signalled) for number in _SIGNALS}
        try:
            self.controller.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupts or not self.sweep.state.ended:
            return 130
        return 0 if self.sweep.state is SweepState.FINISHED else 1

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.controller.leave()
        elif number == signal.SIGHUP:  # the terminal is gone: the sweep is not
            nowhere = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(nowhere, standard)
            os.close(nowhere)
        elif number == signal.SIGINT:
            self.interrupts += 1
            now = self.sweep.at
            if self.interrupts == 1:
                self.controller.post(e.DrainAsked(now, "Ctrl-C: running trials finish, no new ones start"))
            else:
                self.controller.post(e.StopAsked(now, None, self.interrupts > 2, "Ctrl-C twice: stopped"))

    def close(self) -> None:
        """Lets go of everything; trials that still run train on, MLflow is brought up to date behind."""
        if self.follower is not None and self.sweep.state.ended:
            self.follower.ending(self.sweep.state.value, self.sweep.why)
        self._closing.close()


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def begin(
    config: SweepConfig,
    text: bytes,
    project: Path,
    environ: Mapping[str, str],
    view: View | None = None,
    file: str = "",
    overrides: Mapping[str, Any] | None = None,
    started_by: Mapping[str, Any] | None = None,
    spare: Spare | None = None,
) -> Session:
    """A new sweep in `project`. Raises SweepError before anything is written.

    config: has passed `check`. text: its space.yaml. file, overrides, started_by: as in SweepOpened.
    spare: a follower that was started ahead.
    """
    pool = _open_pool(config, environ)
    directory = rundir.create(project, config.name)
    clock = WallClock()
    whole = config.model_dump(mode="json")
    origin = dict(started_by or {})
    opened = e.SweepOpened(clock.now(), directory.id, rules(config), whole, file, dict(overrides or {}), origin)
    session = Session(open_sweep(opened), config, directory, pool)
    try:
        session._closing.callback(pool.close)
        _lock(session)
        directory.space.write_bytes(text)
        writer = journal.Writer(directory.journal)
        session._closing.callback(writer.close)
        writer.append(opened)
        writer.commit()
        _write_source(session, project)
        session._wire(writer, clock, environ, view, None, spare)
        projects.note(project, environ)
    except BaseException:
        session._closing.close()
        shutil.rmtree(directory.path, ignore_errors=True)
        with suppress(OSError):
            directory.path.parent.rmdir()  # it was made for this sweep, unless there are others
        raise
    return session


def resume(
    directory: SweepDir,
    environ: Mapping[str, str],
    view: View | None = None,
    events: Sequence[e.Event] = (),
    told: journal.Replay | None = None,
    spare: Spare | None = None,
) -> Session:
    """Takes over a sweep whose controller is gone: adopts what lives, settles what has ended.

    events: what to apply then (new limits, a stop; a changed file, before all else), their times are set here.
    told: what has been read of the journal already. spare: a follower that was started ahead.
    Raises BusyError where a controller lives, JournalError where the journal cannot be read, UsageError for an
    event that does not fit.
    """
    lock = rundir.lock(directory.controller_lock, _me())
    try:
        wait_for_launches(directory)
        told = told or journal.Replay(directory.journal)
        told.read_on()
        sweep = told.sweep
        clock = WallClock(sweep.at)
        changes = [replace(event, at=clock.now()) for event in events if isinstance(event, e.ConfigChanged)]
        for change in changes:
            step(sweep, change)
        config = SweepConfig.model_validate(sweep.config)
        check(config)
        pool = _open_pool(config, environ, sweep.id)
    except BaseException:
        os.close(lock)
        raise
    session = Session(sweep, config, directory, pool)
    session._closing.callback(os.close, lock)
    try:
        session._closing.callback(pool.close)
        writer = journal.Writer(directory.journal, told.last)
        session._closing.callback(writer.close)
        for change in changes:
            writer.append(change)
            writer.commit()
            directory.copy(len(sweep.former)).write_bytes(change.text.encode())
        session._wire(writer, clock, environ, view, told, spare)
        _adopt(session)
        for event in events:
            if isinstance(event, e.ConfigChanged):
                log.info("the file was changed: %s", "; ".join(event.told))
            elif refusal := session.controller.feed(replace(event, at=sweep.at)):
                raise UsageError(refusal)
    except BaseException:
        session._closing.close()
        raise
    return session


def _open_pool(config: SweepConfig, environ: Mapping[str, str], sweep: str | None = None) -> Pool:
    per_trial = config.devices_per_trial
    return open_pool(config.devices, config.slots_per_device, environ, sweep=sweep, per_trial=per_trial)


def _adopt(session: Session) -> None:
    """Every attempt that the journal believes alive is watched on, or read to its end."""
    for number in sorted(session.sweep.live):
        attempt = session.sweep.trials[number].attempts[-1]
        if attempt.phase is Phase.LAUNCHING:
            session.controller.started(settle(session.directory, number, attempt.number))
            continue
        identity = {"pid": attempt.pid, "start_time": attempt.start_time, "boot_id": attempt.boot_id}
        session.controller.attempts.watch(number, attempt.number, open_pidfd(identity), skip=attempt.lines)


def check(config: SweepConfig, at: Callable[[str], str] | None = None) -> None:
    """What only Optuna and this version know to be wrong. at: where a key stands. Raises ConfigError."""
    if not config.metric:
        return
    from sweep.search import build_pruner, build_sampler

    try:
        build_sampler(config, config.seed)
        build_pruner(config)
    except ConfigError as error:
        where = at(error.key or "") if at else None
        raise ConfigError(error.problem, where=where, key=error.key, hint=error.hint) from None


def _log_to(directory: SweepDir, environ: Mapping[str, str], closing: ExitStack) -> None:
    """Everything that is logged or warned of in this process goes to the sweep's controller.log."""
    handler = logging.FileHandler(directory.controller_log)
    handler.setFormatter(logs.formatter(environ, directory.id))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk: its traceback would lie over the table
    closing.callback(handler.close)
    closing.callback(root.removeHandler, handler)


def _warm_environment(pool: Pool, config: SweepConfig) -> dict[str, str]:
    """What libraries read when the nursery imports them: the thread counts of a slot, and the file's own `env`."""
    if not config.warm or not pool.slots:
        return {}
    return {**thread_limits(pool.slots[0].threads * pool.per_trial), **config.env}


def _lock(session: Session) -> None:
    session._closing.callback(os.close, rundir.lock(session.directory.controller_lock, _me()))


def _me() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _write_source(session: Session, project: Path) -> None:
    """In a thread: it reads the metadata of every package."""

    def write() -> None:
        try:
            rundir.write_json(session.directory.source, source.gather(project))
        except OSError as error:
            log.warning("cannot write %s: %s", session.directory.source, error)

    thread = threading.Thread(target=write, name="source", daemon=True)
    thread.start()
    session._closing.callback(thread.join)
