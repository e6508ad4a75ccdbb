"""What the machine orders of an edge. Effects are never written: they follow from the events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.core.model import Outcome, TrialState, Verdict


@dataclass(frozen=True)
class Effect:
    pass


@dataclass(frozen=True)
class Ask(Effect):
    """Sample one configuration; answered by TrialSampled or SamplerExhausted."""


@dataclass(frozen=True)
class Prefer(Effect):
    """Hand these parameters out at the next Ask."""

    params: dict[str, Any]


@dataclass(frozen=True)
class MakeRun(Effect):
    """Make the trial's MLflow run ahead; answered by RunLinked."""

    trial: int


@dataclass(frozen=True)
class Launch(Effect):
    """Start the attempt on this leased slot; answered by AttemptStarted or LaunchFailed."""

    trial: int
    attempt: int
    slot: str


@dataclass(frozen=True)
class Release(Effect):
    """Give back the lease of a slot that was offered."""

    slot: str


@dataclass(frozen=True)
class Judge(Effect):
    """Tell Optuna this intermediate value; answered by PruneAdvised, or not at all."""

    trial: int
    attempt: int
    step: int
    value: float


@dataclass(frozen=True)
class Tell(Effect):
    """The trial is over; Optuna is told this, once. ran_out: as in model.Trial."""

    trial: int
    state: TrialState
    values: tuple[float, ...] | None
    outcome: Outcome | None = None
    ran_out: float | None = None


@dataclass(frozen=True)
class Deliver(Effect):
    """Let the attempt know a verdict: the file, after `grace` seconds SIGTERM, `kill_after` later SIGKILL."""

    trial: int
    attempt: int
    verdict: Verdict
    grace: float
    kill_after: float


@dataclass(frozen=True)
class Discard(Effect):
    """Delete this checkpoint: newer or better ones are kept. `directory` is relative to the sweep's folder."""

    directory: str


@dataclass(frozen=True)
class Finish(Effect):
    """The sweep has ended; `state` and `why` are in the state."""
