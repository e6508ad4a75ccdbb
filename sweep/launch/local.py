"""The controller's side of the nursery: orders out, supervisors' identities back. Implements `ports.Launcher`.

An order is asynchronous, for a nursery that is still importing warm modules must not hold the loop up: `launch`
sends it, `replies` is called when `fileno()` is readable. A nursery that died is replaced (then `fileno()` is
another), and what it had been sent has failed unless an `attempt.json` shows that a supervisor came to be.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.launch.process import boot_id, is_alive
from sweep.ports import Order, Reply, Started
from sweep.rundir import AttemptDir, SweepDir

_LARGEST = 150_000  # bytes of one order; the kernel's default for one datagram is 208 KiB


class Nursery:
    """Starts attempts on this machine. warm: modules that the nursery imports before it forks."""

    def __init__(self, directory: SweepDir, project: Path, warm: list[str], environ: dict[str, str]) -> None:
        self._directory = directory
        self._project = project
        self._warm = warm
        self._environ = {**environ, "SWEEP_PROJECT": str(project)}
        self._sent: dict[tuple[int, int], Order] = {}
        self._process: subprocess.Popen[bytes]
        self._start()

    def fileno(self) -> int:
        return self._channel.fileno()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lock = self._directory.nursery_lock
        with theirs, self._directory.controller_log.open("ab") as log:
            # -m puts the working folder on sys.path: start where no module of the user's can be in the way
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweep.launch.nursery", str(theirs.fileno()), str(lock), *self._warm],
                pass_fds=[theirs.fileno()],
                cwd="/",
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def launch(self, order: Order) -> None:
        """Sends the order; the leases' descriptors are closed here in any case. Raises OSError."""
        try:
            message = json.dumps(
                {
                    "trial": order.trial,
                    "attempt": order.attempt,
                    "directory": str(order.directory),
                    "argv": order.argv,
                    "env": order.env,
                    "cwd": str(order.cwd),
                    "slot": order.slot,
                    "device": order.device,
                    "report": order.report,
                    "keep": order.keep,
                    "limits": order.limits,
                    "python": _is_python(order.argv),
                }
            ).encode()
            if len(message) > _LARGEST:
                raise OSError(
                    7, f"its command line and environment take {len(message)} bytes; the limit is {_LARGEST}"
                )
            self._sent[order.trial, order.attempt] = order
            try:
                socket.send_fds(self._channel, [message], order.leases)
            except ConnectionError:
                pass  # it has just died: `replies` will say so, and what became of the order
        finally:
            for lease in order.leases:
                os.close(lease)

    def replies(self) -> Iterator[Reply]:
        """What came back since the last call."""
        while True:
            try:
                # not recv_fds(), which takes flags and ignores them
                data, extra, _, _ = self._channel.recvmsg(_LARGEST, socket.CMSG_LEN(4), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, extra = b"", []
            if not data:
                yield from self._restart()
                return
            answer = json.loads(data)
            if "trouble" in answer:
                yield Reply(trouble=answer["trouble"])
                continue
            key = (answer["trial"], answer["attempt"])
            self._sent.pop(key, None)
            if "error" in answer:
                yield Reply(*key, error=answer["error"])
            else:
                pidfd = array.array("i", extra[0][2])[0]
                yield Reply(*key, started=Started(answer["pid"], answer["start_time"], answer["boot_id"], pidfd))

    def _restart(self) -> list[Reply]:
        """A new nursery; the orders that the old one had not answered are settled by what lies on disk."""
        before = self._channel
        self._process.wait()
        wait_for_launches(self._directory)
        self._start()
        sent, self._sent = self._sent, {}
        settled = [settle(self._directory, *key) for key in sent]
        # only now: the number of a closed descriptor is given to the next one, and the controller still watches it
        before.close()
        return settled

    def close(self) -> None:
        """Lets the nursery end; its supervisors live on."""
        self._channel.close()
        self._process.wait()


def wait_for_launches(directory: SweepDir) -> None:
    """Returns when no nursery, and no fork of one on its way to an `attempt.json`, is left."""
    handle = os.open(directory.nursery_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def settle(directory: SweepDir, trial: int, attempt: int) -> Reply:
    """What became of an attempt whose launch nobody answered: a live supervisor, or one that has ended."""
    paths = directory.attempt(trial, attempt)
    facts = rundir.read_json(paths.attempt)
    if facts is None:
        return Reply(trial, attempt, error="the nursery died before it could start it")
    supervisor = facts["supervisor"]
    pidfd = open_pidfd(supervisor)
    return Reply(
        trial,
        attempt,
        started=Started(supervisor["pid"], supervisor["start_time"], supervisor["boot_id"], pidfd),
    )


def open_pidfd(identity: dict[str, Any]) -> int | None:
    """A descriptor of exactly this process, or None where it has ended."""
    pid, started, boot = identity["pid"], identity["start_time"], identity["boot_id"]
    if boot != boot_id():
        return None
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if is_alive(pid, started, boot):  # asked after opening: the descriptor cannot pass to another process
        return handle
    os.close(handle)
    return None


def deliver(
    paths: AttemptDir, pidfd: int | None, verdict: str, grace: float, kill_after: float, *, abort: bool = False
) -> None:
    """Writes the verdict's file, then wakes the supervisor. Raises OSError where the file cannot be written.

    abort: by SIGABRT instead of SIGTERM, at which Python writes its stacks into the output.
    """
    order = {"verdict": verdict, "grace": grace, "kill_after": kill_after, "abort": abort}
    rundir.write_json(paths.verdict, order)
    if pidfd is not None:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
        except ProcessLookupError:
            pass  # it ended in between


def _is_python(argv: list[str]) -> bool:
    """Whether the command runs a script or module with the interpreter that runs sweep."""
    return argv[0] == sys.executable and len(argv) > 1 and (argv[1] == "-m" or argv[1].endswith(".py"))
