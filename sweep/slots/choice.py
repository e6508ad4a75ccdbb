"""Which GPUs a sweep may have: those that the environment shows, of them those that space.yaml names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sweep.errors import DeviceError
from sweep.slots.provider import Device


def visible(devices: Sequence[Device], environ: Mapping[str, str]) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES shows, in its order.

    As CUDA reads it: numbers or beginnings of UUIDs, not both; the first that names nothing ends the list (so -1
    hides what follows); one named twice hides everything; a number ends where its digits do. Sources: CUDA C++
    Programming Guide, environment variables; the tests of torch.cuda, which were made by trying the driver.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return list(devices)
    words = [word.strip() for word in listed.split(",")]
    find = _by_uuid if words[0].startswith("GPU-") else _by_leading_number
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


def named(ids: Sequence[str], shown: Sequence[Device], here: Sequence[Device]) -> list[Device]:
    """The devices of these numbers (nvidia-smi's) or beginnings of UUIDs, each once.

    Raises DeviceError, which lists those that are there, for one that is not among `shown`.
    """
    found: dict[str, Device] = {}
    for word in ids:
        device = _find(shown, word)
        if device is None:
            why = "is hidden by CUDA_VISIBLE_DEVICES" if _find(here, word) else "is not there"
            raise DeviceError(
                f"GPU {word} {why}; {there_are(shown)}",
                hint="write numbers as nvidia-smi shows them, or UUIDs: `devices: [0, 1]`",
            )
        found[device.id] = device
    return list(found.values())


def which(chosen: Sequence[Device], here: Sequence[Device]) -> str:
    """Words for a choice."""
    names = " and ".join(dict.fromkeys(device.name for device in chosen))
    if len(chosen) == len(here):
        return f"{count(len(here), 'GPU')} ({names})"
    numbers = ", ".join(str(device.index) for device in chosen)
    return f"GPU{'s' if len(chosen) > 1 else ''} {numbers} of {len(here)} ({names})"


def there_are(devices: Sequence[Device]) -> str:
    listed = ", ".join(f"{device.index} ({device.name}, {device.id})" for device in devices)
    return f"there {'is' if len(devices) == 1 else 'are'} {listed}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _find(devices: Sequence[Device], word: str) -> Device | None:
    return _by_number(devices, int(word)) if word.isdecimal() else _by_uuid(devices, word)


def _by_number(devices: Sequence[Device], number: int) -> Device | None:
    return next((device for device in devices if device.index == number), None)


def _by_leading_number(devices: Sequence[Device], word: str) -> Device | None:
    digits = re.match(r"[+-]?\d+", word)
    return _by_number(devices, int(digits[0])) if digits else None


def _by_uuid(devices: Sequence[Device], beginning: str) -> Device | None:
    """The one device whose UUID begins so."""
    fitting = [device for device in devices if beginning.startswith("GPU-") and device.id.startswith(beginning)]
    return fitting[0] if len(fitting) == 1 else None
