"""Drivers, device files, and the devices that `devices: auto` would take."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.cli import words
from sweep.cli.doctor.finding import Finding
from sweep.errors import DeviceError
from sweep.slots.survey import Standing, Survey

_KERNEL = "proc/driver/nvidia/version"
_VERSION = re.compile(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s")
_NVIDIA = "0x10de"  # PCI vendor
_DISPLAY = "0x03"  # PCI class: display controllers, data-centre GPUs included
_NODES = re.compile(r"nvidia(\d+|ctl|-uvm)")


def nvidia(root: Path = Path("/")) -> Iterator[Finding]:
    """The driver's answer. Where nothing shows a GPU its silence is no fault. root: of /proc, /sys, /dev."""
    from sweep.slots.nvidia import Nvidia

    kernel = _kernel_module(root)
    driver = f"kernel module {kernel}; " if kernel else ""
    try:
        here = Nvidia()
    except DeviceError as error:
        if signs := _signs(root):
            yield Finding("nvidia", "bad", f"{driver}{error.message}, though there is {signs}", error.hint or "")
        else:
            yield Finding("nvidia", "ok", error.message)
    else:
        count = words.plural(len(here.devices()), "device")
        here.close()
        yield Finding("nvidia", "ok", f"{driver}the driver answers and shows {count}")
    yield from _device_files(root / "dev")


def devices(standings: Sequence[Standing], survey: Survey) -> Iterator[Finding]:
    """How each one stands, and what `devices: auto` takes."""
    yield from (_device(one) for one in standings if one.device.kind != "cpu")
    if any(one.reading.pids is None for one in standings):
        said = (
            "pids on the GPUs are the host's and mean nothing in this container: whoever uses one without a lease"
        )
        mend = "start the container with --pid=host, and give all that share GPUs one SWEEP_LOCK_DIR"
        yield Finding("devices", "warn", f"{said} is known by its memory alone", mend)
    for said in survey.left_out:
        yield Finding("devices", "warn", said, "`nvidia-smi` shows what the driver says of it")
    if survey.policy:
        yield Finding("devices", "ok", f"what you may have: {survey.policy}")
    taken = survey.auto
    if all(name.startswith("cpu-") for name in taken):
        shares = words.plural(len(taken), "CPU share")
        yield Finding("devices", "ok", f"`devices: auto` takes {shares}; `devices: cpu:N` changes that")
    else:
        yield Finding("devices", "ok", f"`devices: auto` takes {words.plural(len(taken), 'device')}")


def _device(standing: Standing) -> Finding:
    device, health = standing.device, standing.health
    name = f"{device.kind} {device.index} {device.name}".strip() if device.index >= 0 else device.id
    if health.word in ("ok", "hidden"):
        total = f", {words.size(device.memory)}" if device.memory else ""
        return Finding("devices", "ok", f"{name}{total}" + (f": {health.why}" if health.why else ""))
    mend = {
        "foreign": "it is used as soon as they are gone; `sweep devices` shows who",
        "failed": "when it was reset, or looked after: `sweep devices heal`",
        "quarantined": "look for who holds its memory: `nvidia-smi`, `fuser -v /dev/nvidia*`",
    }.get(health.word, "")
    return Finding("devices", "warn", f"{name}: {health.word}, {health.why}", mend)


def _kernel_module(root: Path) -> str:
    try:
        found = _VERSION.search((root / _KERNEL).read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def _signs(root: Path) -> str:
    """What shows that a GPU ought to work here, in words; empty where nothing does."""
    if (root / _KERNEL).exists():
        return "a driver in the kernel"
    for place in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = ((place / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            return f"an NVIDIA card on the bus, {place.name}"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ""
    return "a driver library, libnvidia-ml.so.1"


def _device_files(dev: Path) -> Iterator[Finding]:
    nodes = sorted(node for node in dev.glob("nvidia*") if _NODES.fullmatch(node.name))
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK, effective_ids=True)]
    if closed:
        names = ", ".join(map(str, closed))
        mend = "join the group that owns them (`ls -l /dev/nvidia*`; often video or render), then log in anew"
        yield Finding("device files", "bad", f"you may not use {names}", mend)
    elif nodes and not any(node.name == "nvidia-uvm" for node in nodes):
        said = f"{dev}/nvidia-uvm is not there: CUDA would not start"
        yield Finding("device files", "bad", said, "sudo nvidia-modprobe -u -c=0; in a container: --gpus all")
    elif nodes:
        yield Finding("device files", "ok", f"{len(nodes)} of {dev}/nvidia* may be read and written")
