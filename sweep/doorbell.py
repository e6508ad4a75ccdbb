"""The sweep's doorbell: a datagram socket in its folder that says where to look. What it says may be lost.

A socket's path holds 107 bytes at most, so it is reached through a descriptor of its folder. (A trial rings by
`trial.py`, which imports nothing of ours.)
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from sweep.rundir import SweepDir


def hang(directory: SweepDir) -> socket.socket:
    """The end to listen at, in place of an earlier one. Raises OSError where the file system has no sockets."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    try:
        directory.doorbell.unlink(missing_ok=True)
        with _address(directory) as address:
            bell.bind(address)
    except OSError:
        bell.close()
        raise
    return bell


def ring(directory: SweepDir, text: bytes) -> None:
    """Wakes the controller, if there is one that listens; it looks once a second anyway."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell,
        _address(directory) as address,
    ):
        bell.setblocking(False)
        bell.sendto(text, address)


@contextlib.contextmanager
def _address(directory: SweepDir) -> Iterator[str]:
    folder = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{directory.doorbell.name}"
    finally:
        os.close(folder)
