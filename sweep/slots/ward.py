"""Devices that are in use: whether one has failed under those who use it, and who else computes there.

It looks at what was read anyway, every few seconds, and so costs nothing between two readings; only what happens
to a device at one moment is listened for at every look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sweep.slots.faults import Faults
from sweep.slots.foreign import people, strangers
from sweep.slots.leases import LockFolder
from sweep.slots.provider import Device, Reading

PATIENCE = 5.0  # seconds for which a device must be away, or somebody on it, before anybody has to leave it


class Ward:
    """`ports.Ward`, concretely. read: what a device said at most so many seconds ago. listen: see `Pool`."""

    def __init__(
        self,
        devices: Mapping[str, Device],
        read: Callable[[Device, float], Reading],
        listen: Callable[[], None],
        leases: LockFolder,
        faults: Faults,
    ) -> None:
        self._devices = devices
        self._read = read
        self._listen = listen
        self._leases = leases
        self._faults = faults
        self._looked: dict[str, tuple[Reading, str, str]] = {}  # device -> reading, and what it shows
        self._since: dict[tuple[str, str], float] = {}

    def failing(self, device: str) -> str:
        if (one := self._devices.get(device)) is None:
            return ""
        self._listen()
        reading = self._read(one, 0.0)
        return reading.trouble or self._faults.of(one.slot, reading.fault)

    def leave(self, *, yields: bool) -> dict[str, str]:
        self._listen()
        now, found, seen = time.monotonic(), {}, set()
        for device in self._devices.values():
            away, others = self._look(device)
            for kind, why in (("away", away), ("others", others if yields else "")):
                if why:
                    seen.add((device.id, kind))
                    if now - self._since.setdefault((device.id, kind), now) >= PATIENCE:
                        found[device.id] = why
        for key in self._since.keys() - seen:
            del self._since[key]
        return found

    def take_out(self, device: str, why: str, sweep: str) -> bool:
        if (one := self._devices.get(device)) is None or one.kind == "cpu":
            return False
        self._faults.take_out(one.slot, why, sweep)
        return True

    def _look(self, device: Device) -> tuple[str, str]:
        """Why the device is away, and who computes on it without a lease, by its newest reading."""
        reading = self._read(device, float("inf"))
        before = self._looked.get(device.id)
        if before is None or before[0] is not reading:
            foreign = strangers(reading.pids, self._leases.of_device(device.slot)) if reading.pids else []
            others = f"{people(foreign)} on its device without a lease" if foreign else ""
            before = self._looked[device.id] = reading, reading.trouble if reading.gone else "", others
        return before[1:]
