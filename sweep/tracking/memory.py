"""What the follower remembers, in `mlflow.json`: how far it is, which run is whose, what is still owed.

The file may be older than what the store has taken: then some of it is sent again, which does no harm. It must
never be newer: it is written only behind what the store has taken. After the machine's crash the store itself may
have lost its last commits, so under another boot id everything is sent again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.tracking.mirror import PARENT

KEPT_ERRORS = 20


@dataclass
class Memory:
    """owed: ended attempts (trial, attempt) whose output is not in MLflow yet. done: artifacts that are."""

    path: Path
    tracking_uri: str = ""
    experiment: str = ""
    experiment_id: str = ""
    uid: str = ""
    cursor: int = 0
    runs: dict[int, str] = field(default_factory=dict)
    owed: list[tuple[int, int]] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _took: float = 0.0  # seconds that the last write took
    _written: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Memory:
        """What the file says, or a fresh start; also where it was written before the machine last started."""
        found = rundir.read_json(path)
        memory = cls(path)
        if not isinstance(found, dict):
            return memory
        try:
            memory.runs = {int(key): str(value) for key, value in found["runs"].items()}
            if found["run_id"]:
                memory.runs[PARENT] = found["run_id"]
            if found["boot_id"] == boot_id():
                memory.cursor = int(found["cursor"])
                memory.owed = [(int(trial), int(attempt)) for trial, attempt in found["owed"]]
                memory.done = {str(key): str(value) for key, value in found["done"].items()}
            memory.tracking_uri = found["tracking_uri"]
            memory.experiment = found["experiment"]
            memory.uid = found["uid"]
            memory.errors = [str(line) for line in found["lag"]["errors"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls(path)
        return memory

    @property
    def parent(self) -> str | None:
        return self.runs.get(PARENT)

    def settle(self, tracking_uri: str, experiment: str, experiment_id: str) -> bool:
        """Where the runs are; says whether that is elsewhere than before."""
        moved = (self.tracking_uri, self.experiment) != (tracking_uri, experiment)
        self.tracking_uri, self.experiment, self.experiment_id = tracking_uri, experiment, experiment_id
        return moved

    def start_over(self) -> None:
        """As if nothing had been sent yet. The runs are not forgotten: they are looked up anyway."""
        self.cursor = 0
        self.owed.clear()
        self.done.clear()

    def note(self, text: str) -> None:
        """Keeps an error that concerns one run, for people."""
        self.errors = [*self.errors, text][-KEPT_ERRORS:]

    def save(self, lag: dict[str, Any], *, now: bool = False) -> bool:
        """Writes the file, a large one less often so that it never costs much; says whether. Raises OSError."""
        clock = time.monotonic()
        if not now and clock - self._written < min(10.0, 20 * self._took):
            return False
        document = {
            "cursor": self.cursor,
            "run_id": self.parent,
            "experiment": self.experiment,
            "experiment_id": self.experiment_id,
            "tracking_uri": self.tracking_uri,
            "uid": self.uid,
            "boot_id": boot_id(),
            "pid": os.getpid(),
            "runs": {str(number): run for number, run in self.runs.items() if number != PARENT},
            "owed": self.owed,
            "done": self.done,
            "lag": {**lag, "errors": self.errors},
        }
        rundir.write_json(self.path, document)
        self._took = time.monotonic() - clock
        self._written = clock
        return True


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
