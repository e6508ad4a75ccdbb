"""What the controller needs of the world, as protocols of one to four methods.

An edge answers by an event: either as the return value, or later through the `Inbox` that it was given, from
any thread. Edges know ports, core, config and rundir, never each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sweep.core.events import Event, Judge, Prefer, Tell
from sweep.core.model import Sweep


@dataclass(frozen=True)
class Slot:
    """A share of a device. `id` is the name of its lease, the same for everybody on this machine.

    kind: "gpu", "cpu" (later "npu", "xpu"). env: what pins a process to it. threads: cores of its share.
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
    """One attempt to be started. argv is final, env is added to the controller's own; lease is a descriptor."""

    trial: int
    attempt: int
    directory: Path
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    lease: int
    slot: str
    device: str
    report: dict[str, Any]  # mode, patterns, metrics: what the supervisor reads in the output


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


class Devices(Protocol):
    """Slots of this machine and their leases."""

    @property
    def slots(self) -> Sequence[Slot]: ...

    @property
    def trouble(self) -> Mapping[str, str]:
        """device -> why it is not offered although its lease is free: in words."""
        ...

    def acquire(self, slot: Slot, holder: dict[str, Any]) -> int | None:
        """The lease's descriptor, or None while somebody else holds it or the device is in use."""
        ...

    def rest(self) -> None:
        """No slot is wanted for now: others who wait need not wait for this one."""
        ...

    def measure(self) -> dict[str, dict[str, float]]:
        """device -> utilisation (0 to 1), memory_used and memory_total (bytes), power (W), temperature (C)."""
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
