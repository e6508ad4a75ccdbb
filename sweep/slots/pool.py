"""The slots of this machine for one sweep: which there are, who holds them, what they are doing.

A device is offered if its lease is free (leases.py), it answers, and nobody else computes on it (foreign.py). The
lease comes first: it costs microseconds, a reading milliseconds. What a device says is believed for FRESH seconds,
that somebody else is on it for REFUSED seconds, that it is in trouble for RETRY seconds, so that many slots cost
one reading a device, and what cannot be had is not asked for at every turn of the controller's loop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import DeviceError
from sweep.ports import Slot
from sweep.slots import cpu
from sweep.slots.choice import count, doubtful_numbers, named, there_are, visible, which
from sweep.slots.foreign import strangers
from sweep.slots.leases import Leases, describe, lock_folder, user_name
from sweep.slots.provider import Device, Provider, Reading
from sweep.slots.turns import Turns

if TYPE_CHECKING:
    from sweep.config import model as config

FRESH = 0.3
GLANCE = 0.05  # seconds that the line of those who wait is believed
REFUSED = 2.0
RETRY = 5.0
# More memory than an idle GPU has in use, less than the smallest CUDA context takes.
IDLE_MEMORY = 64 << 20


class Pool:
    """`ports.Devices`, concretely. said: one sentence of what was found and chosen."""

    def __init__(
        self,
        provider: Provider,
        devices: Sequence[Device],
        leases: Leases,
        *,
        slots_per_device: int,
        threads: int,
        said: str,
    ) -> None:
        self.said = said
        self._provider = provider
        self._leases = leases
        self._turns = Turns(leases.folder / "waiting")
        self._line: Collection[str] = ()
        self._asked = 0.0
        self._devices = {device.id: device for device in devices}
        self._reading = threading.Lock()  # `measure` is called from a thread of its own
        self._readings: dict[str, tuple[float, Reading]] = {}
        self._refusals: dict[str, tuple[str, Reading | None]] = {}  # device -> why, and what it rests on
        self.slots = [
            Slot(
                id=device.slot if slots_per_device == 1 else f"{device.slot}.{share}",
                device=device.id,
                kind=device.kind,
                index=device.index,
                name=device.name,
                env={**provider.pin(device), **cpu.thread_limits(threads)},
                threads=threads,
                memory=device.memory,
            )
            for device in devices
            for share in range(slots_per_device)
        ]

    @property
    def trouble(self) -> dict[str, str]:
        """device -> why it cannot be read, or was refused at the last try although its lease is free: in words."""
        with self._reading:
            silent = {
                device: reading.trouble for device, (_, reading) in self._readings.items() if reading.trouble
            }
        return {**{device: words for device, (words, _) in self._refusals.items()}, **silent}

    def acquire(self, slot: Slot, holder: Mapping[str, Any]) -> int | None:
        """See `ports.Devices`. `user`, `pid` and `since` are added to the holder's facts where it has none."""
        if slot.id in self._longer_waiting():
            self._turns.wait(one.id for one in self.slots)
            return None
        lease = self._acquire(slot, holder)
        if lease is None:
            self._turns.wait(one.id for one in self.slots)
        else:
            self._turns.leave()
        return lease

    def rest(self) -> None:
        """No slot is wanted for now."""
        self._turns.leave()

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
                if not self._usable(self._devices[slot.device]):
                    return None
                own = {"user": user_name(os.geteuid()), "pid": os.getpid(), "since": time.time()}
                describe(lease, {**own, **holder})
                undo.pop_all()
                return lease
            except OSError as error:
                words = f"its lock file {error.filename or slot.id} cannot be used: {error.strerror}"
                self._refusals[slot.device] = words, None
                return None

    def holder(self, slot: Slot) -> dict[str, Any] | None:
        """Who holds the slot, as told to `acquire`; empty if they have not said; None if it is free."""
        with suppress(OSError):
            held = self._leases.look(slot.id)
            return held.facts if held else None
        return None

    def foreign(self, device: str) -> list[int]:
        """The processes that compute on the device without a lease of it."""
        return self._strangers(self._devices[device], self._read(self._devices[device], FRESH))

    def measure(self) -> dict[str, dict[str, float]]:
        readings = {device.id: self._read(device, FRESH) for device in self._devices.values()}
        return {device: reading.numbers for device, reading in readings.items() if reading.numbers}

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

        best = sorted(self._devices.values(), key=engaged)[:number]
        return sorted(best, key=lambda device: device.index)

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
            return reading

    def _usable(self, device: Device) -> bool:
        """Whether it answers and nobody else is on it; if not, `trouble` says why."""
        _, grounds = self._refusals.get(device.id, ("", None))
        reading = self._read(device, REFUSED if grounds else FRESH)
        if reading is grounds:
            return False
        self._refusals.pop(device.id, None)
        words = self._others(device, reading)
        if words and not grounds:
            # A first refusal rests on this moment: an earlier reading may show a trial that has ended since.
            reading = self._read(device, 0)
            words = self._others(device, reading)
        if words:
            self._refusals[device.id] = words, reading
        return not words and not reading.trouble

    def _others(self, device: Device, reading: Reading) -> str:
        """Who uses the device without a lease of it: words, or nothing."""
        if reading.pids is None:
            used = int(reading.numbers.get("memory_used", 0))
            # Who uses it cannot be told. While another share is leased it may well be that one.
            alone = len(self._leases.of_device(device.slot)) <= 1
            return f"{used >> 20} MiB of its memory are in use" if used > IDLE_MEMORY and alone else ""
        others = self._strangers(device, reading)
        return f"{_people(others)} on it without a lease" if others else ""

    def _strangers(self, device: Device, reading: Reading) -> list[int]:
        return strangers(reading.pids, self._leases.of_device(device.slot)) if reading.pids else []


def open_pool(
    devices: config.Devices,
    slots_per_device: int,
    environ: Mapping[str, str],
    lock_dir: Path | None = None,
    sweep: str | None = None,
) -> Pool:
    """The slots that `devices` of space.yaml asks for.

    slots_per_device: of a GPU; a CPU share is one slot. sweep: id of a sweep that may still hold leases from an
    earlier controller: where a count of GPUs is asked for, those come first. Raises DeviceError for what is not
    there, and for a lock folder that cannot be used.
    """
    leases = Leases(lock_dir or lock_folder(environ))
    if devices.kind == "cpu":
        return _cpu_pool(devices.count, leases, no_gpu="")
    try:
        return _gpu_pool(devices, slots_per_device, environ, leases, sweep)
    except DeviceError as error:
        if devices.kind == "gpu":
            raise
        return _cpu_pool(devices.count, leases, no_gpu=error.message)


def _cpu_pool(wanted: int | None, leases: Leases, no_gpu: str) -> Pool:
    """no_gpu: why there is no GPU to use; empty where the CPU was the user's own choice."""
    cores = cpu.cores()
    slots = wanted or min(cores, 4)
    threads = max(1, cores // slots)
    if slots > cores:
        said = f"{count(slots, 'CPU slot')} share {count(cores, 'core')}, one thread each"
    else:
        said = f"{count(slots, 'CPU slot')} of {count(threads, 'core')}{' each' if slots > 1 else ''}"
    if no_gpu:
        said = f"{no_gpu[0].upper()}{no_gpu[1:]}: {said}"
    if wanted is None:
        said += "; set `devices: cpu:N` to change it"
    provider = cpu.Cpu(slots, hide_gpus=not no_gpu)
    return Pool(provider, provider.devices(), leases, slots_per_device=1, threads=threads, said=said + ".")


def _gpu_pool(
    wanted: config.Devices, slots_per_device: int, environ: Mapping[str, str], leases: Leases, sweep: str | None
) -> Pool:
    from sweep.slots.nvidia import Nvidia

    with ExitStack() as undo:
        provider = Nvidia()
        undo.callback(provider.close)
        here = provider.devices()
        shown = visible(here, environ)
        if not shown:
            hiding = f'CUDA_VISIBLE_DEVICES="{environ["CUDA_VISIBLE_DEVICES"]}"'
            raise DeviceError(
                f"no GPU found ({hiding} shows none of {len(here)})",
                hint="unset it, or set it to numbers or UUIDs that `nvidia-smi -L` lists",
            )
        threads = max(1, cpu.cores() // (len(here) * slots_per_device))

        def cut(devices: Sequence[Device], said: str) -> Pool:
            return Pool(provider, devices, leases, slots_per_device=slots_per_device, threads=threads, said=said)

        if wanted.ids is not None:
            chosen = named(wanted.ids, shown, here)
        elif wanted.count is None:
            chosen = shown
        elif wanted.count <= len(shown):
            chosen = cut(shown, "").fewer(wanted.count, sweep)
        else:
            raise DeviceError(
                f"{count(wanted.count, 'GPU')} wanted, but {there_are(shown)}",
                hint="`devices: gpu` takes all there are; `slots_per_device` shares one among trials",
            )
        each = f"{count(slots_per_device, 'slot')} each with {count(threads, 'CPU thread')}"
        said = [f"{which(chosen, here)}, {each}"]
        if doubtful_numbers(here, environ):
            said.append("numbers in CUDA_VISIBLE_DEVICES are read as nvidia-smi's (CUDA_DEVICE_ORDER=PCI_BUS_ID)")
        pool = cut(chosen, "; ".join([*said, *provider.left_out]) + ".")
        undo.pop_all()
        return pool


def _people(pids: Sequence[int]) -> str:
    """Words for processes: who computes."""
    words = []
    for pid in pids:
        try:
            words.append(f"process {pid} of {user_name(Path(f'/proc/{pid}').stat().st_uid)}")
        except OSError:
            words.append(f"process {pid}")
    return f"{' and '.join(words)} {'computes' if len(words) == 1 else 'compute'}"
