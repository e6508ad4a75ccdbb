"""One trial as a person looks at it, and what of it needs more than the state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.cli.document import checkpoint_path, command_line
from sweep.core.model import Sweep, Trial
from sweep.rundir import SweepDir


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it was when it was asked for.

    state: WAITING, RUNNING, COMPLETE, PRUNED or FAIL; outcome: how its last attempt ended, None while that runs.
    values: metric -> value, of a COMPLETE trial; latest: metric -> what was reported last, of all metrics.
    started: seconds since the epoch. duration: seconds on slots, over all attempts, up to now where one runs.
    """

    number: int
    state: str
    outcome: str | None
    params: Mapping[str, Any]
    values: Mapping[str, float]
    latest: Mapping[str, float]
    step: int | None
    why: str
    device: str | None
    slot: str | None
    started: float | None
    duration: float | None
    attempts: int
    origin: str
    _sweep: Sweep = field(repr=False, compare=False)
    _trial: Trial = field(repr=False, compare=False)
    _directory: SweepDir = field(repr=False, compare=False)

    @property
    def value(self) -> float | None:
        """Of the first objective; None where the trial is not COMPLETE."""
        return next(iter(self.values.values()), None)

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the checkpoint that goes with the value; None where there is none (any more)."""
        found = checkpoint_path(self._sweep, self._trial, self._directory)
        return Path(found) if found else None

    @property
    def command(self) -> str:
        """What to type, in the project's folder, to train this configuration once more."""
        return command_line(self._sweep, self._trial, self._directory)

    @property
    def directory(self) -> Path | None:
        """The folder of the last attempt (output.log, reports.jsonl, checkpoints); None before the first."""
        return self._directory.attempt(self.number, self.attempts).path if self.attempts else None


def record(sweep: Sweep, trial: Trial, directory: SweepDir) -> TrialRecord:
    last = trial.attempts[-1] if trial.attempts else None
    return TrialRecord(
        number=trial.number,
        state=trial.state.value,
        outcome=trial.outcome.value if trial.outcome else None,
        params=dict(trial.params),
        values=dict(zip(sweep.rules.metrics, trial.values or (), strict=False)),
        latest=dict(trial.latest),
        step=trial.step,
        why=trial.why,
        device=last.device if last else None,
        slot=last.slot if last else None,
        started=trial.attempts[0].launched if last else None,
        duration=_duration(trial) if last else None,
        attempts=len(trial.attempts),
        origin=trial.origin,
        _sweep=sweep,
        _trial=trial,
        _directory=directory,
    )


def _duration(trial: Trial) -> float:
    now = time.time()
    return sum(max(0.0, (now if a.ended is None else a.ended) - a.launched) for a in trial.attempts)
