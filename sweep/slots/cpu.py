"""CPU shares: how many cores this process may use, cut into slots."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sweep.slots.provider import Device, Reading

# Every library of numbers reads its own; without them N trials start N times as many threads as there are cores.
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


class Cpu:
    """`count` shares. hide: variables that hide other devices: who chose the CPU must not find a GPU either."""

    def __init__(self, count: int, hide: Iterable[str] = ()) -> None:
        self.left_out: list[str] = []
        self._count = count
        self._environment = dict.fromkeys(hide, "")

    def devices(self) -> list[Device]:
        return [Device(f"cpu-{k}", f"cpu-{k}", "cpu", k, f"CPU share {k}") for k in range(self._count)]

    def measure(self, device: Device) -> Reading:
        return Reading()  # what a trial costs the CPU is measured at its process tree, not at its share

    def befallen(self) -> dict[str, str]:
        return {}

    def apart(self, one: Device, other: Device) -> int:
        return 0

    def pin(self, device: Device) -> dict[str, str]:
        return self._environment

    def close(self) -> None:
        pass


def thread_limits(threads: int) -> dict[str, str]:
    """The environment that holds a process to so many threads."""
    return dict.fromkeys(THREADS, str(threads))


def cores(root: Path = Path("/")) -> int:
    """How many cores this process may keep busy: its affinity, cut by the quota of its cgroup (v1 or v2).

    Half a core counts as a whole one. `root` is where /proc and /sys are.
    """
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def shares() -> int:
    """Into how many shares the cores are cut where nobody says."""
    return min(cores(), 4)


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's cgroup and of every group above it: the smallest one binds."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places = [mounted]
        elif "cpu" in controllers.split(","):
            places = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        # In a container the path may be the host's while the mount shows this group as its root: what is not
        # there is skipped, and the root is always looked at.
        inner = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        for folder in dict.fromkeys(place / part for place in places for part in inner):
            yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
    if len(words) == 2 and words[0] not in ("max", "-1"):
        yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
