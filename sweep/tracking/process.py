"""The controller's side of the follower: starts its process and speaks with it. Implements `ports.Tracker`.

JSON lines over a stream socket. Requests that were not answered when a follower died are asked again of the next.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweep.rundir import SweepDir

_REVIVALS = (0.0, 1.0, 5.0, 30.0)  # seconds between the deaths of followers and the work of their successors


class Spare:
    """A follower ahead of its sweep. Half of its start is imports, which may as well go on beside ours.

    One that is not needed in the end is ended by leaving the `with` block.
    """

    def __init__(self, environ: Mapping[str, str], *options: str) -> None:
        self.taken = False
        self.channel, theirs = socket.socketpair()
        self.channel.setblocking(False)
        with theirs:
            descriptor = theirs.fileno()
            self.process = _spawn(environ, ["--fd", str(descriptor), *options], pass_fds=[descriptor])

    def __enter__(self) -> Spare:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.taken:
            self.dismiss()

    def dismiss(self) -> None:
        self.taken = True
        self.channel.close()
        self.process.kill()
        self.process.wait()


class Follower:
    """environ: what the follower inherits. spare: the process to take, if one was started ahead."""

    def __init__(self, directory: SweepDir, environ: Mapping[str, str], spare: Spare | None = None) -> None:
        self._directory = directory
        self._environ = dict(environ)
        self._open: dict[tuple[str, Any], dict[str, Any]] = {}
        self._deaths = 0
        self._take(spare or Spare(environ))

    def _take(self, spare: Spare) -> None:
        spare.taken = True
        self._channel, self._process = spare.channel, spare.process
        self._buffer = b""
        self._send({"folder": str(self._directory.path)})

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
        self._take(Spare(self._environ, "--wait", str(wait)))
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


def catch_up(directory: SweepDir, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A follower without a controller: it sends what the journal has and MLflow lacks, and ends."""
    return _spawn(environ, [str(directory.path)])


def _spawn(
    environ: Mapping[str, str], options: Sequence[str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.tracking", *options],
        pass_fds=pass_fds,
        cwd="/",  # -m puts the working folder on sys.path
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
