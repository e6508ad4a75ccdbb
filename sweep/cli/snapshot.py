"""Pictures of a running sweep, taken in the controller's thread and drawn in another.

The state changes in place, so a `Snapshot` copies the little that is shown and keeps no reference into it. A
`Camera` remembers what has ended before, which makes a picture cost as much as there are live trials, not as
there are trials. An `Observer` then adds, in the drawing thread, what only files know: usage, curves, MLflow.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sweep.cli.estimate import makespan
from sweep.core.codec import number_from_json
from sweep.core.model import Attempt, Outcome, Phase, Sweep, SweepState, Trial, TrialState, Verdict
from sweep.core.pareto import front
from sweep.rundir import SweepDir, read_json

RECENT = 40  # ended trials that a picture holds
SAMPLE = 200  # ended trials whose durations an estimate rests on
CURVE = 64  # reports of a running trial that its curve is drawn from
STALE = 60.0  # seconds after which a measurement of usage says nothing about now
TAIL = 64 * 1024  # bytes of new reports that are read at once
LAST = 4 * 1024  # bytes that surely hold the last line of usage.jsonl


@dataclass(frozen=True)
class Vitals:
    """cpu in cores, memory in bytes, device_utilisation 0 to 1, device_memory in bytes; None is unknown."""

    cpu: float | None = None
    memory: float | None = None
    device_utilisation: float | None = None
    device_memory: float | None = None
    curve: tuple[float, ...] = ()  # of the first objective, newest last


@dataclass(frozen=True)
class Running:
    """A live attempt. `doing` is "", "starting", or what its verdict is; latest and best are per objective."""

    slot: str
    trial: int
    attempt: int
    doing: str
    step: int | None
    latest: tuple[float | None, ...]
    best: tuple[float | None, ...]
    launched: float
    vitals: Vitals = Vitals()


@dataclass(frozen=True)
class Ended:
    """A terminal trial. `values` are its result, or what it reported last; `seconds` is its time on slots."""

    number: int
    state: TrialState
    outcome: Outcome | None
    values: tuple[float | None, ...]
    step: int | None
    seconds: float
    at: float
    why: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """All that the live table shows. `at` and other times are seconds since the epoch, the rest are seconds."""

    id: str
    state: SweepState
    why: str
    at: float
    elapsed: float
    eta: float | None  # until the last trial has ended
    eta_is_timeout: bool
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    wanted: int | None  # trials in all, where it is known
    counts: dict[TrialState, int]
    running: tuple[Running, ...]
    idle: tuple[str, ...]  # slots that are held and not used
    best: tuple[Ended, ...]  # one, or the Pareto set
    recent: tuple[Ended, ...]  # newest first
    notices: tuple[str, ...]  # oldest first
    mlflow: dict[str, Any] = field(default_factory=dict)  # the follower's `lag`: events, since, error


class Camera:
    """Takes pictures of one sweep. Only for the thread that steps the sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._seen = 0  # trials looked at so far, in the order in which they were sampled
        self._open: set[int] = set()
        self._recent: deque[Ended] = deque(maxlen=RECENT)
        self._durations: deque[float] = deque(maxlen=SAMPLE)
        self._whole = False  # one of them trained to its end: until then nobody knows how long that is
        self._front: list[Trial] = []
        self._shown_front: tuple[Ended, ...] = ()
        self._widths: deque[int] = deque(maxlen=40)  # slots in use, over the last ten seconds or so
        self._order = _parameter_order(sweep)

    def snapshot(self, now: float, notices: Sequence[str] = ()) -> Snapshot:
        """A picture at `now`, by the controller's clock; `notices` are lines for people, oldest first."""
        sweep = self._sweep
        self._catch_up()
        self._widths.append(len(sweep.live) + len(sweep.offers))
        live = [sweep.trials[number] for number in sweep.live]
        eta, timeout = self._estimate(live, now)
        driven = max(now, sweep.at) if not sweep.state.ended else sweep.at
        said = [f"sampler: {sweep.exhausted}"] if sweep.exhausted and sweep.exhausted != sweep.why else []
        said += [sweep.hold] if sweep.hold else []
        return Snapshot(
            id=sweep.id,
            state=sweep.state,
            why=sweep.why,
            at=now,
            elapsed=max(0.0, sweep.active + driven - sweep.resumed),
            eta=eta,
            eta_is_timeout=timeout,
            metrics=sweep.rules.metrics,
            directions=sweep.rules.directions,
            wanted=_wanted(sweep),
            counts=dict(sweep.counts),
            running=tuple(_running(trial, sweep) for trial in live),
            idle=tuple(sweep.offers),
            best=(self._ended(sweep.trials[sweep.best]),) if sweep.best is not None else self._shown_front,
            recent=tuple(reversed(self._recent)),
            notices=(*said, *notices),
        )

    def _catch_up(self) -> None:
        """Folds in the trials that were sampled or have ended since the last picture."""
        trials = self._sweep.trials
        self._open.update(islice(reversed(trials), len(trials) - self._seen))
        self._seen = len(trials)
        over = [trials[number] for number in self._open if trials[number].state.terminal]
        self._open.difference_update(trial.number for trial in over)
        over.sort(key=lambda trial: trial.attempts[-1].ended or 0.0 if trial.attempts else 0.0)
        self._durations.extend(on_slots(t) for t in over[-SAMPLE:] if t.attempts)
        self._whole = self._whole or any(t.outcome is Outcome.COMPLETED for t in over)
        self._recent.extend(self._ended(trial) for trial in over[-RECENT:])
        if len(self._sweep.rules.metrics) > 1 and any(t.state is TrialState.COMPLETE for t in over):
            self._front = front([*self._front, *over], self._sweep.rules.directions)
            self._shown_front = tuple(self._ended(trial) for trial in self._front)

    def _ended(self, trial: Trial) -> Ended:
        last = trial.attempts[-1].ended if trial.attempts else None
        reported = tuple(trial.latest.get(name) for name in self._sweep.rules.metrics)
        known = sorted(trial.params, key=lambda name: self._order.get(name, len(self._order)))
        return Ended(
            number=trial.number,
            state=trial.state,
            outcome=trial.outcome,
            values=trial.values or reported,
            step=trial.step,
            seconds=on_slots(trial),
            at=last or 0.0,
            why=trial.why,
            params={name: trial.params[name] for name in known if self._order.get(name, 0) >= 0},
        )

    def _estimate(self, live: list[Trial], now: float) -> tuple[float | None, bool]:
        """Seconds until the end, and whether it is the timeout that ends it; None where nobody can know."""
        sweep = self._sweep
        if sweep.state not in (SweepState.RUNNING, SweepState.DRAINING):
            return None, False
        going_on = sweep.state is SweepState.RUNNING
        deadline = sweep.deadline()
        left = None if deadline is None else max(0.0, deadline - now)
        known = sweep.rules.trials is not None or bool(sweep.exhausted)
        eta = None
        ages = [max(0.0, now - trial.attempts[-1].launched) for trial in live]
        representative = self._whole or max(ages, default=0.0) < max(self._durations, default=0.0)
        if self._durations and representative and (known or not going_on):
            ahead = len(sweep.ready) + len(sweep.resting) + sweep.asking + sweep.unsampled() if going_on else 0
            eta = makespan(self._durations, ages, ahead, max(self._widths))
        if left is not None and (eta is None or left < eta):
            return left, True
        return eta, False


def on_slots(trial: Trial) -> float:
    """Seconds that the trial's ended attempts held their slots."""
    return sum(max(0.0, a.ended - a.launched) for a in trial.attempts if a.ended is not None)


def _wanted(sweep: Sweep) -> int | None:
    if sweep.exhausted or sweep.rules.trials is None:
        return len(sweep.trials) + sweep.asking if sweep.exhausted else None
    return max(sweep.rules.trials, len(sweep.trials))


def _running(trial: Trial, sweep: Sweep) -> Running:
    attempt = trial.attempts[-1]
    metrics = sweep.rules.metrics
    return Running(
        slot=attempt.slot,
        trial=trial.number,
        attempt=attempt.number,
        doing=_doing(attempt),
        step=attempt.step,
        latest=tuple(trial.latest.get(name) for name in metrics),
        best=tuple(trial.best.get(name) for name in metrics),
        launched=attempt.launched,
    )


def _doing(attempt: Attempt) -> str:
    if attempt.verdict is not None:
        return _DOING.get(attempt.verdict, "stopping")
    return "starting" if attempt.phase is Phase.LAUNCHING else ""


_DOING = {Verdict.PRUNE: "pruning", Verdict.STALL: "stalled", Verdict.TIME: "time is up", Verdict.MOVE: "leaving"}


def _parameter_order(sweep: Sweep) -> dict[str, int]:
    """Parameters in the order of the file; -1 for those that every trial shares."""
    space = sweep.config.get("space") or {}
    return {
        name: -1 if isinstance(kind, dict) and kind.get("type") == "constant" else place
        for place, (name, kind) in enumerate(space.items())
    }


class Observer:
    """Reads what the files of running attempts say beside the state. Only for the thread that draws."""

    def __init__(self, directory: SweepDir) -> None:
        self._directory = directory
        self._curves: dict[tuple[int, int], _Curve] = {}
        self._lag: dict[str, Any] = {}
        self._lag_of = 0  # time of the mlflow.json that it is from: a large file, with the runs of every trial

    def observe(self, picture: Snapshot) -> Snapshot:
        live = {(row.trial, row.attempt) for row in picture.running}
        self._curves = {key: curve for key, curve in self._curves.items() if key in live}
        rows = tuple(replace(row, vitals=self._vitals(row, picture)) for row in picture.running)
        return replace(picture, running=rows, mlflow=self._mlflow())

    def _mlflow(self) -> dict[str, Any]:
        try:
            written = self._directory.mlflow.stat().st_mtime_ns
        except OSError:
            return {}
        if written != self._lag_of:
            self._lag_of = written
            self._lag = (read_json(self._directory.mlflow) or {}).get("lag") or {}
        return self._lag

    def _vitals(self, row: Running, picture: Snapshot) -> Vitals:
        place = self._directory.attempt(row.trial, row.attempt)
        key = (row.trial, row.attempt)
        curve = self._curves.get(key)
        if curve is None:
            curve = self._curves[key] = _Curve(place.reports, next(iter(picture.metrics), ""))
        measured = latest_usage(place.usage, picture.at - STALE)
        return replace(measured, curve=curve.read())


class _Curve:
    """Follows one metric in a file that grows; only what is new is read, and of much that is new the end."""

    def __init__(self, path: Path, metric: str) -> None:
        self._path = path
        self._metric = metric
        self._offset = 0
        self._values: deque[float] = deque(maxlen=CURVE)

    def read(self) -> tuple[float, ...]:
        data, offset = read_tail(self._path, self._offset, TAIL)
        whole, _, rest = data.rpartition(b"\n")
        self._offset = offset + len(data) - len(rest)
        for line in whole.split(b"\n"):
            try:
                self._values.append(number_from_json(json.loads(line)["metrics"][self._metric]))
            except (ValueError, KeyError, TypeError):  # a checkpoint, another metric, or a line cut by the tail
                continue
        return tuple(self._values)


def read_tail(path: Path, offset: int, most: int) -> tuple[bytes, int]:
    """The end of what follows the offset, and where that begins."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = max(min(offset, length), length - most)
            file.seek(start)
            return file.read(most), start
    except OSError:
        return b"", offset


def latest_usage(path: Path, oldest: float) -> Vitals:
    """The last whole line of usage.jsonl, unless it is older than that."""
    data, _ = read_tail(path, 0, LAST)
    for line in reversed(data.split(b"\n")[:-1]):
        try:
            record = json.loads(line)
            if record["at"] < oldest:
                return Vitals()
            known = {name: float(value) for name, value in record["metrics"].items()}
            names = ("cpu", "memory", "device_utilisation", "device_memory")
            cpu, memory, device_utilisation, device_memory = (known.get(name) for name in names)
            return Vitals(cpu, memory, device_utilisation, device_memory)
        except (ValueError, KeyError, TypeError):
            continue
    return Vitals()
