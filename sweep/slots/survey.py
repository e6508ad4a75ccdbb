"""Every device of this machine as it is now, whoever uses it: for `sweep devices`.

It looks and touches nothing: no lease is taken, no folder is made, and the lock files say who holds what.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config.policy import FILE, allowance
from sweep.errors import DeviceError
from sweep.slots import cpu
from sweep.slots.choice import visible
from sweep.slots.faults import Faults
from sweep.slots.foreign import strangers
from sweep.slots.gate import machine_folder
from sweep.slots.health import OK, Health, HeldBack, judge
from sweep.slots.leases import Held, LockFolder
from sweep.slots.provider import Device, Provider, Reading
from sweep.slots.vendors import VENDORS

_CPU_SHARE = re.compile(r"cpu-\d{1,4}")
_LEASE = re.compile(rf"(?:{'|'.join(VENDORS)})-[\w-]+")
MOST_SHARES = 256  # that a lock file is believed to tell of
RECENT = 10.0  # seconds after which the word of who was refused means nothing


@dataclass(frozen=True)
class Place:
    """A slot. holder: what its lock file says; empty if it does not say; None if the slot is free."""

    slot: str
    holder: dict[str, Any] | None


@dataclass(frozen=True)
class Standing:
    """How one device stands. foreign: pids that compute on it without a lease."""

    device: Device
    reading: Reading
    health: Health
    foreign: list[int]
    places: list[Place]


class Survey:
    """`look` again and again; drivers are started once. no_gpu: why there is no GPU, where there is no device.

    left_out: devices that a driver counts but cannot name, and tools that are there but of no use, in words.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path | None = None) -> None:
        self._allowed = allowance()
        self._locks = LockFolder(folder or machine_folder(environ, self._allowed))
        self.faults = Faults(self._locks.folder)
        self._providers: dict[str, Provider] = {}  # by the kind of their devices
        self._shown: dict[str, list[str]] = {}
        self.left_out: list[str] = []
        lacking: dict[str, str] = {}
        for vendor in VENDORS.values():
            if not vendor.likely:
                continue
            try:
                provider = self._providers[vendor.kind] = vendor.open()
            except DeviceError as error:
                lacking[vendor.kind] = error.message
            else:
                self.left_out += provider.left_out
                self._shown[vendor.kind] = [
                    device.id
                    for device in visible(provider.devices(), environ, vendor.variable)
                    if self._permitted(device)
                ]
        no_gpu = lacking.pop("gpu", "")
        self.no_gpu = "" if self._providers else no_gpu
        self.left_out += lacking.values()

    @property
    def auto(self) -> list[str]:
        """The devices that `devices: auto` takes here."""
        shown = next(filter(None, self._shown.values()), [])
        return shown or [f"cpu-{share}" for share in range(cpu.shares())]

    def look(self) -> list[Standing]:
        """Devices by number; CPU shares where `auto` would take them, or somebody has them; leases of others."""
        names = self._locks.names()
        devices = [self._device(device) for one in self._providers.values() for device in one.devices()]
        known = {standing.device.slot for standing in devices}
        found = {*self.auto, *(name for name in names if _CPU_SHARE.fullmatch(name) and self._held(name))}
        shares = sorted(int(name[4:]) for name in found if _CPU_SHARE.fullmatch(name))
        return [*devices, *map(self._share, shares), *self._unseen(names, known)]

    def close(self) -> None:
        for provider in self._providers.values():
            provider.close()

    @property
    def policy(self) -> str:
        """What the policy of this machine lets this user have, in words; empty where all is allowed."""
        return self._allowed.words() if self._allowed else ""

    def _permitted(self, device: Device) -> bool:
        return self._allowed is None or self._allowed.permits(device.kind, device.index, device.id)

    def _device(self, device: Device) -> Standing:
        reading = self._providers[device.kind].measure(device)
        leases = self._locks.of_device(device.slot)
        foreign = strangers(reading.pids, leases) if reading.pids else []
        fault = self.faults.of(device.slot, reading.fault)
        health = judge(reading, foreign, alone=not leases, free_memory=None, fault=fault)
        if health.word == "quarantined":
            health = health._replace(why=HeldBack.anew(health, self._left_word(device), time.time()).why)
        if health == OK and not self._permitted(device):
            health = Health("hidden", f"{FILE} keeps it from you")
        if health == OK and device.id not in self._shown[device.kind]:
            health = Health("hidden", f"{VENDORS[device.kind].variable} hides it from you")
        return Standing(device, reading, health, foreign, self._places(device.slot))

    def _places(self, whole: str) -> list[Place]:
        """The device as a whole, unless somebody has cut it: then every share of it."""
        if (held := self._held(whole)) is not None:
            return [Place(whole, held.facts)]
        taken = {name: held for name in self._locks.shares(whole) if (held := self._held(name))}
        if not taken:
            return [Place(whole, None)]
        said = [held.facts.get("shares") for held in taken.values()]
        number = max([one for one in said if isinstance(one, int)], default=0)
        every = {f"{whole}.{share}" for share in range(min(number, MOST_SHARES))} | taken.keys()
        order = sorted(every, key=lambda name: (len(name), name))
        return [Place(name, taken[name].facts if name in taken else None) for name in order]

    def _share(self, number: int) -> Standing:
        device = cpu.Cpu(number + 1).devices()[number]
        held = self._held(device.slot)
        return Standing(device, Reading(), OK, [], [Place(device.slot, held.facts if held else None)])

    def _unseen(self, names: Sequence[str], known: set[str]) -> list[Standing]:
        """Leases of devices that cannot be seen from here, as from a container that was given others."""
        wholes = {name.partition(".")[0] for name in names} - known
        found = []
        for whole in sorted(name for name in wholes if _LEASE.fullmatch(name)):
            places = self._places(whole)
            if any(place.holder is not None for place in places):
                kind = whole[:3]
                uuid = f"{kind.upper()}-{whole[4:]}"
                health = Health("unreadable", "it cannot be seen from here; its lease is held")
                found.append(Standing(Device(uuid, whole, kind, -1, ""), Reading(), health, [], places))
        return found

    def _held(self, name: str) -> Held | None:
        with suppress(OSError):
            return self._locks.look(name)
        return None

    def _left_word(self, device: Device) -> dict[str, Any]:
        for name in (device.slot, *self._locks.shares(device.slot)):
            with suppress(OSError):
                if said := self._locks.left_word(name):
                    return said
        return {}


def held_back(environ: Mapping[str, str]) -> list[tuple[str, HeldBack]]:
    """The free slots that somebody who wants them has found unfit in the last seconds; asks no driver."""
    found: list[tuple[str, HeldBack]] = []
    try:
        locks = LockFolder(machine_folder(environ, allowance()))
    except DeviceError:
        return found  # whoever leases is told
    for name in sorted(locks.names()):
        with suppress(OSError):
            word = HeldBack.read(locks.left_word(name))
            if word and not word.settling and 0 <= time.time() - word.at < RECENT:
                found.append((name, word))
    return found
