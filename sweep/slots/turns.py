"""Whose turn it is, among the controllers that wait for slots of this machine.

Who wants a slot and gets none leaves a ticket: a file in `<lock folder>/waiting`, locked by its owner, listing the
slots that would do. Its name is the place in the line: by priority, the highest first, then by age. A free slot
goes to the first ticket that lists it; who gets one loses the ticket, and waits behind its equals for the next. So
jobs start in the order in which they were submitted, and sweeps take turns; what somebody has is never taken away.
A ticket whose owner is dead (not locked) or asleep (not touched for STALE seconds) counts for nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from sweep.rundir import is_taken, take_lock

STALE = 3.0
_MIDDLE = 1000  # the rank of priority 0: ranks sort as text, the highest priority first


class Turns:
    """One controller's place in the line. `folder` is made if it is not there; raises nothing after that.

    priority: may change at any time; a ticket keeps its age.
    """

    def __init__(self, folder: Path) -> None:
        self.priority = 0
        self._folder = folder
        self._ticket: Path | None = None
        self._version: object = None
        self._handle = -1
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            if folder.stat().st_uid == os.geteuid():
                folder.chmod(0o1777)

    @property
    def waits(self) -> bool:
        return self._ticket is not None

    def wait(self, slots: Iterable[str], version: object = None) -> None:
        """Takes a ticket for any of these, or shows that the one there is still wanted.

        slots: looked at only for a new ticket, and where `version` is another than it was.
        """
        with suppress(OSError):
            if self._ticket is None:
                path = self._folder / f"{self._rank()}-{time.time_ns():020d}-{os.getpid()}"
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                os.fchmod(handle, 0o644)  # whatever the umask: other users look at it
                take_lock(handle)
                self._ticket, self._handle = path, handle
                self._write(slots, version)
            else:
                os.utime(self._handle)
                if version != self._version:
                    self._write(slots, version)
                rank, _, rest = self._ticket.name.partition("-")
                if rank != self._rank():
                    self._ticket = self._ticket.rename(self._folder / f"{self._rank()}-{rest}")

    def _write(self, slots: Iterable[str], version: object) -> None:
        text = json.dumps(list(slots)).encode()
        os.ftruncate(self._handle, os.pwrite(self._handle, text, 0))
        self._version = version

    def leave(self) -> None:
        """Gives the ticket up: served, or nothing is wanted any more."""
        if self._ticket is not None:
            with suppress(OSError):
                self._ticket.unlink()
            os.close(self._handle)
            self._ticket = None

    def of_others(self) -> Collection[str]:
        """The slots for which somebody stands before this one in the line, or would if it waited."""
        mine = self._ticket.name if self._ticket is not None else f"{self._rank()}-~"
        found: set[str] = set()
        try:
            names = sorted(os.listdir(self._folder))  # noqa: PTH208 (much faster)
        except OSError:
            return found
        for name in names:
            if name >= mine:
                break
            found.update(_wanted(f"{self._folder}/{name}"))
        return found

    def _rank(self) -> str:
        return f"{_MIDDLE - self.priority:04d}"


def _wanted(path: str) -> list[str]:
    """The slots on a ticket that counts."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        asleep = time.time() - os.fstat(handle).st_mtime > STALE
        if not is_taken(handle):
            if asleep:  # its owner died; a young one may still be on its way to its lock
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
            return []
        if asleep:
            return []
        slots = json.loads(os.read(handle, 1 << 16))
    except (OSError, ValueError):
        return []
    finally:
        os.close(handle)
    return [slot for slot in slots if isinstance(slot, str)] if isinstance(slots, list) else []
