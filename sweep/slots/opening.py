"""From `devices` of space.yaml to a pool: which devices are meant, which are there, which this user may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweep.errors import DeviceError
from sweep.slots import cpu
from sweep.slots.choice import count, doubtful_numbers, named, there_are, visible, which
from sweep.slots.gate import open_leases
from sweep.slots.leases import Leases
from sweep.slots.pool import Pool
from sweep.slots.provider import Device
from sweep.slots.vendors import VENDORS, Vendor

if TYPE_CHECKING:
    from sweep.config import model as config


def open_pool(
    devices: config.Devices,
    slots_per_device: int | Literal["auto"],
    environ: Mapping[str, str],
    lock_dir: Path | None = None,
    sweep: str | None = None,
    per_trial: int = 1,
) -> Pool:
    """The slots that `devices` of space.yaml asks for.

    slots_per_device: of a GPU; a CPU share is one slot. "auto": see `Pool.share`. sweep: id of a sweep that may
    still hold leases from an earlier controller: where a count of GPUs is asked for, those come first. per_trial:
    devices that a trial gets. Raises DeviceError for what is not there, and for a lock folder that cannot be used.
    """
    leases = open_leases(environ, lock_dir)

    def of(vendor: Vendor) -> Pool:
        return _device_pool(vendor, devices, slots_per_device, environ, leases, sweep, per_trial)

    if devices.kind == "cpu":
        return _wide_enough(_cpu_pool(devices.count, leases, "", per_trial))
    if devices.kind != "auto":
        return _wide_enough(of(VENDORS[devices.kind]))
    lacking = []
    for vendor in VENDORS.values():
        if vendor.likely:
            try:
                pool = of(vendor)
            except DeviceError as error:
                lacking.append(error.message)
            else:
                return _wide_enough(pool)
    return _wide_enough(_cpu_pool(devices.count, leases, "; ".join(lacking), per_trial))


def _wide_enough(pool: Pool) -> Pool:
    """Raises DeviceError, and closes it, where no trial could ever get all its devices."""
    number, there = pool.per_trial, {slot.device for slot in pool.slots}
    if why := pool.never(number):
        pass
    elif number > len(there):
        why = f"but there {'is' if len(there) == 1 else 'are'} {len(there)}"
    elif number > 1 and any(device.startswith("MIG-") for device in there):
        why = "but CUDA gives a process one MIG instance at most"
    if why:
        pool.close()
        raise DeviceError(f"{number} devices at once wanted, {why}", hint=f"found: {pool.said}")
    return pool


def _permitted(devices: Sequence[Device], leases: Leases, noun: str) -> list[Device]:
    """Those that this user may have. Raises DeviceError where there are some, and not one of them."""
    mine = [device for device in devices if leases.permits(device)]
    if devices and not mine:
        raise DeviceError(
            f"the policy of this machine gives you no {noun}: {leases.policy}",
            hint="`sweep devices` shows what you may have",
        )
    return mine


def _cpu_pool(wanted: int | None, leases: Leases, no_gpu: str, per_trial: int) -> Pool:
    """no_gpu: why there is no GPU to use; empty where the CPU was the user's own choice."""
    _permitted(cpu.Cpu(1).devices(), leases, "CPU share")
    cores = cpu.cores()
    slots = wanted or cpu.shares()
    threads = max(1, cores // slots)
    if slots > cores:
        said = f"{count(slots, 'CPU slot')} share {count(cores, 'core')}, one thread each"
    else:
        said = f"{count(slots, 'CPU slot')} of {count(threads, 'core')}{' each' if slots > 1 else ''}"
    if no_gpu:
        said = f"{no_gpu[0].upper()}{no_gpu[1:]}: {said}"
    if wanted is None:
        said += "; set `devices: cpu:N` to change it"
    if per_trial > 1:
        said += f"; a trial takes {per_trial} of them"
    if leases.policy:
        said += f"; {leases.policy}"
    provider = cpu.Cpu(slots, hide=() if no_gpu else [vendor.variable for vendor in VENDORS.values()])
    return Pool(
        provider,
        provider.devices(),
        leases,
        slots_per_device=1,
        threads=threads,
        said=said + ".",
        per_trial=per_trial,
    )


def _device_pool(
    vendor: Vendor,
    wanted: config.Devices,
    slots_per_device: int | Literal["auto"],
    environ: Mapping[str, str],
    leases: Leases,
    sweep: str | None,
    per_trial: int,
) -> Pool:
    with ExitStack() as undo:
        provider = vendor.open()
        undo.callback(provider.close)
        here = provider.devices()
        seen = visible(here, environ, vendor.variable)
        shown = _permitted(seen, leases, vendor.noun)
        if not shown:
            hiding = f'{vendor.variable}="{environ[vendor.variable]}"'
            raise DeviceError(
                f"no {vendor.noun} found ({hiding} shows none of {len(here)})",
                hint="unset it, or set it to numbers or UUIDs that `sweep devices` lists",
            )
        threads = max(1, cpu.cores() // len(here))

        def cut(devices: Sequence[Device], said: str) -> Pool:
            return Pool(
                provider,
                devices,
                leases,
                slots_per_device=slots_per_device,
                threads=threads,
                said=said,
                free_memory=wanted.free_memory,
                per_trial=per_trial,
            )

        if wanted.ids is not None:
            chosen = named(wanted.ids, seen, here, vendor)
            for device in chosen:
                _permitted([device], leases, f"{vendor.noun} {device.index}")
        elif wanted.count is None:
            chosen = shown
        elif wanted.count <= len(shown):
            chosen = cut(shown, "").fewer(wanted.count, sweep)
        else:
            raise DeviceError(
                f"{count(wanted.count, vendor.noun)} wanted, but {there_are(shown)}",
                hint=f"`devices: {vendor.kind}` takes all there are; `slots_per_device` shares one among trials",
            )
        if slots_per_device == "auto":
            each = "as many trials on each as fit"
        else:
            share = max(1, threads // slots_per_device)
            each = f"{count(slots_per_device, 'slot')} each with {count(share, 'CPU thread')}"
        said = [f"{which(chosen, here)}, {each}"]
        if per_trial > 1:
            said.append(f"a trial takes {count(per_trial, vendor.noun)}")
        if vendor.kind == "gpu" and doubtful_numbers(here, environ):
            said.append("numbers in CUDA_VISIBLE_DEVICES are read as nvidia-smi's (CUDA_DEVICE_ORDER=PCI_BUS_ID)")
        pool = cut(chosen, "; ".join(filter(None, [*said, leases.policy, *provider.left_out])) + ".")
        undo.pop_all()
        return pool
