"""A folder with a real nursery and no controller, for the tests of test_launch*.py."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.launch.local import Nursery, deliver
from sweep.ports import Order, Reply
from sweep.rundir import AttemptDir, SweepDir

LONGEST = 30.0


def wait_for(seen: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + LONGEST
    while not (found := seen()):
        assert time.monotonic() < until, f"waited {LONGEST:g} s for {what}"
        time.sleep(0.01)
    return found


class Attempt:
    """One attempt that was started. lease: the lock file of its slot."""

    def __init__(self, paths: AttemptDir, lease: Path, reply: Reply) -> None:
        assert reply.started is not None, reply.error
        self.paths = paths
        self.supervisor = reply.started.pid
        self.pidfd = reply.started.pidfd
        self._lease = lease
        self.facts: dict[str, Any] = wait_for(lambda: rundir.read_json(paths.attempt), "attempt.json")

    @property
    def output(self) -> str:
        return self.paths.output.read_text()

    def says(self, text: str) -> None:
        wait_for(lambda: text in self.output, text)

    def deliver(self, verdict: str, grace: float = 0.0, kill_after: float = 5.0) -> None:
        deliver(self.paths, self.pidfd, verdict, grace, kill_after)

    def end(self) -> dict[str, Any]:
        """Waits for the supervisor's end; what it wrote."""
        assert self.pidfd is not None
        assert select.select([self.pidfd], [], [], LONGEST)[0], f"still runs: {self.output}"
        return json.loads(self.paths.exit.read_text())

    def lease_is_free(self) -> bool:
        with self._lease.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


class Room:
    """A sweep's folder with a nursery."""

    def __init__(self, path: Path, *warm: str) -> None:
        self.project = path
        self.directory = SweepDir(path / "sweeps/s-1")
        self.directory.trials.mkdir(parents=True, exist_ok=True)
        self.environ = {**os.environ, "MARK": str(path)}
        self.nursery = Nursery(self.directory, path, [*warm], self.environ)
        self.keep = 50_000_000  # bytes of output
        self._count = 0
        self._pidfds: list[int] = []

    def order(self, argv: list[str], report: dict[str, Any] | None = None, **env: str) -> Order:
        self._count += 1
        paths = self.directory.attempt(self._count, 1)
        paths.path.mkdir(parents=True)
        lease = os.open(self.project / f"lease-{self._count}", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lease, fcntl.LOCK_EX)
        places = {"SWEEP_ATTEMPT_DIR": str(paths.path), "SWEEP_TRIAL": str(self._count), "SWEEP_ATTEMPT": "1"}
        given = {"mode": "api", "patterns": [], **(report or {})}
        where = (paths.path, argv, {"PYTHONUNBUFFERED": "1", **places, **env}, self.project, [lease])
        return Order(self._count, 1, *where, "cpu-0", "cpu-0", given, self.keep)

    def answer(self) -> Reply:
        def seen() -> Reply | None:
            ready = select.select([self.nursery.fileno()], [], [], 0.1)[0]
            return next(self.nursery.replies(), None) if ready else None

        reply = wait_for(seen, "the nursery's answer")
        if reply.started is not None and reply.started.pidfd is not None:
            self._pidfds.append(reply.started.pidfd)
        return reply

    def start(self, *argv: str, report: dict[str, Any] | None = None, **env: str) -> Attempt:
        return self.launch(self.order([*argv], report, **env))

    def launch(self, order: Order) -> Attempt:
        self.nursery.launch(order)
        reply = self.answer()
        return Attempt(AttemptDir(order.directory), self.project / f"lease-{order.trial}", reply)

    def script(self, text: str, *argv: str, name: str = "script.py", **options: Any) -> Attempt:
        (self.project / name).write_text(textwrap.dedent(text))
        return self.start(sys.executable, name, *argv, **options)

    def left(self) -> list[int]:
        """Whoever was started here and lives."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                mark = f"MARK={self.project}".encode() in (place / "environ").read_bytes().split(b"\0")
                alive = (place / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            except OSError:
                continue
            if mark and alive:
                found.append(int(place.name))
        return found

    def close(self) -> None:
        self.nursery.close()
        for handle in self._pidfds:
            os.close(handle)
        try:
            wait_for(lambda: not self.left(), "the last process to end")
        except AssertionError:
            left = self.left()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert not left, "left running"
