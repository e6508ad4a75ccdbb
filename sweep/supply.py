"""Slots for the controller: leases as many as its trials could use now, and keeps those that wait for a trial."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator

from sweep.core.blame import doubted
from sweep.core.model import JOINT, Sweep
from sweep.ports import Devices, Slot
from sweep.slots.bundle import together

PROBE = 0.25  # seconds between two tries of slots that somebody else holds
EACH = 0.002  # more where there are many: a try costs 20 us, and waiting shall cost no more than 1 % of a core


class Supply:
    """`note` is told what a person should know: a device that is held back."""

    def __init__(self, devices: Devices, note: Callable[[str], None]) -> None:
        self._devices = devices
        self._note = note
        self._leased: dict[str, tuple[Slot, list[int]]] = {}
        self._blocked: Collection[str] = ()  # what this sweep held when it last got no several devices at once
        self._foreign: set[str] = set()  # slots that somebody else held at the last try
        self._next_probe = 0.0
        self._trouble: dict[str, str] = {}
        self._barred: set[str] = set()

    def lease(self, sweep: Sweep, now: float) -> Iterator[Slot]:
        """Slots newly leased; each is to become an offer before the next is asked for. now: monotonic."""
        if not sweep.demand():
            self._devices.rest()
            return
        self._devices.priority = sweep.rules.priority
        probing = now >= self._next_probe
        if probing:
            self._next_probe = now + max(PROBE, EACH * len(self._devices.slots))
        if self._devices.per_trial > 1:
            yield from self._several(sweep, probing)
            return
        doubtful = doubted(sweep)
        slots = self._devices.whole if sweep.wants_whole() else self._devices.slots
        for slot in sorted(slots, key=lambda slot: slot.device in doubtful) if doubtful else slots:
            if slot.id in sweep.held or slot.id in self._leased or (slot.id in self._foreign and not probing):
                continue
            lease = self._devices.acquire(slot, {"sweep": sweep.id})
            if lease is None:
                self._foreign.add(slot.id)
                continue
            self._foreign.discard(slot.id)
            self._leased[slot.id] = slot, [lease]
            yield slot
            if not sweep.demand():
                return

    def _several(self, sweep: Sweep, probing: bool) -> Iterator[Slot]:
        """Slots of several devices each, made of whichever are free; tried anew when one of its own has ended."""
        while sweep.demand() and (probing or self._blocked != sweep.held.keys()):
            # the lease of an attempt is free a moment before its end is known here
            held = [one for slot in sweep.held for one in slot.split(JOINT)]
            members = self._devices.acquire_all(self._devices.per_trial, {"sweep": sweep.id}, held)
            if members is None:
                self._blocked = frozenset(sweep.held)
                return
            slot = together([one for one, _ in members])
            self._leased[slot.id] = slot, [lease for _, lease in members]
            yield slot

    def patience(self, sweep: Sweep) -> float | None:
        """When to try again (monotonic), if something is wanted that could be had."""
        return self._next_probe if sweep.demand() else None

    def take(self, slot: str) -> tuple[Slot, list[int]]:
        """A leased slot with its leases, which are the caller's from now on."""
        return self._leased.pop(slot)

    def give_back(self, slot: str) -> None:
        for lease in self._leased.pop(slot)[1]:
            os.close(lease)

    def look(self) -> None:
        """Says of devices why they are held back, when that is new, and each reason of a policy once."""
        if (bar := self._devices.bar) and bar not in self._barred:
            self._barred.add(bar)
            self._note(bar)
        trouble = dict(self._devices.trouble)
        for device in trouble.keys() - self._trouble.keys():
            self._note(f"{device} is not used: {trouble[device]}")
        for device in self._trouble.keys() - trouble.keys():
            self._note(f"{device} is not held back any more")
        self._trouble = trouble

    def close(self) -> None:
        for slot in list(self._leased):
            self.give_back(slot)
