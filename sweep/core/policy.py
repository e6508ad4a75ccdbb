"""Judgements over facts: what an end means, what a retry costs, which trial is better. Pure functions."""

from __future__ import annotations

import math
import re

from sweep.core.events import AttemptEnded
from sweep.core.model import Attempt, Checkpoint, Outcome, Rules, Trial, TrialState, Verdict

# LOST is nobody's fault and not charged; but a trial that takes its host down every time must end somewhere.
LOST_LIMIT = 3
_STOPS = (Verdict.STOP, Verdict.KILL)


def better(direction: str, one: float, other: float) -> bool:
    """Whether `one` beats `other`; NaN never does, and anything beats NaN."""
    if math.isnan(one):
        return False
    if math.isnan(other):
        return True
    return one > other if direction == "maximize" else one < other


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
    if end.acknowledged != "prune" and (attempt.verdict in _STOPS or end.acknowledged):
        return Outcome.STOPPED, TrialState.FAIL, None, attempt.verdict_why or "it stopped itself"
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
    how = f"exit code {end.code}" if end.code is not None else f"signal {end.signal}"
    why = f"{end.cause} ({how})" if end.cause else how
    return (Outcome.OOM if end.hint == "oom" else Outcome.CRASHED), TrialState.FAIL, None, why


def may_retry(trial: Trial, outcome: Outcome, rules: Rules) -> bool:
    """Whether another attempt follows one that ended so."""
    if outcome is Outcome.LOST:
        return sum(a.outcome is Outcome.LOST for a in trial.attempts) < LOST_LIMIT
    charged = sum(a.outcome is not None and a.outcome.value in rules.retries for a in trial.attempts)
    return charged <= rules.retries.get(outcome.value, -1)


def strip_numbers(cause: str) -> str:
    """A cause without what differs from trial to trial, so that alike failures are equal."""
    return re.sub(r"0x[0-9a-f]+|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "#", cause, flags=re.IGNORECASE)
