"""The nursery: a small single-threaded process that forks supervisors off, started before anything heavy.

    python -m sweep.launch.nursery <descriptor> <lock file> [module to import warm ...]

It speaks JSON over a SOCK_SEQPACKET descriptor: an order comes with its leases' descriptors (SCM_RIGHTS), the
answer `{"trial", "attempt", "pid", "start_time", "boot_id"}` goes back with a pidfd, or `{"trial", "attempt",
"error"}`. When the controller's end closes, it ends; the supervisors live on.

A few supervisors are forked ahead, in quiet moments, and wait for an order on a socket of their own: where several
trials end at once, the forks of the next ones would stand between them and their start. One that waits ends when
the nursery does.

It holds a lock on `nursery.lock`, and so does a fork of it until `attempt.json` is written (the descriptor is
closed at exec, or by the supervisor): who gets that lock knows that no launch is in flight.
"""

from __future__ import annotations

import array
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from sweep.launch.process import boot_id, start_time
from sweep.launch.supervisor import LARGEST, MOST_HANDLES, supervise
from sweep.launch.warm import Become, run_as_main, warm_up

READY = 4  # supervisors forked ahead
QUIET = 0.05  # seconds without an order before the next one is


def main(arguments: list[str]) -> None:
    handle, lock_file, *warm = arguments
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(handle))
    trouble = warm_up(warm, os.environ.pop("SWEEP_PROJECT"))
    gc.collect()
    gc.freeze()  # the forks share these pages
    gc.disable()  # and none of them lives on garbage; a warm trial gets its collector back
    serve(channel, lock, bool(warm) and not trouble, trouble)


def serve(channel: socket.socket, lock: int, warm: bool, trouble: str) -> None:
    """Hands each order to a supervisor until the controller is gone."""
    if trouble:
        channel.send(json.dumps({"trouble": trouble}).encode())
    ready: deque[_Ready] = deque()
    while True:
        asked, _, _ = select.select([channel], [], [], 1.0 if len(ready) == READY else QUIET)
        _reap()
        if not asked:
            if len(ready) < READY:
                _fork_ahead(ready, channel, lock, warm)
            continue
        data, handles = _receive(channel)
        if not data:
            return
        for lease in handles:
            os.set_inheritable(lease, False)
        answer, pidfds = _hand_on(data, handles, ready, channel, lock, warm)
        try:
            socket.send_fds(channel, [json.dumps(answer).encode()], pidfds)
        except OSError:
            return  # the controller is gone; the attempt's files tell the next one
        for handle in pidfds:
            os.close(handle)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    try:
        data, handles, _, _ = socket.recv_fds(channel, LARGEST, MOST_HANDLES)
    except ConnectionResetError:
        return b"", []
    return data, list(array.array("i", handles))


class _Ready:
    """A supervisor that waits for its order. Raises OSError where it cannot be forked."""

    def __init__(self, ready: Iterable[_Ready], channel: socket.socket, lock: int, warm: bool) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                for other in (channel, self.channel, *(sibling.channel for sibling in ready)):
                    other.close()  # or they would not see that the nursery is gone
                supervise(theirs, lock, warm)
        self.identity: dict[str, Any] = {"pid": pid, "start_time": start_time(pid), "boot_id": boot_id()}


def _fork_ahead(ready: deque[_Ready], channel: socket.socket, lock: int, warm: bool) -> None:
    try:
        ready.append(_Ready(ready, channel, lock, warm))
    except OSError:
        pass  # an order will say so


def _hand_on(
    data: bytes, leases: Sequence[int], ready: deque[_Ready], channel: socket.socket, lock: int, warm: bool
) -> tuple[dict[str, Any], list[int]]:
    """The answer to one order, and the pidfd that goes with it."""
    order = json.loads(data)
    key = {"trial": order["trial"], "attempt": order["attempt"]}
    try:
        while True:
            one = ready.popleft() if ready else _Ready((), channel, lock, warm)
            with one.channel:
                try:
                    socket.send_fds(one.channel, [data], leases)
                except ConnectionError:
                    continue  # somebody has killed it
                return {**key, **one.identity}, [os.pidfd_open(one.identity["pid"])]
    except OSError as error:
        return {**key, "error": f"cannot fork: {error.strerror}"}, []
    finally:
        for lease in leases:
            os.close(lease)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    script: list[str] = []
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
        os._exit(0)  # without waiting for threads that a warm module may have begun
    except Become as trial:
        script = trial.argv
    if script:  # outside of `except`: what the script raises has nothing to do with how it came to be
        run_as_main(script)
