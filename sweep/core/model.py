"""What a sweep is made of: the nouns of the state machine and nothing else.

A `Sweep` holds `Trial`s, a trial holds `Attempt`s, an attempt holds the slots that it was given. Only
`machine.step` changes them. Times are seconds since the epoch, as the controller's clock tells them (it never
goes back while a controller lives).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class TrialState(str, Enum):
    """Optuna's states, by Optuna's names."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def terminal(self) -> bool:
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class Outcome(str, Enum):
    """Why an attempt ended."""

    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    STALLED = "STALLED"
    TIMED_OUT = "TIMED_OUT"
    OOM = "OOM"
    CRASHED = "CRASHED"
    STOPPED = "STOPPED"
    LOST = "LOST"


class SweepState(str, Enum):
    """INTERRUPTED is not here: it is what an observer says of a live state whose controller is gone."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DRAINING = "DRAINING"  # no new trials, the running ones finish
    STOPPING = "STOPPING"  # the running ones were told to end
    FINISHED = "FINISHED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self in (SweepState.FINISHED, SweepState.FAILED)


class Phase(str, Enum):
    """Where an attempt is in its life: LAUNCHING -> RUNNING -> ENDED, or LAUNCHING -> ENDED."""

    LAUNCHING = "LAUNCHING"  # ordered; no process is known yet
    RUNNING = "RUNNING"  # its supervisor is known by (pid, start time, boot id)
    ENDED = "ENDED"


class Verdict(str, Enum):
    """What a running attempt can be told. A later verdict replaces an earlier one only if it is stronger."""

    PRUNE = "prune"
    STALL = "stall"  # nothing came from it, and nothing moved
    TIME = "time"  # its time is up; there is a window for a checkpoint
    MOVE = "move"  # it is to go on elsewhere, from a checkpoint if it makes one: see events.Evicted
    STOP = "stop"
    KILL = "kill"  # stop without the window for a checkpoint

    @property
    def strength(self) -> int:
        return _STRENGTH[self]


_STRENGTH = {verdict: strength for strength, verdict in enumerate(Verdict)}


@dataclass(frozen=True)
class Rules:
    """What the machine needs to know of space.yaml; in the journal's first record, and where the file is changed.

    grace: seconds between a verdict and SIGTERM. kill_after: seconds between SIGTERM and SIGKILL.
    retries: outcome name -> how many further attempts it buys. LOST is not charged, only bounded.
    backoff: seconds before a retry, twice as many before the next. timeout: in seconds of being driven; those of
    an attempt and a trial: of running.
    fail_fast: this many first trials that fail alike end the sweep; 0 never does. fail_rate: so does this share of
    failures among what has ended. slot_hours: what all attempts together may take.
    priority: among all who wait for a slot of the machine, the highest first.
    ahead: configurations sampled before a slot is free for them (more where trials are quick: Sweep.ahead).
    """

    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    trials: int | None = None
    value: str = "last"  # or "best"
    slots: int | None = None
    timeout: float | None = None
    retries: dict[str, int] = field(default_factory=dict)
    backoff: float = 0.0
    stall_action: str = "prune"  # or "retry", "fail"
    on_nan: str = "ignore"  # or "prune", "fail": an objective that is NaN or infinite
    duplicates: str = "repeat"  # or "skip", "average": a configuration that was tried before (again.py)
    attempt_timeout: float | None = None
    trial_timeout: float | None = None
    slot_hours: float | None = None
    priority: int = 0
    fail_fast: int = 3
    fail_rate: float | None = None
    grace: float = 30.0
    kill_after: float = 5.0
    ahead: int = 1
    keep: int = 1  # newest checkpoints of a trial that stay beside its best one
    heeds: bool = True  # the script looks for verdicts itself; otherwise there is no grace before SIGTERM
    needs_run: bool = False  # a trial waits for its MLflow run id

    @property
    def single(self) -> bool:
        return len(self.metrics) == 1

    @property
    def first(self) -> tuple[str, str]:
        """Name and direction of the first objective; a job has none."""
        return (self.metrics[0], self.directions[0]) if self.metrics else ("", "minimize")


JOINT = "+"  # between the slots of an attempt that has several
SHARE = "."  # before the number of a share of a device


@dataclass(slots=True)
class Attempt:
    number: int  # 1, 2, ... within its trial
    slot: str
    device: str
    phase: Phase = Phase.LAUNCHING
    pid: int | None = None  # of the supervisor
    start_time: int | None = None  # of the supervisor, clock ticks since boot
    boot_id: str | None = None
    launched: float = 0.0
    started: float | None = None
    ended: float | None = None
    verdict: Verdict | None = None
    verdict_why: str = ""
    evidence: str = ""  # of a stall: a folder, relative to the sweep's
    outcome: Outcome | None = None
    why: str = ""
    step: int | None = None  # highest step reported by this attempt
    heard: float | None = None  # when it last reported
    lines: int = 0  # how many lines of its reports.jsonl have become events
    crowded: bool = False  # memory ran out while others had shares of its device
    outside: bool = False  # somebody or something outside ended it: see policy.from_outside
    peak: float = 0.0  # bytes, the most that was measured where memory ran out

    @property
    def width(self) -> int:
        """How many devices it has."""
        return self.slot.count(JOINT) + 1


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder relative to the sweep's, and the first objective's value when it was made."""

    step: int
    directory: str
    value: float | None = None


@dataclass(frozen=True)
class Tried:
    """What runs of one configuration measured. first: the number of its first trial. total: sums of values."""

    first: int
    runs: int
    total: tuple[float, ...]


@dataclass(slots=True)
class Trial:
    number: int
    params: dict[str, Any]
    origin: str = "sampler"  # or "enqueued"
    state: TrialState = TrialState.WAITING
    attempts: list[Attempt] = field(default_factory=list)
    latest: dict[str, float] = field(default_factory=dict)  # last value of every metric
    best: dict[str, float] = field(default_factory=dict)  # best value of every objective
    step: int | None = None  # highest step reported by any attempt
    judged: int | None = None  # highest step that the pruner has seen
    checkpoints: list[Checkpoint] = field(default_factory=list)  # those that are kept, newest last
    values: tuple[float, ...] | None = None
    run_id: str | None = None
    why: str = ""

    @property
    def attempt(self) -> Attempt | None:
        """The live attempt, if there is one."""
        if self.attempts and self.attempts[-1].phase is not Phase.ENDED:
            return self.attempts[-1]
        return None

    @property
    def alone(self) -> bool:
        """Whether its next attempt is to have a whole device: memory ran out beside others."""
        return any(attempt.crowded for attempt in self.attempts)

    @property
    def outcome(self) -> Outcome | None:
        return self.attempts[-1].outcome if self.attempts else None

    @property
    def ran_out(self) -> float | None:
        """The bytes at which its configuration ran out of memory; None where something else ended it."""
        if self.state is not TrialState.FAIL or self.outcome is not Outcome.OOM or self.attempts[-1].crowded:
            return None
        return self.attempts[-1].peak


_NO_LIMIT = 1 << 30
QUICK = 10.0  # seconds


@dataclass(slots=True)
class Sweep:
    """The whole state. The collections beside `trials` are indexes over it, so that every step is O(1)."""

    id: str
    rules: Rules
    config: dict[str, Any]
    opened: float
    file: str = ""  # the space.yaml, as SweepOpened has it
    overrides: dict[str, Any] = field(default_factory=dict)
    former: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # configs, each with its end
    state: SweepState = SweepState.RUNNING
    why: str = ""
    trials: dict[int, Trial] = field(default_factory=dict)
    ready: deque[int] = field(default_factory=deque)  # WAITING trials, next first
    resting: dict[int, float] = field(default_factory=dict)  # WAITING for a retry -> from when on it is ready
    live: set[int] = field(default_factory=set)  # trials with a live attempt
    held: dict[str, int] = field(default_factory=dict)  # slots of live attempts: slot -> trial
    offers: dict[str, str] = field(default_factory=dict)  # leased and idle: slot -> device
    queue: deque[dict[str, Any]] = field(default_factory=deque)  # configurations of the user's own, unsampled
    asking: int = 0  # orders to sample that are not answered yet
    preferred: int = 0  # how many of those were given a configuration of the queue
    exhausted: str = ""  # why the sampler has nothing more
    counts: dict[TrialState, int] = field(default_factory=lambda: dict.fromkeys(TrialState, 0))
    best: int | None = None  # number of the best COMPLETE trial (single objective)
    tried: dict[str, Tried] = field(default_factory=dict)  # by configuration, where `duplicates` needs it
    copies: int = 0  # trials in a row that were copies of earlier ones
    failed: bool = False  # the sweep itself failed, whatever its trials did
    hold: str = ""  # why nothing is started for now
    called_off: bool = False  # it is ending, or has ended, because the user said so
    endings: int = 0  # how often it has ended: one that was extended ends anew
    started_by: dict[str, Any] = field(default_factory=dict)  # the sweep that it goes on from: see SweepOpened
    failures: int = 0  # trials that failed by themselves, not because somebody stopped them
    taken: float = 0.0  # seconds that ended attempts had their slots
    first_failures: list[str] | None = field(default_factory=list)  # causes, until a trial does not fail
    pace: float | None = None  # seconds that attempts took lately, a moving average
    controller: dict[str, Any] = field(default_factory=dict)
    active: float = 0.0  # seconds that earlier controllers drove this sweep
    forgiven: float = 0.0  # driven seconds that the timeout does not count: pauses, and what lay before a resume
    paused: float | None = None  # since when the present controller holds it paused
    resumed: float = 0.0  # when the present controller took over
    at: float = 0.0  # time of the newest event

    def config_at(self, when: float) -> dict[str, Any]:
        """The config that an attempt was launched with at this time."""
        return next((config for end, config in self.former if when < end), self.config)

    def ahead(self) -> int:
        """How many configurations should lie ready for slots that are not free yet.

        Each is chosen without the results that are still on their way, so there are few of them; but where trials
        are QUICK, several slots are free at once and often, and a trial would wait for the sampler.
        """
        if not self.rules.ahead or self.pace is None or self.pace > QUICK:
            return self.rules.ahead
        return max(self.rules.ahead, len(self.live))

    def spare(self) -> int:
        """How many more attempts may live at once, by the user's own limit on slots."""
        if self.rules.slots is None:
            return _NO_LIMIT
        return max(0, self.rules.slots - len(self.live))

    def in_line(self) -> int:
        """How many of `ready` may start: a lowered limit on trials holds the newest back, but no retry."""
        if self.rules.trials is None or len(self.trials) <= self.rules.trials:
            return len(self.ready)
        fresh = sum(not self.trials[number].attempts for number in self.ready)
        return len(self.ready) - min(fresh, len(self.trials) - self.rules.trials)

    def room(self) -> int:
        """How many configurations may still be asked for, by the limit on trials."""
        if self.rules.trials is None:
            return _NO_LIMIT
        return max(0, self.rules.trials - len(self.trials) - self.asking)

    def wants_whole(self) -> bool:
        """Whether the trial that is next in line is to have a device alone."""
        return bool(self.ready) and self.trials[self.ready[0]].alone

    def unsampled(self) -> int:
        """How many configurations will still be asked for; the user's own need no sampler."""
        return min(self.room(), len(self.queue) - self.preferred) if self.exhausted else self.room()

    def demand(self) -> int:
        """How many further slots it would be useful to lease now."""
        if self.state is not SweepState.RUNNING or self.hold:
            return 0
        useful = self.in_line() + self.asking + self.unsampled()
        return max(0, min(useful, self.spare()) - len(self.offers))

    def slot_seconds(self, now: float) -> float:
        """How long attempts have had their slots, those that live included."""
        live = (self.trials[number].attempts[-1] for number in self.live)
        return self.taken + sum(attempt.width * (now - attempt.launched) for attempt in live)

    def deadline(self) -> float | None:
        """When the sweep's own timeout passes, on the controller's clock."""
        if self.rules.timeout is None or self.state is not SweepState.RUNNING:
            return None
        return self.resumed + self.rules.timeout - self.active + self.forgiven
