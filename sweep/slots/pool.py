"""The slots of this machine for one sweep: which there are, who holds them, what they are doing.

A device is offered if its lease is free (leases.py), it answers, nobody else computes on it (foreign.py), and its
memory is free (health.py): what an attempt leaves behind, or a stranger whose pid cannot be seen, holds it back.
The lease comes first: it costs microseconds, a reading milliseconds. What a device says is believed for FRESH
seconds, that it is unfit for REFUSED seconds, that it is in trouble for RETRY seconds, so that many slots cost one
reading a device, and what cannot be had is not asked for at every turn of the controller's loop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from sweep.core.model import SHARE
from sweep.ports import Slot
from sweep.slots import cpu
from sweep.slots.bundle import neighbours
from sweep.slots.faults import Faults
from sweep.slots.foreign import strangers
from sweep.slots.health import OK, Health, HeldBack, judge
from sweep.slots.leases import Leases, describe, user_name
from sweep.slots.provider import Device, Provider, Reading
from sweep.slots.turns import Turns
from sweep.slots.ward import Ward

log = logging.getLogger("sweep.slots")

FRESH = 0.3
GLANCE = 0.05  # seconds that the line of those who wait is believed
REFUSED = 2.0
RETRY = 5.0


@dataclass(frozen=True)
class _Refusal:
    """grounds: the reading that it rests on. word: what was written into the slot's file, if anything."""

    health: Health
    grounds: Reading | None = None
    word: HeldBack | None = None

    @property
    def settling(self) -> bool:
        """Whether it will probably pass by itself, and soon."""
        return self.health.word == "quarantined" and self.word is not None and self.word.settling


class Pool:
    """`ports.Devices`, concretely. said: one sentence of what was found and chosen. free_memory: see `judge`.

    per_trial: how many devices a trial gets. threads: of a device, for all its slots. auto: whether the number of
    slots changes, by `share`. whole: a slot of each whole device.
    """

    def __init__(
        self,
        provider: Provider,
        devices: Sequence[Device],
        leases: Leases,
        *,
        slots_per_device: int | Literal["auto"],
        threads: int,
        said: str,
        free_memory: float | None = None,
        per_trial: int = 1,
    ) -> None:
        self.said = said
        self.per_trial = per_trial
        self._free_memory = free_memory
        self.auto = slots_per_device == "auto"
        self._threads = threads
        self._provider = provider
        self._leases = leases
        self._turns = Turns(leases.folder / "waiting")
        self._line: Collection[str] = ()
        self._asked = self._shown = 0.0
        self._devices = {device.id: device for device in devices}
        self._faults = Faults(leases.folder)
        self.bar = ""
        self.ward = Ward(self._devices, self._read, self._listen, leases, self._faults)
        self._reading = threading.Lock()  # `measure` is called from a thread of its own
        self._heard = 0.0
        self._readings: dict[str, tuple[float, Reading]] = {}
        self._refusals: dict[str, _Refusal] = {}  # by device
        self._ways: dict[tuple[str, str], int] = {}  # between two devices
        self.whole = [self._slot(device, device.slot, threads) for device in devices]
        if slots_per_device == 1:
            self._shares, self.slots = 1, self.whole
        else:
            self.share(1 if slots_per_device == "auto" else slots_per_device)

    def _slot(self, device: Device, name: str, threads: int) -> Slot:
        return Slot(
            id=name,
            device=device.id,
            kind=device.kind,
            index=device.index,
            name=device.name,
            env={**self._provider.pin(device), **cpu.thread_limits(threads)},
            threads=threads,
            memory=device.memory,
        )

    def share(self, number: int) -> None:
        """So many slots a device from now on, every device's first share before any second; leases stay."""
        self._shares = number
        each, devices = max(1, self._threads // number), self._devices.values()
        self.slots = [
            self._slot(device, f"{device.slot}{SHARE}{k}", each) for k in range(number) for device in devices
        ]

    @property
    def trouble(self) -> dict[str, str]:
        """device -> why it cannot be read, or was refused at the last try although its lease is free: in words."""
        with self._reading:
            silent = {
                device: reading.trouble for device, (_, reading) in self._readings.items() if reading.trouble
            }
        said = {device: (one.word or one.health).why for device, one in self._refusals.items() if not one.settling}
        return {**said, **silent}

    def acquire(self, slot: Slot, holder: Mapping[str, Any]) -> int | None:
        """See `ports.Devices`. `user`, `pid` and `since` are added to the holder's facts where it has none."""
        if self._barred(1, slot.id):
            return None
        if self._waited_for(slot.id):
            self._wait()
            return None
        lease = self._acquire(slot, holder)
        if lease is not None:
            self._turns.leave()
        elif not self._barred(1, slot.id):  # which may have come to light just now
            self._wait()
        return lease

    def acquire_all(
        self, number: int, holder: Mapping[str, Any], but: Collection[str] = ()
    ) -> list[tuple[Slot, int]] | None:
        """Slots of so many devices, near to one another, with their leases; or none, and a place in the line.

        Nothing is kept while it waits, so that two who want several cannot block each other; the older ticket
        keeps the younger from taking what is free meanwhile.
        """
        self._listen()  # who waits for long must not take for news what happened long ago
        if self._barred(number):
            return None
        free: dict[str, Slot] = {}  # by device
        for slot in self.slots:
            barred = slot.id in but or self._waited_for(slot.id)
            if slot.device not in free and not barred and self.holder(slot) is None:
                free[slot.device] = slot
        while len(free) >= number:
            group = neighbours(list(free), number, self._apart)
            taken: list[tuple[Slot, int]] = []
            for device in group:
                lease = self._acquire(free[device], holder)
                if lease is None:
                    del free[device]
                    break
                taken.append((free[device], lease))
            else:
                self._turns.leave()
                return taken
            for _, lease in taken:
                os.close(lease)
        if not self._barred(number):
            self._wait()
        return None

    def _apart(self, one: str, other: str) -> int:
        pair = (min(one, other), max(one, other))
        if pair not in self._ways:
            self._ways[pair] = self._provider.apart(*(self._devices[device] for device in pair))
        return self._ways[pair]

    @property
    def priority(self) -> int:
        return self._turns.priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._turns.priority = priority

    def never(self, number: int) -> str:
        """Why a trial could never have so many devices; empty if it could."""
        return self._leases.never(number)

    def _barred(self, number: int, slot: str = "") -> bool:
        """Whether a policy forbids it now; then nobody has to wait behind us for what we may not have."""
        self.bar = self._leases.barred(number, slot)
        if self.bar:
            self._turns.leave()
        return bool(self.bar)

    def _wait(self) -> None:
        """For what this pool would take: it may be more particular than others, who need not wait for the rest."""
        now = time.monotonic()
        if self._turns.waits and now - self._shown < GLANCE:  # one look tries many slots
            return
        self._shown = now
        refused = {device for device, refusal in self._refusals.items() if not refusal.settling}
        wanted = (one.id for one in self.slots if one.device not in refused)
        self._turns.wait(wanted, (self._shares, refused))

    def rest(self) -> None:
        """No slot is wanted for now."""
        self._turns.leave()

    def _waited_for(self, slot: str) -> bool:
        """Whether somebody before us in the line waits for it, or for what excludes it: the whole, or a share."""
        line = self._longer_waiting()
        whole, share, _ = slot.partition(SHARE)
        return slot in line or (whole in line if share else any(one.startswith(f"{slot}{SHARE}") for one in line))

    def _longer_waiting(self) -> Collection[str]:
        now = time.monotonic()
        if now - self._asked > GLANCE:
            self._line, self._asked = self._turns.of_others(), now
        return self._line

    def _acquire(self, slot: Slot, holder: Mapping[str, Any]) -> int | None:
        with ExitStack() as undo:
            try:
                lease = self._leases.acquire(slot.id)
                if lease is None:
                    self._refusals.pop(slot.device, None)
                    return None
                undo.callback(os.close, lease)
                before = self._leases.last_words
                # What was read while somebody else had it says nothing about what they have left behind.
                used = bool(before) and HeldBack.read(before) is None
                if not self._usable(self._devices[slot.device], anew=used):
                    self._leave_word(lease, slot.device, before)
                    return None
                own = {"user": user_name(os.geteuid()), "pid": os.getpid(), "since": time.time()}
                describe(lease, {**own, "shares": self._shares, **holder})
                undo.pop_all()
                return lease
            except OSError as error:
                words = f"its lock file {error.filename or slot.id} cannot be used: {error.strerror}"
                self._refusals[slot.device] = _Refusal(Health("unreadable", words))
                return None

    def _leave_word(self, lease: int, device: str, before: Mapping[str, Any]) -> None:
        """Says in a lock file that is given back at once why, for `sweep devices` and the next who tries."""
        if refusal := self._refusals.get(device):
            word = HeldBack.anew(refusal.health, before, time.time())
            self._refusals[device] = replace(refusal, word=word)
            describe(lease, word.facts())

    def holder(self, slot: Slot) -> dict[str, Any] | None:
        """Who holds the slot, or what excludes it, as told to `acquire`; empty if unsaid; None if it is free."""
        with suppress(OSError):
            for name in (slot.id, *self._leases.rivals(slot.id)):
                if held := self._leases.look(name):
                    return held.facts
        return None

    def measure(self) -> dict[str, dict[str, float]]:
        found = {}
        for device in self._devices.values():
            if numbers := self._read(device, FRESH).numbers:
                holders = {"holders": float(len(self._leases.of_device(device.slot)))} if self.auto else {}
                found[device.id] = {**numbers, **holders}
        return found

    def close(self) -> None:
        """Leases outlive it: they end with their descriptors."""
        self._turns.leave()
        self._provider.close()

    def fewer(self, number: int, sweep: str | None) -> list[Device]:
        """So many of the devices: first those that this sweep holds already, then those that are free."""

        def engaged(device: Device) -> int:
            held = self._leases.of_device(device.slot)
            if sweep is not None and any(lease.facts.get("sweep") == sweep for lease in held):
                return 0
            return 2 if held or not self._usable(device) else 1

        ranks = {device.id: engaged(device) for device in self._devices.values()}
        last = sorted(ranks.values())[number - 1]
        best = [device for device, rank in ranks.items() if rank < last]
        alike = [device for device, rank in ranks.items() if rank == last]
        missing = number - len(best)
        best += alike[:missing] if self.per_trial == 1 else neighbours(alike, missing, self._apart)
        return sorted((self._devices[one] for one in best), key=lambda device: device.index)

    def _read(self, device: Device, age: float) -> Reading:
        """What the device said at most so many seconds ago."""
        with self._reading:
            now = time.monotonic()
            if device.id in self._readings:
                taken, reading = self._readings[device.id]
                if now - taken < (RETRY if reading.trouble else age):
                    return reading
            reading = self._provider.measure(device)
            self._readings[device.id] = now, reading
            if now - self._heard >= GLANCE:
                self._hear(now)
            return reading

    def _listen(self) -> None:
        """Takes out of service what something has befallen, for all who may not have heard of it."""
        with self._reading:
            self._hear(time.monotonic())

    def _hear(self, now: float) -> None:
        self._heard = now
        for device, why in self._provider.befallen().items():
            known = self._devices.get(device)
            if known is not None and not self._faults.of(known.slot):
                try:
                    self._faults.take_out(known.slot, why)
                except OSError as error:
                    log.warning("%s: %s; that cannot be written down: %s", device, why, error)

    def _usable(self, device: Device, *, anew: bool = False) -> bool:
        """Whether it answers and is fit for a trial; if not, `trouble` says why. anew: by what it says now."""
        refused = self._refusals.get(device.id)
        reading = self._read(device, 0 if anew else REFUSED if refused and not refused.settling else FRESH)
        if refused and reading is refused.grounds:
            return False
        health = self._health(device, reading)
        if health.word not in ("ok", "unreadable") and not refused:
            # A first refusal rests on this moment: an earlier reading may show a trial that has ended since.
            reading = self._read(device, 0)
            health = self._health(device, reading)
        self._refusals.pop(device.id, None)
        if health.word not in ("ok", "unreadable"):  # what cannot be read, its reading says
            self._refusals[device.id] = _Refusal(health, reading)
        return health == OK

    def _health(self, device: Device, reading: Reading) -> Health:
        leases = self._leases.of_device(device.slot)
        foreign = strangers(reading.pids, leases) if reading.pids else []
        # While another share is leased, memory in use may well be that one's.
        fault = self._faults.of(device.slot, reading.fault)
        return judge(reading, foreign, alone=len(leases) <= 1, free_memory=self._free_memory, fault=fault)
