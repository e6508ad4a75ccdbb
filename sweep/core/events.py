"""The journal as a type: what can happen.

An event is a fact that is not a consequence of earlier events. Each is one line of `journal.jsonl`:

    {"v": 1, "seq": 17, "at": 1763960000.25, "event": "Reported", "trial": 3, "attempt": 1, "step": 5, ...}

`v` is SCHEMA, `seq` counts from 0 without gaps, `at` is in seconds since the epoch. Numbers that JSON lacks
are the strings "NaN", "Infinity", "-Infinity". Within one schema version fields are only ever added, with a
default; a reader ignores fields that it does not know and refuses events and versions that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweep.core.model import Rules

SCHEMA = 1


@dataclass(frozen=True)
class Event:
    at: float


@dataclass(frozen=True)
class SweepOpened(Event):
    """The first record. `config` is SweepConfig as JSON.

    file: the space.yaml, relative to the project's folder where it lies below it; empty for a job. overrides: what
    was set beside it on the command line, by dotted key. started_by: {sweep, ending, hook, round} of the sweep
    whose end started this one; empty where a person did.
    """

    id: str
    rules: Rules
    config: dict[str, Any]
    file: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    started_by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigChanged(Event):
    """A controller is about to take the sweep over with a changed file; a ControllerStarted follows.

    config, overrides: as they are from here on. rules: the Rules that the file changes, and no others, since
    limits may have been set meanwhile. enqueue: the configurations that the file has in addition. told: the
    changes in words. text: the file as given.
    """

    config: dict[str, Any]
    overrides: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    enqueue: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    text: str = ""


@dataclass(frozen=True)
class ControllerStarted(Event):
    """A controller took the sweep over: leases that were only offered are gone, orders unanswered are void.

    sampled: configurations that the study has and the journal had missed, each with number, params and origin.
    """

    pid: int
    start_time: int
    boot_id: str
    host: str = ""
    version: str = ""
    sampled: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class TrialSampled(Event):
    """A configuration, numbered by Optuna. `origin` is "sampler" or "enqueued"."""

    number: int
    params: dict[str, Any]
    origin: str = "sampler"


@dataclass(frozen=True)
class SamplerExhausted(Event):
    """The sampler has nothing more to offer (a grid is done), or cannot go on."""

    why: str
    failed: bool = False


@dataclass(frozen=True)
class SlotOffered(Event):
    """This controller holds the lease of a slot, for whichever trial is next."""

    slot: str
    device: str


@dataclass(frozen=True)
class RunLinked(Event):
    """The trial's MLflow run exists (only journaled where the trial waits for it)."""

    trial: int
    run_id: str


@dataclass(frozen=True)
class AttemptStarted(Event):
    """The attempt's supervisor lives. (pid, start_time, boot_id) is the supervisor's identity."""

    trial: int
    attempt: int
    pid: int
    start_time: int
    boot_id: str


@dataclass(frozen=True)
class Reported(Event):
    """What the trial said; `at` is the trial's own time of saying it."""

    trial: int
    attempt: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Checkpointed(Event):
    """A whole checkpoint lies in `directory`, relative to the sweep's folder."""

    trial: int
    attempt: int
    step: int
    directory: str


@dataclass(frozen=True)
class PruneAdvised(Event):
    """The pruner's verdict over the report of `step`. (That it lets a trial go on is not journaled.)"""

    trial: int
    attempt: int
    step: int


@dataclass(frozen=True)
class StallSeen(Event):
    """For too long nothing came from the attempt and nothing moved. evidence: a folder, as a checkpoint's."""

    trial: int
    attempt: int
    why: str
    evidence: str = ""


@dataclass(frozen=True)
class TimedOut(Event):
    """The attempt's own time limit, or its trial's, has passed."""

    trial: int
    attempt: int
    why: str


@dataclass(frozen=True)
class Evicted(Event):
    """The attempt must leave its device, which has failed or is somebody else's. Its trial goes on, uncharged."""

    trial: int
    attempt: int
    why: str


@dataclass(frozen=True)
class RetryDue(Event):
    """The pause before a trial's next attempt is over."""

    trial: int


@dataclass(frozen=True)
class AttemptEnded(Event):
    """Proof that no process of the attempt lives.

    code/signal: of the command's first process; both None if nobody saw it end (lost). acknowledged: the verdict
    that the trial itself took notice of, or "prune" where it raised TrialPruned by itself. signalled: the
    supervisor had to use signals. cause: the last error line, for people and for telling failures apart.
    hint: what the evidence says about the failure: "oom", "limit" (ended for another one than memory), or "".
    action: what space.yaml wants for such a failure: "retry", "fail", "stop" (the sweep), or "" where it says
    nothing. peak: the most that was measured, in bytes, where memory ran out: "memory", and "device_memory" where
    there is one. device_lost: why it is its device that failed, and not the trial; empty where nothing says so.
    crowded: memory ran out while others had shares of its device.
    """

    trial: int
    attempt: int
    code: int | None = None
    signal: int | None = None
    acknowledged: str | None = None
    signalled: bool = False
    cause: str = ""
    hint: str = ""
    action: str = ""
    peak: dict[str, float] = field(default_factory=dict)
    device_lost: str = ""
    crowded: bool = False


@dataclass(frozen=True)
class LaunchFailed(Event):
    """No process came to be: the nursery died, the lease was lost on the way, a folder could not be written."""

    trial: int
    attempt: int
    cause: str


@dataclass(frozen=True)
class StopAsked(Event):
    """Somebody wants an end: of one trial, or (trial None) of the sweep. now: without a checkpoint window."""

    trial: int | None = None
    now: bool = False
    why: str = "stopped by the user"


@dataclass(frozen=True)
class DrainAsked(Event):
    why: str = "drained by the user"


@dataclass(frozen=True)
class PauseAsked(Event):
    pass


@dataclass(frozen=True)
class ResumeAsked(Event):
    pass


@dataclass(frozen=True)
class TimeUp(Event):
    """The sweep's own timeout has passed, or (budget) its slot-hours are used up."""

    budget: bool = False


@dataclass(frozen=True)
class LimitsSet(Event):
    """New limits, or a new priority; None leaves one as it is. slots 0 means no limit."""

    trials: int | None = None
    slots: int | None = None
    priority: int | None = None


@dataclass(frozen=True)
class Enqueued(Event):
    """A configuration of the user's own, next in line."""

    params: dict[str, Any]


@dataclass(frozen=True)
class LaunchesHeld(Event):
    """Nothing is started from here on, because of `why`; an empty one ends that. What runs is not touched."""

    why: str


@dataclass(frozen=True)
class CheckpointDropped(Event):
    """A checkpoint that was kept goes, for want of room on the disk. `directory` is as in Checkpointed."""

    trial: int
    directory: str
    why: str


@dataclass(frozen=True)
class Noted(Event):
    """Something worth telling that changes nothing: for `why` and the controller's log."""

    text: str
    trial: int | None = None


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        SweepOpened,
        ConfigChanged,
        ControllerStarted,
        TrialSampled,
        SamplerExhausted,
        SlotOffered,
        RunLinked,
        AttemptStarted,
        Reported,
        Checkpointed,
        PruneAdvised,
        StallSeen,
        TimedOut,
        Evicted,
        RetryDue,
        AttemptEnded,
        LaunchFailed,
        StopAsked,
        DrainAsked,
        PauseAsked,
        ResumeAsked,
        TimeUp,
        LimitsSet,
        Enqueued,
        LaunchesHeld,
        CheckpointDropped,
        Noted,
    )
}
