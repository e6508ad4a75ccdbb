"""What running attempts use of the machine, measured every few seconds in a thread of its own.

One pass over the machine's processes serves all attempts; a process belongs to the attempt whose supervisor is
among its ancestors. Each measurement is a line of the attempt's `usage.jsonl`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.ports import Load

FIRST = 1.0
EVERY = 5.0
LEAST = 0.5
_RATE, _TAKEN, _HOLDERS = "device_utilisation", "device_memory", "device_holders"
_OF_DEVICE = {_RATE: "utilisation", _TAKEN: "memory_used", _HOLDERS: "holders"}
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Target:
    """An attempt to be measured. root: pid of its supervisor. devices: keys of `measure()`'s answer."""

    key: tuple[int, int]  # trial, attempt
    path: Path
    root: int
    devices: Sequence[str]


class Gauge(threading.Thread):
    """targets: the attempts that run now. measure: `ports.Devices.measure`. now: the journal's clock.

    patience: seconds of silence after which an attempt counts as hung, if the user says it: several measurements
    are needed in that time.
    """

    def __init__(
        self,
        targets: Callable[[], Sequence[Target]],
        measure: Callable[[], dict[str, dict[str, float]]],
        now: Callable[[], float],
        patience: float | None = None,
        every: float = EVERY,
    ) -> None:
        super().__init__(name="gauge", daemon=True)
        self._targets = targets
        self._measure = measure
        self._now = now
        self._every = every if patience is None else min(every, max(LEAST, patience / 4))
        self._end = threading.Event()
        self._before: dict[int, tuple[float, float]] = {}  # root -> when, CPU seconds of its tree
        self._telling: set[str] = set()  # devices that have ever been measured
        self.latest: dict[tuple[int, int], Load] = {}  # by the target's key; replaced, never changed

    def run(self) -> None:
        pause = first = min(FIRST, self._every)
        while not self._end.wait(pause):
            targets = self._targets()
            if targets:
                self.measure(targets)
            pause = self._every if targets else first

    def stop(self) -> None:
        self._end.set()
        self.join()

    def measure(self, targets: Sequence[Target]) -> None:
        """One measurement of all, in the thread that calls it."""
        used = _usage({target.root for target in targets})
        when = time.monotonic()
        devices = self._measure()
        self._telling |= devices.keys()
        before, self._before = self._before, {}
        latest: dict[tuple[int, int], Load] = {}
        for target in targets:
            seconds, memory, written = used.get(target.root, (0.0, 0.0, 0))
            self._before[target.root] = (when, seconds)
            metrics = {"memory": memory}
            cores: float | None = None
            if target.root in before:
                since, earlier = before[target.root]
                metrics["cpu"] = max(0.0, seconds - earlier) / (when - since)
                # less than before: a process has ended with what it had used, and what the others did is not known
                cores = metrics["cpu"] if seconds >= earlier else None
            each = [_of_device(devices.get(device, {})) for device in target.devices]
            rates, taken, holders = ([one[key] for one in each if key in one] for key in _OF_DEVICE)
            if rates:
                metrics[_RATE] = sum(rates) / len(rates)
            if taken:
                metrics[_TAKEN] = sum(taken)
            if holders:
                metrics[_HOLDERS] = max(holders)
            if self._telling.intersection(target.devices) <= devices.keys():  # else a device of it keeps silent
                latest[target.key] = Load(when + 3 * self._every, cores, written, max(rates, default=None))
            record = {"at": self._now(), "metrics": _rounded(metrics)}
            _append(target.path, {**record, "devices": [*map(_rounded, each)]} if len(each) > 1 else record)
        self.latest = latest


def _of_device(reading: Mapping[str, float]) -> dict[str, float]:
    return {name: reading[key] for name, key in _OF_DEVICE.items() if key in reading}


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}


def _usage(roots: set[int]) -> dict[int, tuple[float, float, int]]:
    """root -> CPU seconds so far, resident bytes now, bytes written so far, of all processes below it.

    Read by hand, with what is dear of none but those: psutil takes 10 times as long. Fields of /proc/<pid>/stat
    and io: proc(5).
    """
    parents: dict[int, int] = {}
    facts: dict[int, list[bytes]] = {}
    with os.scandir("/proc") as places:
        pids = [int(place.name) for place in places if place.name.isdecimal()]
    for pid in pids:
        if stat := _read(f"/proc/{pid}/stat"):
            facts[pid] = stat.rpartition(b")")[2].split(None, 23)
            parents[pid] = int(facts[pid][1])
    total: dict[int, tuple[float, float, int]] = {}
    for pid in parents:
        above = parents[pid]
        while above not in roots and above in parents:
            above = parents[above]
        if above in roots:
            cpu, resident, output = total.get(above, (0.0, 0.0, 0))
            ticks = sum(map(int, facts[pid][11:15]))
            memory = int(facts[pid][21]) * _PAGE
            total[above] = (cpu + ticks / _TICKS, resident + memory, output + _written(pid))
    return total


def _written(pid: int) -> int:
    """0 for a process of somebody else."""
    return next((int(line[6:]) for line in _read(f"/proc/{pid}/io").splitlines() if line.startswith(b"wchar:")), 0)


def _read(path: str) -> bytes:
    """Nothing where the process has ended."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, 4096)
    except OSError:
        return b""
    finally:
        os.close(handle)


def _append(path: Path, record: object) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError:
        pass  # a full disk: a gap in a curve, no more
