"""Which devices a sweep may have: those that the environment shows, of them those that space.yaml names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sweep.errors import DeviceError
from sweep.slots import ascend
from sweep.slots.provider import Device
from sweep.slots.vendors import Vendor

_UUIDS = ("GPU-", "MIG-", "NPU-", "XPU-")


def visible(devices: Sequence[Device], environ: Mapping[str, str], variable: str) -> list[Device]:
    """The devices that the variable shows, in its order.

    As CUDA reads it: numbers or beginnings of UUIDs, not both; the first that names nothing ends the list (so -1
    hides what follows); one named twice hides everything; a number ends where its digits do. Sources: CUDA C++
    Programming Guide, environment variables; the tests of torch.cuda, which were made by trying the driver. Ascend
    reads as far as there are digits and commas (see ascend.py); of the XPU nothing else is known.
    """
    listed = environ.get(variable)
    if listed is None:
        return list(devices)
    if variable == ascend.VISIBLE:
        listed = listed[: len(listed) - len(listed.lstrip("0123456789,"))]
    words = [word.strip() for word in listed.split(",")]
    find = _by_uuid if words[0].startswith(_UUIDS) else _by_leading_number
    shown: list[Device] = []
    for word in words:
        device = find(devices, word)
        if device is None:
            break
        if device in shown:
            return []
        shown.append(device)
    return shown


def doubtful_numbers(devices: Sequence[Device], environ: Mapping[str, str]) -> bool:
    """Whether CUDA may mean other GPUs than NVML by the numbers in CUDA_VISIBLE_DEVICES."""
    return (
        bool(re.match(r"\s*\+?\d", environ.get("CUDA_VISIBLE_DEVICES", "")))
        and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
        and len({device.name for device in devices}) > 1
    )


def named(ids: Sequence[str], shown: Sequence[Device], here: Sequence[Device], vendor: Vendor) -> list[Device]:
    """The devices of these numbers (the vendor's tool's) or beginnings of UUIDs, each once.

    Raises DeviceError, which lists those that are there, for one that is not among `shown`.
    """
    found: dict[str, Device] = {}
    for word in ids:
        devices = _find(shown, word)
        if not devices:
            why = f"is hidden by {vendor.variable}" if _find(here, word) else "is not there"
            raise DeviceError(
                f"{vendor.noun} {word} {why}; {there_are(shown)}",
                hint=f"write numbers as {vendor.tools[0]} shows them, or UUIDs: {vendor.example}",
            )
        found |= {device.id: device for device in devices}
    return list(found.values())


def which(chosen: Sequence[Device], here: Sequence[Device]) -> str:
    """Words for a choice."""
    names, noun = " and ".join(dict.fromkeys(device.name for device in chosen)), here[0].kind.upper()
    if len(chosen) == len(here):
        return f"{count(len(here), noun)} ({names})"
    numbers = ", ".join(str(device.index) for device in chosen)
    return f"{noun}{'s' if len(chosen) > 1 else ''} {numbers} of {len(here)} ({names})"


def there_are(devices: Sequence[Device]) -> str:
    listed = ", ".join(f"{device.index} ({device.name}, {device.id})" for device in devices)
    return f"there {'is' if len(devices) == 1 else 'are'} {listed}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _find(devices: Sequence[Device], word: str) -> list[Device]:
    """The one with this UUID; of a number all instances, where the GPU is cut into some."""
    if word.isdecimal():
        return [device for device in devices if device.index == int(word)]
    device = _by_uuid(devices, word)
    return [device] if device else []


def _by_number(devices: Sequence[Device], number: int) -> Device | None:
    return next((device for device in devices if device.index == number), None)


def _by_leading_number(devices: Sequence[Device], word: str) -> Device | None:
    digits = re.match(r"[+-]?\d+", word)
    return _by_number(devices, int(digits[0])) if digits else None


def _by_uuid(devices: Sequence[Device], beginning: str) -> Device | None:
    """The one device whose UUID begins so."""
    fitting = [device for device in devices if beginning.startswith(_UUIDS) and device.id.startswith(beginning)]
    return fitting[0] if len(fitting) == 1 else None
