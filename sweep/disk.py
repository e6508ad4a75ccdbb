"""The disk under a sweep: nothing is started that may find no room, and checkpoints that lose make room.

Two limits. A reserve stays free on the disk, whoever fills it: launches stop before writes do. And the sweep's own
folder stays within its budget, where it has one: checkpoints go in the order of `core.room`; when none is left
that may go, launches stop as well. Both go on by themselves. What a folder holds is measured in a thread, since it
takes time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from sweep import rundir
from sweep.config.disk import Disk
from sweep.core import events as e
from sweep.core.model import Sweep
from sweep.core.room import to_drop
from sweep.errors import StorageError
from sweep.rundir import SweepDir

LARGEST_LOG = 10_000_000  # bytes of controller.log and follower.log, of each as much again in `.1`
EVERY = 5.0  # seconds between two measurements of the folder
_SHARE = 50  # a measurement may take one part in so many of the thread's time


@dataclass(frozen=True)
class Holdings:
    """Bytes on the disk: of the sweep's folder, and of each checkpoint by its directory relative to it."""

    total: int
    checkpoints: dict[str, int]


class DiskWatch:
    """now: the journal's clock. `look` is for the thread that steps the sweep, about once a second."""

    def __init__(self, directory: SweepDir, limits: Disk, now: Callable[[], float]) -> None:
        self._directory = directory
        self._limits = limits
        self._now = now
        self._holdings: Holdings | None = None  # the newest, until it is acted upon
        self._over = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="disk", daemon=True)
        if limits.budget is not None:
            self._thread.start()

    def look(self, sweep: Sweep) -> Iterator[e.Event]:
        """Checkpoints that go, and whether launches are held, where that has changed."""
        for log in (self._directory.controller_log, self._directory.follower_log):
            with suppress(OSError):
                rundir.roll(log, LARGEST_LOG)
        holdings, self._holdings = self._holdings, None
        if holdings is not None and self._limits.budget is not None:
            yield from self._make_room(sweep, holdings, self._limits.budget)
        hold = self._scarce() or self._over
        if bool(hold) != bool(sweep.hold):
            yield e.LaunchesHeld(self._now(), hold)

    def make_sure(self, sweep: Sweep) -> None:
        """Raises StorageError where the folder was taken away: nothing said from then on could be kept."""
        if self.gone():
            live = [sweep.trials[number].attempts[-1].pid for number in sorted(sweep.live)]
            pids = " ".join(str(pid) for pid in live if pid is not None)
            hint = f"its running trials train on, but nothing of them is kept; to end them: kill {pids}"
            message = f"the folder of {sweep.id} was deleted or moved: {self._directory.path}"
            raise StorageError(message, hint=hint if pids else None)

    def gone(self) -> bool:
        """Whether somebody has taken the sweep's folder away. A disk that does not answer is not gone."""
        try:
            os.stat(self._directory.journal)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            pass
        return False

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _make_room(self, sweep: Sweep, holdings: Holdings, budget: int) -> Iterator[e.Event]:
        excess = holdings.total - budget
        for trial, one in to_drop(sweep, holdings.checkpoints, excess):
            why = f"the sweep takes {said(holdings.total)} of the {said(budget)} that `disk` allows"
            yield e.CheckpointDropped(self._now(), trial, one.directory, why)
            excess -= holdings.checkpoints[one.directory]
        self._over = (
            f"no new trials: the sweep takes {said(budget + excess)} of the {said(budget)} that `disk` allows, and"
            f" no checkpoint is left that may go; it goes on when there is room in {self._directory.path}"
            if excess > 0
            else ""
        )

    def _scarce(self) -> str:
        try:
            found = os.statvfs(self._directory.path)
        except OSError:
            return ""
        free = found.f_bavail * found.f_frsize
        reserve = self._limits.reserve
        if reserve is None:
            reserve = usual_reserve(found.f_blocks * found.f_frsize)
        if free >= reserve:
            return ""
        return (
            f"no new trials: {said(free)} are free on the disk of {self._directory.path}, {said(reserve)} stay in"
            " reserve; `sweep clean --older-than 30d` frees some, it goes on by itself"
        )

    def _measure(self) -> None:
        pause = 0.0
        while not self._end.wait(pause):
            begun = time.monotonic()
            self._holdings = measure(self._directory)
            pause = max(EVERY, _SHARE * (time.monotonic() - begun))


def usual_reserve(disk: int) -> int:
    """2 % of the disk, between 1 and 5 GB, but of a small disk no more than a tenth."""
    return min(disk // 10, max(1_000_000_000, min(disk // 50, 5_000_000_000)))


def measure(directory: SweepDir) -> Holdings:
    """What the folder holds now; what comes or goes meanwhile may count or not."""
    checkpoints: dict[str, int] = {}
    total = _size(directory.path, "", checkpoints)
    return Holdings(total, checkpoints)


def _size(folder: str | os.PathLike[str], name: str, checkpoints: dict[str, int]) -> int:
    """name: of the folder, relative to the sweep's."""
    size = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                size += found.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    size += _size(entry.path, f"{name}/{entry.name}" if name else entry.name, checkpoints)
    except OSError:
        pass  # it went while it was measured
    parts = name.split("/")
    if len(parts) == 5 and parts[0] == "trials" and parts[3] == "checkpoints" and parts[4].isdigit():
        checkpoints[name] = size
    return size


def said(count: int) -> str:
    """A size in the units of space.yaml."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count < 1000 * factor else f"{count / factor:.0f} {unit}"
    return f"{count} bytes"
