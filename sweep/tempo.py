"""How long the controller's loop works between two waits, for whoever watches from outside: `controller.json`.

    {"pid": 4242, "at": 1763960000.1, "seconds": 1.25, "turns": [9120, 410, 12, 0, 0, 0, 0]}

`turns` counts them by how long they took: up to BOUNDS[i] seconds, and in the last place those that took longer.
`seconds` is their sum, `at` the time of writing. The next controller counts on from there.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sweep.rundir import read_json, write_json

BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
EVERY = 5.0  # seconds between two writes


@dataclass
class Told:
    """What the file says; at is 0 where there is none."""

    at: float = 0.0
    seconds: float = 0.0
    turns: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


def told(path: Path) -> Told:
    said = read_json(path) or {}
    with suppress(TypeError, KeyError, ValueError):
        turns = [int(count) for count in said["turns"]]
        if len(turns) == len(BOUNDS) + 1:
            return Told(float(said["at"]), float(said["seconds"]), turns)
    return Told()


class Tempo:
    """now: the journal's clock."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._sum = told(path)
        self._due = 0.0

    def turned(self, seconds: float) -> None:
        """A turn took so long."""
        self._sum.turns[bisect_left(BOUNDS, seconds)] += 1
        self._sum.seconds += seconds
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            with suppress(OSError):  # a full disk: an old picture, no more
                write_json(
                    self._path,
                    {
                        "pid": os.getpid(),
                        "at": self._now(),
                        "seconds": self._sum.seconds,
                        "turns": self._sum.turns,
                    },
                )
