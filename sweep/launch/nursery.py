"""The nursery: a small single-threaded process that forks supervisors off, started before anything heavy.

    python -m sweep.launch.nursery <descriptor> <lock file> [module to import warm ...]

It speaks JSON over a SOCK_SEQPACKET descriptor: an order comes with the descriptor of its lease (SCM_RIGHTS), the
answer `{"trial", "attempt", "pid", "start_time", "boot_id"}` goes back with a pidfd, or `{"trial", "attempt",
"error"}`. When the controller's end closes, it ends; the supervisors live on.

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
from typing import Any

from sweep.launch.process import boot_id, start_time
from sweep.launch.supervisor import supervise
from sweep.launch.warm import Become, run_as_main, warm_up

_LARGEST = 1 << 20


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
    """Forks a supervisor for each order until the controller is gone."""
    if trouble:
        channel.send(json.dumps({"trouble": trouble}).encode())
    children = 0
    while True:
        ready, _, _ = select.select([channel], [], [], 1.0 if children else None)
        if ready:
            data, handles = _receive(channel)
            if not data:
                return
            order = json.loads(data)
            answer, pidfd = _fork(order, handles[0], channel, lock, warm)
            children += pidfd is not None
            try:
                socket.send_fds(channel, [json.dumps(answer).encode()], [pidfd] if pidfd is not None else [])
            except OSError:
                return  # the controller is gone; the attempt's files tell the next one
            if pidfd is not None:
                os.close(pidfd)
        children -= _reap()


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    try:
        data, handles, _, _ = socket.recv_fds(channel, _LARGEST, 1)
    except ConnectionResetError:
        return b"", []
    return data, list(array.array("i", handles))


def _fork(
    order: dict[str, Any], lease: int, channel: socket.socket, lock: int, warm: bool
) -> tuple[dict[str, Any], int | None]:
    key = {"trial": order["trial"], "attempt": order["attempt"]}
    try:
        pid = os.fork()
    except OSError as error:
        os.close(lease)
        return {**key, "error": f"cannot fork: {error.strerror}"}, None
    if pid == 0:
        channel.close()
        supervise(order, lease, lock, warm and order["python"])
    os.close(lease)
    pidfd = os.pidfd_open(pid)
    return {**key, "pid": pid, "start_time": start_time(pid), "boot_id": boot_id()}, pidfd


def _reap() -> int:
    count = 0
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            count += 1
    except ChildProcessError:
        pass
    return count


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
