"""`report: mlflow`: what a trial logs to its MLflow run by itself becomes lines of its reports.jsonl.

Rules
1.  A point becomes a report once for each attempt; it is known by (metric, step, value). A follower that starts
    anew reads from the file what was written before.
2.  The run is the trial's, not the attempt's: a later attempt takes only points made after its launch.
3.  The newest point of each metric tells which histories to read; for a later attempt, whose steps may start over
    below the newest, and at the last look of all, every history is read.
4.  MLflow's own system metrics are no reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from sweep import doorbell
from sweep.core.codec import number_from_json, number_to_json
from sweep.core.model import Attempt, Trial
from sweep.rundir import SweepDir
from sweep.tracking.mirror import Point, millis
from sweep.tracking.store import Store
from sweep.tracking.trouble import Refused

EVERY = 0.5  # seconds between looks, or ten times what a round costs
Seen = set[tuple[str, int, str]]


class Harvest:
    def __init__(self, directory: SweepDir, store: Store) -> None:
        self.directory = directory
        self.store = store
        self._seen: dict[tuple[int, int], Seen] = {}
        self._newest: dict[tuple[int, int], dict[str, tuple[int, int, float]]] = {}
        self._due = 0.0

    def round(self, trials: Iterable[Trial], runs: Mapping[int, str]) -> None:
        """Looks at the runs of these live trials, if it is time to. Raises Trouble."""
        begun = time.monotonic()
        if begun < self._due:
            return
        for trial in trials:
            with contextlib.suppress(Refused):  # a deleted run: the sender has noted that
                if trial.number in runs:
                    self.look(trial, trial.attempts[-1], runs[trial.number])
        now = time.monotonic()
        self._due = now + max(EVERY, 10 * (now - begun))

    def look(self, trial: Trial, attempt: Attempt, run_id: str, *, last: bool = False) -> None:
        """Writes the points that are new and rings the doorbell.

        Raises Trouble, Refused, or OSError where they cannot be written; they are written at the next look then.
        """
        key = (trial.number, attempt.number)
        folder = self.directory.attempt(*key)
        if not folder.path.is_dir():
            return
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _written(folder.reports)
        newest = self.store.latest(run_id)
        before = self._newest.get(key, {})
        every = last or attempt.number > 1
        since = millis(attempt.launched) if attempt.number > 1 else 0
        fresh: dict[tuple[str, int, str], Point] = {}
        for name, point in newest.items():
            if not name.startswith("system/") and (every or before.get(name) != point):
                for one in self.store.history(run_id, name):
                    mark = (one.key, one.step, repr(one.value))
                    if one.at >= since and mark not in seen:
                        fresh[mark] = one
        if fresh:
            _append(folder.reports, _lines(list(fresh.values())))
            doorbell.ring(self.directory, f"{trial.number}/{attempt.number}".encode())
        seen.update(fresh)
        self._newest[key] = newest

    def forget(self, trial: int, attempt: int) -> None:
        self._seen.pop((trial, attempt), None)
        self._newest.pop((trial, attempt), None)


def _lines(points: list[Point]) -> list[str]:
    """One report for each step, where a metric has no two values at it; in order of step, then time."""
    reports: list[tuple[int, int, dict[str, float]]] = []
    at_step: dict[int, int] = {}  # step -> place of its newest report
    for point in sorted(points, key=lambda point: (point.step, point.at)):
        place = at_step.get(point.step)
        if place is None or point.key in reports[place][2]:
            at_step[point.step] = len(reports)
            reports.append((point.step, point.at, {point.key: point.value}))
        else:
            step, at, metrics = reports[place]
            reports[place] = (step, max(at, point.at), {**metrics, point.key: point.value})
    return [
        json.dumps(
            {"step": step, "at": at / 1000, "metrics": {key: number_to_json(v) for key, v in metrics.items()}}
        )
        for step, at, metrics in reports
    ]


def _written(path: Path) -> Seen:
    """What the file says already; NaN is one value."""
    seen: Seen = set()
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return seen
    for line in lines:
        try:
            record = json.loads(line)
            for name, value in record["metrics"].items():
                seen.add((name, int(record["step"]), repr(number_from_json(value))))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a checkpoint, or a torn line
    return seen


def _append(path: Path, lines: list[str]) -> None:
    """In one write, as the trial itself does; behind a torn line, on a line of its own."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        data = ("\n" if torn else "").encode() + "".join(line + "\n" for line in lines).encode()
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)
