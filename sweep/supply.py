"""Slots for the controller: leases as many as its trials could use now, and keeps those that wait for a trial."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.core.model import Sweep
from sweep.ports import Devices, Slot

PROBE = 0.25  # seconds between two tries of slots that somebody else holds
GLANCE = 1.0  # between two looks at the disk
ROOM = 64 << 20  # bytes that must be free on the disk before another trial is started


class Supply:
    """`note` is told what a person should know: a disk that is full, a device that is held back."""

    def __init__(self, devices: Devices, disk: Path, note: Callable[[str], None]) -> None:
        self._devices = devices
        self._slots = {slot.id: slot for slot in devices.slots}
        self._disk = disk
        self._note = note
        self._leases: dict[str, int] = {}
        self._foreign: set[str] = set()  # slots that somebody else held at the last try
        self._next_probe = self._next_glance = 0.0
        self._room = True
        self._trouble: dict[str, str] = {}

    def lease(self, sweep: Sweep, now: float) -> Iterator[Slot]:
        """Slots newly leased; each is to become an offer before the next is asked for. now: monotonic."""
        if not sweep.demand() or not self._has_room(now):
            self._devices.rest()
            return
        taken = {sweep.trials[number].attempts[-1].slot for number in sweep.live}
        probing = now >= self._next_probe
        if probing:
            self._next_probe = now + PROBE
        for slot in self._devices.slots:
            if slot.id in taken or slot.id in self._leases or (slot.id in self._foreign and not probing):
                continue
            lease = self._devices.acquire(slot, {"sweep": sweep.id})
            if lease is None:
                self._foreign.add(slot.id)
                continue
            self._foreign.discard(slot.id)
            self._leases[slot.id] = lease
            yield slot
            if not sweep.demand():
                return

    def patience(self, sweep: Sweep) -> float | None:
        """When to try again (monotonic), if something is wanted that could be had."""
        return self._next_probe if self._room and sweep.demand() else None

    def take(self, slot: str) -> tuple[Slot, int]:
        """A leased slot with its lease, which is the caller's from now on."""
        return self._slots[slot], self._leases.pop(slot)

    def give_back(self, slot: str) -> None:
        os.close(self._leases.pop(slot))

    def look(self) -> None:
        """Says of devices why they are held back, when that is new."""
        trouble = dict(self._devices.trouble)
        for device in trouble.keys() - self._trouble.keys():
            self._note(f"{device} is not used: {trouble[device]}")
        self._trouble = trouble

    def close(self) -> None:
        for slot in list(self._leases):
            self.give_back(slot)

    def _has_room(self, now: float) -> bool:
        if now >= self._next_glance:
            self._next_glance = now + GLANCE
            try:
                free = shutil.disk_usage(self._disk).free
            except OSError:  # the folder is gone: there is nowhere to start anything
                free = 0
            if (free >= ROOM) != self._room:
                self._room = not self._room
                self._note(
                    f"{free >> 20} MiB are free on the disk of {self._disk}: "
                    + ("going on" if self._room else f"no new trials below {ROOM >> 20} MiB")
                )
        return self._room
