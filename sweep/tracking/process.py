"""The controller's side of the follower: starts its process and speaks with it. Implements `ports.Tracker`.

JSON lines over a stream socket. Requests that were not answered when a follower died are asked again of the next.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.rundir import SweepDir

_REVIVALS = (0.0, 1.0, 5.0, 30.0)  # seconds between the deaths of followers and the work of their successors
_NICENESS = 10  # trials come first


class Follower:
    """environ: what the follower inherits; project: the folder whose store is the default one."""

    def __init__(self, directory: SweepDir, project: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._project = project
        self._environ = dict(environ)
        self._open: dict[tuple[str, Any], dict[str, Any]] = {}
        self._deaths = 0
        self._start(0.0)

    def _start(self, wait: float) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._buffer = b""
        channel = ["--fd", str(theirs.fileno())]
        with theirs, self._directory.follower_log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweep.tracking", str(self._directory.path), *channel, "--wait", str(wait)],
                pass_fds=[theirs.fileno()],
                cwd=self._project,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_be_nice,
            )

    def fileno(self) -> int:
        return self._channel.fileno()

    def make_run(self, trial: int) -> None:
        self._ask(("run", trial), {"make_run": trial})

    def collect(self, trial: int, attempt: int) -> None:
        self._ask(("collected", (trial, attempt)), {"collect": [trial, attempt]})

    def ending(self, state: str, why: str) -> None:
        """Tells it that nothing more will come; it sends what is left and ends by itself."""
        self._send({"ending": state, "why": why})

    def replies(self) -> Iterator[Mapping[str, Any]]:
        ended = False
        try:
            while data := self._channel.recv(1 << 16):
                self._buffer += data
            ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            ended = True
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "run" in answer:
                self._open.pop(("run", answer["run"][0]), None)
            if "collected" in answer:
                self._open.pop(("collected", tuple(answer["collected"])), None)
            yield answer
        if ended:
            self._process.kill()  # it has closed its end, so it is of no use any more
            code = self._process.wait()
            yield {"gone": f"exit status {code}; see {self._directory.follower_log}"}

    def revive(self) -> None:
        """Another process in place of one that died; the more have died, the later it begins its work."""
        self._channel.close()
        wait = _REVIVALS[min(self._deaths, len(_REVIVALS) - 1)]
        self._deaths += 1
        self._start(wait)
        for request in self._open.values():
            self._send(request)

    def wait(self, seconds: float) -> bool:
        """Whether it has caught up and ended within this time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Leaves it alone: it goes on until it has caught up."""
        self._channel.close()

    def _ask(self, key: tuple[str, Any], request: dict[str, Any]) -> None:
        self._open[key] = request
        self._send(request)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.settimeout(1.0)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # it is dying; `replies` will say so, and the next one is asked again
        finally:
            self._channel.setblocking(False)


def _be_nice() -> None:
    os.nice(_NICENESS)
