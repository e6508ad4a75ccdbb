"""What the pool needs of a vendor: find its devices, read them, pin a process to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Device:
    """One device of this machine. `slot` names its lease, `memory` is in bytes.

    `id` is what the vendor calls it wherever it is plugged in: a UUID. `index` is its number today.
    """

    id: str
    slot: str
    kind: str
    index: int
    name: str
    memory: int = 0


@dataclass(frozen=True)
class Reading:
    """One look at a device: `numbers` as in `ports.Devices.measure`, and the processes that compute on it.

    pids: None where the vendor's pids mean nothing here, as in a container. trouble: why there is no reading.
    gone: the trouble is that the device is away, not that it cannot be asked. fault: what the device says of
    itself that makes it unfit until somebody has looked after it.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    pids: tuple[int, ...] | None = ()
    trouble: str = ""
    gone: bool = False
    fault: str = ""


class Provider(Protocol):
    """A vendor's devices. Only opening one may raise; a device that fails later says so in its Reading.

    left_out: what is counted but cannot be used, in words.
    """

    left_out: list[str]

    def devices(self) -> Sequence[Device]:
        """Every device of this machine, by index, whether or not the environment hides it."""
        ...

    def measure(self, device: Device) -> Reading: ...

    def befallen(self) -> Mapping[str, str]:
        """device id -> what has happened to it since the last call that makes it unfit, in words, each once."""
        ...

    def apart(self, one: Device, other: Device) -> int:
        """How far the way between them is: only the order of two such numbers means something."""
        ...

    def pin(self, device: Device) -> dict[str, str]:
        """The environment that keeps a process on this device."""
        ...

    def close(self) -> None: ...
