"""The leases of a machine whose administrator has a policy (config/policy.py): enforced where a lease is taken.

A lock is taken first and counted second, with itself, so that two of one user who ask at once cannot both get the
last one; both may fail, and try again. What counts is not what a lock file says, but which locks are held by
processes of this user: the kernel tells whose a process is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sweep.config.policy import FILE, Allowance, allowance
from sweep.errors import DeviceError
from sweep.slots.leases import Leases, lock_folder
from sweep.slots.provider import Device

FRESH = 0.2  # seconds that a count is believed before anything is tried


def open_leases(environ: Mapping[str, str], folder: Path | None = None) -> Leases:
    """The machine's leases, under its policy if it has one. folder: of a caller that is no user.

    Raises DeviceError for a folder that cannot be used, and for a SWEEP_LOCK_DIR in which nobody would count.
    """
    allowed = allowance()
    place = folder or machine_folder(environ, allowed)
    return PolicedLeases(place, allowed) if allowed else Leases(place)


def machine_folder(environ: Mapping[str, str], allowed: Allowance | None) -> Path:
    """Where this machine's leases are. Raises DeviceError where SWEEP_LOCK_DIR is not where a policy counts."""
    if allowed is None:
        return lock_folder(environ)
    place = Path(allowed.lock_dir) if allowed.lock_dir else lock_folder({})
    if environ.get("SWEEP_LOCK_DIR") and lock_folder(environ) != place.resolve():
        raise DeviceError(
            f"SWEEP_LOCK_DIR is {environ['SWEEP_LOCK_DIR']}, but leases are counted in {place} ({FILE})",
            hint="unset SWEEP_LOCK_DIR",
        )
    return place


class PolicedLeases(Leases):
    """`Leases` that keep to an allowance."""

    def __init__(self, folder: Path, allowed: Allowance) -> None:
        super().__init__(folder)
        self._allowed = allowed
        self._counted: tuple[float, set[str]] = (0.0, set())  # when, and what

    def permits(self, device: Device) -> bool:
        return self._allowed.permits(device.kind, device.index, device.id)

    @property
    def policy(self) -> str:
        return self._allowed.words()

    def never(self, number: int) -> str:
        most = self._allowed.count
        return f"but you may have {most} ({FILE})" if most is not None and number > most else ""

    def barred(self, number: int, slot: str = "") -> str:
        now = time.monotonic()
        if until := self._allowed.silence(datetime.now()):
            return f"nothing is started until {until} ({FILE})"
        if self._allowed.count is None:
            return ""
        if now - self._counted[0] > FRESH:
            self._counted = now, self._mine()
        held = self._counted[1]
        return self._too_many(len(held), 0 if slot.partition(".")[0] in held else number)

    def acquire(self, name: str) -> int | None:
        if self._allowed.silence(datetime.now()):
            return None
        lease = super().acquire(name)
        if lease is not None and self._allowed.count is not None:
            held = self._mine()
            if self._too_many(len(held), 0):
                os.close(lease)
                held.discard(name.partition(".")[0])
                lease = None
            self._counted = time.monotonic(), held
        return lease

    def _too_many(self, held: int, more: int) -> str:
        most = self._allowed.count
        if most is None or held + more <= most:
            return ""
        return f"you have {held} of the {most} devices that you may have at once ({FILE})"

    def _mine(self) -> set[str]:
        """The devices of which a process of this user holds a lease."""
        held = {}
        for name in self.names():
            with suppress(OSError):
                if lease := self.look(name):
                    held[lease.file] = name.partition(".")[0]
        return {held[file] for file in _open_files(os.geteuid()) & held.keys()} if held else set()


def _open_files(uid: int) -> set[tuple[int, int]]:
    """(st_dev, st_ino) of every file that a process of this user has open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid != uid:
                continue
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    status = descriptor.stat()
                    found.add((status.st_dev, status.st_ino))
    return found
