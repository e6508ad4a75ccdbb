"""What running attempts use of the machine, measured every few seconds in a thread of its own.

One pass over the machine's processes serves all attempts; a process belongs to the attempt whose supervisor is
among its ancestors. Each measurement is a line of the attempt's `usage.jsonl`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

FIRST = 1.0
EVERY = 5.0


@dataclass(frozen=True)
class Target:
    """An attempt to be measured. root: pid of its supervisor. device: a key of `measure()`'s answer."""

    path: Path
    root: int
    device: str


class Gauge(threading.Thread):
    """targets: the attempts that run now. measure: `ports.Devices.measure`. now: the journal's clock."""

    def __init__(
        self,
        targets: Callable[[], Sequence[Target]],
        measure: Callable[[], dict[str, dict[str, float]]],
        now: Callable[[], float],
    ) -> None:
        super().__init__(name="gauge", daemon=True)
        self._targets = targets
        self._measure = measure
        self._now = now
        self._end = threading.Event()
        self._before: dict[int, tuple[float, float]] = {}  # root -> when, CPU seconds of its tree

    def run(self) -> None:
        pause = FIRST
        while not self._end.wait(pause):
            targets = self._targets()
            if targets:
                self._sample(targets)
            pause = EVERY if targets else FIRST

    def stop(self) -> None:
        self._end.set()
        self.join()

    def _sample(self, targets: Sequence[Target]) -> None:
        used = _usage({target.root for target in targets})
        devices = self._measure()
        when = time.monotonic()
        before, self._before = self._before, {}
        for target in targets:
            seconds, memory = used.get(target.root, (0.0, 0.0))
            self._before[target.root] = (when, seconds)
            metrics = {"memory": memory}
            if target.root in before:
                since, earlier = before[target.root]
                metrics["cpu"] = max(0.0, seconds - earlier) / (when - since)
            device = devices.get(target.device, {})
            for name, source in (("device_utilisation", "utilisation"), ("device_memory", "memory_used")):
                if source in device:
                    metrics[name] = device[source]
            _append(target.path, {"at": self._now(), "metrics": {k: round(v, 4) for k, v in metrics.items()}})


def _usage(roots: set[int]) -> dict[int, tuple[float, float]]:
    """root -> CPU seconds so far and resident bytes now, of all processes below it."""
    parents: dict[int, int] = {}
    facts: dict[int, tuple[float, float]] = {}
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                times = process.cpu_times()
                parents[process.pid] = process.ppid()
                facts[process.pid] = (
                    times.user + times.system + times.children_user + times.children_system,
                    float(process.memory_info().rss),
                )
        except psutil.Error:
            continue  # ended in between
    total: dict[int, tuple[float, float]] = {}
    for pid, (seconds, memory) in facts.items():
        above = parents.get(pid, 0)
        while above in parents and above not in roots:
            above = parents[above]
        if above in roots:
            cpu, resident = total.get(above, (0.0, 0.0))
            total[above] = (cpu + seconds, resident + memory)
    return total


def _append(path: Path, record: object) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError:
        pass  # a full disk: a gap in a curve, no more
