"""Judgements over facts: what an end means, what a retry costs, which trial is better. Pure functions."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping

from sweep.core.events import AttemptEnded, Reported
from sweep.core.evidence import said_bytes
from sweep.core.model import Attempt, Checkpoint, Outcome, Rules, Trial, TrialState, Verdict

# LOST is nobody's fault and not charged; but a trial that takes its host down every time must end somewhere.
LOST_LIMIT = 3
LONGEST_PAUSE = 3600.0
ENOUGH = 10  # ended trials, before a share of failures means anything
_STOPS = (Verdict.STOP, Verdict.KILL)
_PEAKS = {"memory": "of memory", "device_memory": "used on its device"}


def better(direction: str, one: float, other: float) -> bool:
    """Whether `one` beats `other`; NaN never does, and anything beats NaN."""
    if math.isnan(one):
        return False
    if math.isnan(other):
        return True
    return one > other if direction == "maximize" else one < other


def to_judge(rules: Rules, newest: int | None, event: Reported) -> float | None:
    """The value of this report that the pruner is to be asked about, if any. newest: the step that it saw last.

    Optuna takes one value a step: a repeated or earlier one (a retry that starts over) is not judged again.
    """
    value = event.metrics.get(rules.first[0])
    if not rules.single or value is None or (newest is not None and event.step <= newest):
        return None
    return None if rules.on_nan != "ignore" and not math.isfinite(value) else value


def best_checkpoint(trial: Trial, direction: str) -> Checkpoint | None:
    """The kept checkpoint with the best value; the newest where none has one."""
    best: Checkpoint | None = None
    for one in trial.checkpoints:
        if (
            best is None
            or best.value is None
            or (one.value is not None and better(direction, one.value, best.value))
        ):
            best = one
    return best


def final_checkpoint(trial: Trial, rules: Rules) -> Checkpoint | None:
    """The kept checkpoint that goes with the trial's value: the newest, or the best where that counts."""
    if rules.value == "best":
        return best_checkpoint(trial, rules.first[1])
    return trial.checkpoints[-1] if trial.checkpoints else None


def objective(trial: Trial, rules: Rules) -> tuple[tuple[float, ...] | None, str]:
    """The trial's values by `rules.value`, or None and why there are none."""
    source = trial.best if rules.value == "best" else trial.latest
    missing = [name for name in rules.metrics if name not in source]
    if missing:
        said = ", ".join(sorted(trial.latest)) or "nothing at all"
        return (
            None,
            f"{_names(missing)} {'was' if len(missing) == 1 else 'were'} never reported (reported: {said})",
        )
    values = tuple(source[name] for name in rules.metrics)
    odd = [name for name, value in zip(rules.metrics, values, strict=True) if math.isnan(value)]
    if odd:
        return None, f"{_names(odd)} ended as NaN at step {trial.step}"
    return values, ""


def _names(names: list[str]) -> str:
    return " and ".join(names)


def judge_end(
    trial: Trial, attempt: Attempt, end: AttemptEnded, rules: Rules
) -> tuple[Outcome, TrialState, tuple[float, ...] | None, str]:
    """What the end of an attempt means for its trial: outcome, state, values, and why, in words.

    Order matters. A process that ended well is COMPLETE although a verdict was on its way; only one that took
    notice, was signalled, ended badly or vanished after the verdict has ended because of it. What it took notice
    of says more than what it was told later.
    """
    values, missing = objective(trial, rules)
    if end.code == 0 and not end.acknowledged and not end.signalled and values is not None:
        return Outcome.COMPLETED, TrialState.COMPLETE, values, ""
    if attempt.verdict is Verdict.TIME and end.acknowledged != "prune":
        return Outcome.TIMED_OUT, TrialState.FAIL, None, attempt.verdict_why
    if attempt.verdict is Verdict.MOVE and end.acknowledged != "prune":
        return Outcome.LOST, TrialState.FAIL, None, attempt.verdict_why
    if attempt.verdict is Verdict.STALL and end.acknowledged != "prune":
        prunes = rules.stall_action == "prune" and any(math.isfinite(value) for value in trial.best.values())
        return Outcome.STALLED, TrialState.PRUNED if prunes else TrialState.FAIL, None, attempt.verdict_why
    if end.acknowledged != "prune" and (attempt.verdict in _STOPS or end.acknowledged):
        return Outcome.STOPPED, TrialState.FAIL, None, attempt.verdict_why or "it stopped itself"
    if attempt.verdict is Verdict.PRUNE and not any(math.isfinite(value) for value in trial.best.values()):
        return Outcome.PRUNED, TrialState.FAIL, None, attempt.verdict_why
    if attempt.verdict is Verdict.PRUNE:
        return Outcome.PRUNED, TrialState.PRUNED, None, attempt.verdict_why
    if end.acknowledged:
        when = "before its first report" if attempt.step is None else f"at step {attempt.step}"
        return Outcome.PRUNED, TrialState.PRUNED, None, f"gave up by itself {when}"
    if end.signalled:  # by none of us: a host that goes down, or somebody who killed the supervisor
        return Outcome.LOST, TrialState.FAIL, None, "its supervisor was told to end, but not by this sweep"
    if end.code is None and end.signal is None:
        return Outcome.LOST, TrialState.FAIL, None, end.cause or "its supervisor is gone and left no word"
    if end.code == 0:
        return Outcome.CRASHED, TrialState.FAIL, None, f"exited 0, but {missing}"
    if end.device_lost:
        return Outcome.LOST, TrialState.FAIL, None, end.device_lost
    how = f"exit code {end.code}" if end.code is not None else _signal(end.signal)
    if from_outside(end) and not end.hint:
        how += " from outside: an administrator, a scheduler, the kernel"
    why = f"{end.cause} ({how})" if end.cause else how
    if end.hint != "oom":
        return Outcome.CRASHED, TrialState.FAIL, None, why
    peaks = [f"{said_bytes(end.peak[key])} {words}" for key, words in _PEAKS.items() if key in end.peak]
    return Outcome.OOM, TrialState.FAIL, None, f"{why}; its peak: {', '.join(peaks)}" if peaks else why


def from_outside(end: AttemptEnded) -> bool:
    """Whether what ended it was neither the script nor its device: no program ends itself so, and no driver it."""
    return end.signal in (signal.SIGKILL, signal.SIGTERM) or bool(end.hint)


def _signal(number: int | None) -> str:
    try:
        return f"signal {number}, {signal.Signals(number or 0).name}"
    except ValueError:
        return f"signal {number}"


def may_retry(trial: Trial, outcome: Outcome, rules: Rules, action: str = "") -> bool:
    """Whether another attempt follows one that ended so. action: what space.yaml says of this very failure."""
    if rules.trial_timeout is not None and spent(trial) >= rules.trial_timeout:
        return False  # the next one would have no time
    if outcome is Outcome.LOST:
        lost = sum(a.outcome is Outcome.LOST and a.verdict is not Verdict.MOVE for a in trial.attempts)
        return lost < LOST_LIMIT or trial.attempts[-1].verdict is Verdict.MOVE  # who was sent away did no harm
    if trial.attempts[-1].crowded:
        return True  # the others had what it wanted
    if action in ("fail", "stop"):
        return False
    if action == "retry":
        return len(trial.attempts) <= max([1, *rules.retries.values()])
    failed = (a.outcome for a in trial.attempts if a.outcome is not None and not a.crowded)
    charged = sum(outcome.value in rules.retries for outcome in failed)
    return charged <= rules.retries.get(outcome.value, -1)


def spent(trial: Trial, now: float = 0.0) -> float:
    """Seconds that the trial's attempts took; without those that were lost, whose end nobody saw."""
    taken = (a for a in trial.attempts if a.outcome is not Outcome.LOST)
    return sum(max(0.0, (now if a.ended is None else a.ended) - a.launched) for a in taken)


def retry_pause(trial: Trial, outcome: Outcome, rules: Rules) -> float:
    """Seconds before the next attempt: `backoff`, doubled with every attempt, an hour at most; none for a loss."""
    if outcome is Outcome.LOST or not rules.backoff:
        return 0.0
    failed = sum(attempt.outcome is not Outcome.LOST for attempt in trial.attempts)
    return min(LONGEST_PAUSE, rules.backoff * 2.0 ** min(failed - 1, 20))


def too_many_failures(failures: int, counts: Mapping[TrialState, int], rules: Rules) -> bool:
    """Whether the share of failures is above the limit, once enough trials have ended to speak of a share."""
    ended = sum(count for state, count in counts.items() if state.terminal)
    return rules.fail_rate is not None and ended >= ENOUGH and failures / ended > rules.fail_rate


def strip_numbers(cause: str) -> str:
    """A cause without what differs from trial to trial, so that alike failures are equal."""
    return re.sub(r"0x[0-9a-f]+|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "#", cause, flags=re.IGNORECASE)
