"""What the controller needs of the world, as protocols of one to four methods.

An edge answers by an event: either as the return value, or later through the `Inbox` that it was given, from
any thread. Edges know ports, core, config and rundir, never each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sweep.core.effects import Judge, Prefer, Tell
from sweep.core.events import Event
from sweep.core.model import Sweep


@dataclass(frozen=True)
class Slot:
    """A share of a device. `id` is the name of its lease, the same for everybody on this machine.

    Of a trial on several devices (slots/bundle.py): `id` and `device` name all of them.

    kind: "gpu", "npu", "xpu" or "cpu". env: what pins a process to it. threads: cores of its share.
    """

    id: str
    device: str
    kind: str
    index: int
    name: str
    env: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    memory: int = 0  # bytes, of the whole device


@dataclass(frozen=True)
class Order:
    """One attempt to be started. argv is final, env is added to the controller's own; leases are descriptors."""

    trial: int
    attempt: int
    directory: Path
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    leases: Sequence[int]
    slot: str
    device: str
    report: dict[str, Any]  # mode, patterns, metrics: what the supervisor reads in the output
    keep: int  # bytes that the output may take
    limits: Mapping[str, int] = field(default_factory=dict)  # memory: bytes of all its processes; processes


@dataclass(frozen=True)
class Load:
    """What an attempt's processes did of late.

    until: how long it holds, by time.monotonic(). cores: used of the CPU, None where that is not known yet.
    written: bytes so far. device: its utilisation, 0 to 1, None where it has none or tells none.
    """

    until: float
    cores: float | None
    written: int
    device: float | None


@dataclass(frozen=True)
class Started:
    """A supervisor's identity, and a pidfd that becomes readable when it has ended (None if it has already)."""

    pid: int
    start_time: int
    boot_id: str
    pidfd: int | None


@dataclass(frozen=True)
class Reply:
    """A launcher's answer: the attempt has started, or why not; `trouble` concerns no attempt but all."""

    trial: int = -1
    attempt: int = -1
    started: Started | None = None
    error: str = ""
    trouble: str = ""


Inbox = Callable[[Event], None]
# trials -> of each, what the journal says that the pruner was asked about: step -> value
Judged = Callable[[Collection[int]], Mapping[int, Mapping[int, float]]]


class Search(Protocol):
    """Optuna, off the loop. Orders are served in order; answers come through the inbox."""

    def prefer(self, order: Prefer) -> None: ...
    def ask(self) -> None: ...
    def judge(self, order: Judge) -> None: ...
    def tell(self, order: Tell) -> None: ...


class Launcher(Protocol):
    """Processes. `launch` raises OSError where the order cannot be given; `replies` answers it later."""

    def fileno(self) -> int: ...
    def launch(self, order: Order) -> None: ...
    def replies(self) -> Iterator[Reply]: ...


class Tracker(Protocol):
    """The follower's process. Requests are answered by `replies`, each a mapping with one key:

    run: [trial, run id]; collected: [trial, attempt]; error: text (once, when the store stops answering); ok;
    gone: text (the process has ended; `revive` starts another).
    """

    def fileno(self) -> int: ...
    def make_run(self, trial: int) -> None: ...
    def collect(self, trial: int, attempt: int) -> None: ...
    def replies(self) -> Iterator[Mapping[str, Any]]: ...
    def revive(self) -> None: ...


class View(Protocol):
    """Somebody who watches. Both are called in the loop's thread and must be quick."""

    def saw(self, event: Event, sweep: Sweep) -> None: ...
    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None: ...


class Ward(Protocol):
    """What befalls devices that are in use, each by its id."""

    def failing(self, device: str) -> str:
        """Why it cannot be worked with now, in words; empty if it can."""
        ...

    def leave(self, *, yields: bool) -> Mapping[str, str]:
        """device -> why whoever uses it must leave: it is away, or (yields) somebody computes on it unasked."""
        ...

    def take_out(self, device: str, why: str, sweep: str) -> bool:
        """Takes it out of service for everybody, if such a device can be. Raises OSError."""
        ...


class Devices(Protocol):
    """Slots of this machine and their leases. priority: of this sweep, among all who wait for one.

    auto: the number of slots changes, by `share`. whole: a slot of each whole device.
    """

    priority: int
    auto: bool

    @property
    def whole(self) -> Sequence[Slot]: ...

    @property
    def slots(self) -> Sequence[Slot]: ...

    @property
    def per_trial(self) -> int:
        """How many devices a trial gets."""
        ...

    @property
    def trouble(self) -> Mapping[str, str]:
        """device -> why it is not offered although its lease is free: in words."""
        ...

    def acquire(self, slot: Slot, holder: dict[str, Any]) -> int | None:
        """The lease's descriptor, or None while somebody else holds it or the device is in use."""
        ...

    def acquire_all(
        self, number: int, holder: dict[str, Any], but: Collection[str]
    ) -> list[tuple[Slot, int]] | None:
        """Slots of so many devices at once, with their leases, or None. but: slots that it must not be."""
        ...

    def share(self, number: int) -> None:
        """So many slots a device from now on."""
        ...

    @property
    def bar(self) -> str:
        """Why the policy of this machine lets nothing more be had, by the last try; empty if it does."""
        ...

    def rest(self) -> None:
        """No slot is wanted for now: others who wait need not wait for this one."""
        ...

    def measure(self) -> dict[str, dict[str, float]]:
        """device -> utilisation (0 to 1), memory_used and memory_total (bytes), power (W), temperature (C).

        holders: how many leases there are of it, of anybody, where the number of slots changes.
        """
        ...


class Journal(Protocol):
    def append(self, event: Event) -> None: ...
    def commit(self, *, behind: bool = False) -> None:
        """Everything appended is written after this, and on disk soon (behind) or at once."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch; never goes back within a process."""
        ...
