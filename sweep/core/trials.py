"""What happens to a trial: the handlers of its events, and what a verdict or an end does to it.

Each handler refuses (IllegalEvent) before it changes anything. None of them launches, asks, releases or finishes:
that is `advance.py`, after them. The one Tell is in `end_trial`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sweep.core import again
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.blame import may_be_a_device
from sweep.core.model import Attempt, Checkpoint, Outcome, Phase, Sweep, SweepState, Trial, TrialState, Verdict
from sweep.core.policy import (
    best_checkpoint,
    better,
    from_outside,
    judge_end,
    may_retry,
    retry_pause,
    strip_numbers,
    to_judge,
    too_many_failures,
)
from sweep.errors import IllegalEvent

Effects = list[do.Effect]


def _trial_sampled(sweep: Sweep, event: e.TrialSampled) -> Effects:
    if event.number in sweep.trials:
        raise IllegalEvent(f"trial {event.number} exists already")
    if not sweep.asking:
        raise IllegalEvent(f"trial {event.number} was not asked for")
    sweep.asking -= 1
    add_trial(sweep, event.number, event.params, event.origin)
    sweep.preferred = min(sweep.preferred, sweep.asking)
    return [do.MakeRun(event.number)] if sweep.rules.needs_run else []


def add_trial(sweep: Sweep, number: int, params: dict[str, Any], origin: str) -> None:
    """A new trial, last in line; one of the user's own configurations leaves the queue with it."""
    sweep.trials[number] = Trial(number, params, origin)
    sweep.counts[TrialState.WAITING] += 1
    sweep.ready.append(number)
    if origin == "enqueued" and sweep.queue:
        sweep.queue.popleft()
        sweep.preferred = max(0, sweep.preferred - 1)


def _run_linked(sweep: Sweep, event: e.RunLinked) -> Effects:
    find(sweep, event.trial).run_id = event.run_id
    return []


def _attempt_started(sweep: Sweep, event: e.AttemptStarted) -> Effects:
    trial, attempt = _live(sweep, event.trial, event.attempt)
    if attempt.phase is not Phase.LAUNCHING:
        raise IllegalEvent(f"attempt {event.trial}/{event.attempt} has started already")
    attempt.phase = Phase.RUNNING
    attempt.pid, attempt.start_time, attempt.boot_id = event.pid, event.start_time, event.boot_id
    attempt.started = event.at
    return [deliver(sweep, trial)] if attempt.verdict else []


def _reported(sweep: Sweep, event: e.Reported) -> Effects:
    trial, attempt = _live(sweep, event.trial, event.attempt)
    rules = sweep.rules
    attempt.lines += 1
    attempt.heard = event.at
    attempt.step = event.step if attempt.step is None else max(attempt.step, event.step)
    trial.step = event.step if trial.step is None else max(trial.step, event.step)
    trial.latest.update(event.metrics)
    for name, direction in zip(rules.metrics, rules.directions, strict=True):
        value = event.metrics.get(name)
        if value is not None and (name not in trial.best or better(direction, value, trial.best[name])):
            trial.best[name] = value
    odd = rules.on_nan != "ignore" and [m for m in rules.metrics if not math.isfinite(event.metrics.get(m, 0.0))]
    if odd:
        verdict = Verdict.PRUNE if rules.on_nan == "prune" else Verdict.STOP
        return sentence(sweep, trial, verdict, f"{odd[0]} was {event.metrics[odd[0]]} at step {event.step}")
    value = to_judge(rules, trial.judged, event)
    if value is None:
        return []
    trial.judged = event.step
    return [do.Judge(trial.number, attempt.number, event.step, value)]


def _checkpointed(sweep: Sweep, event: e.Checkpointed) -> Effects:
    trial, attempt = _live(sweep, event.trial, event.attempt)
    attempt.lines += 1
    metric, direction = sweep.rules.first
    made = Checkpoint(event.step, event.directory, trial.latest.get(metric))
    trial.checkpoints = [*(c for c in trial.checkpoints if c.directory != made.directory), made]
    kept = {*trial.checkpoints[-max(1, sweep.rules.keep) :], best_checkpoint(trial, direction)}
    dropped = [c for c in trial.checkpoints if c not in kept]
    trial.checkpoints = [c for c in trial.checkpoints if c in kept]
    return [do.Discard(c.directory) for c in dropped]


def _checkpoint_dropped(sweep: Sweep, event: e.CheckpointDropped) -> Effects:
    trial = find(sweep, event.trial)
    left = [one for one in trial.checkpoints if one.directory != event.directory]
    if len(left) == len(trial.checkpoints):
        raise IllegalEvent(f"trial {trial.number} has no checkpoint {event.directory}")
    trial.checkpoints = left
    return [do.Discard(event.directory)]


def _prune_advised(sweep: Sweep, event: e.PruneAdvised) -> Effects:
    return sentence(sweep, _unsentenced(sweep, event), Verdict.PRUNE, f"pruned at step {event.step}")


def _stall_seen(sweep: Sweep, event: e.StallSeen) -> Effects:
    trial = _unsentenced(sweep, event)
    trial.attempts[-1].evidence = event.evidence
    return sentence(sweep, trial, Verdict.STALL, event.why)


def _timed_out(sweep: Sweep, event: e.TimedOut) -> Effects:
    return sentence(sweep, _unsentenced(sweep, event), Verdict.TIME, event.why)


def _evicted(sweep: Sweep, event: e.Evicted) -> Effects:
    return sentence(sweep, _unsentenced(sweep, event), Verdict.MOVE, event.why)


def _unsentenced(sweep: Sweep, event: e.PruneAdvised | e.StallSeen | e.TimedOut | e.Evicted) -> Trial:
    trial, attempt = _live(sweep, event.trial, event.attempt)
    if attempt.verdict is not None:
        raise IllegalEvent(f"attempt {event.trial}/{event.attempt} has a verdict already")
    return trial


def _retry_due(sweep: Sweep, event: e.RetryDue) -> Effects:
    if sweep.resting.pop(event.trial, None) is None:
        raise IllegalEvent(f"trial {event.trial} does not wait for a retry")
    sweep.ready.appendleft(event.trial)
    return []


def _launch_failed(sweep: Sweep, event: e.LaunchFailed) -> Effects:
    _, attempt = _live(sweep, event.trial, event.attempt)
    if attempt.phase is not Phase.LAUNCHING:
        raise IllegalEvent(f"attempt {event.trial}/{event.attempt} has started")
    return _attempt_ended(sweep, e.AttemptEnded(event.at, event.trial, event.attempt, cause=event.cause))


def _attempt_ended(sweep: Sweep, event: e.AttemptEnded) -> Effects:
    """The trial ends with its attempt, or waits for its next one, first in line."""
    trial, attempt = _live(sweep, event.trial, event.attempt)
    outcome, state, values, why = judge_end(trial, attempt, event, sweep.rules)
    attempt.phase, attempt.ended, attempt.outcome, attempt.why = Phase.ENDED, event.at, outcome, why
    attempt.crowded = event.crowded and outcome is Outcome.OOM and not trial.alone
    attempt.outside = outcome is Outcome.CRASHED and from_outside(event)
    attempt.peak = max(event.peak.values(), default=0.0)
    if outcome is not Outcome.LOST or attempt.verdict is Verdict.MOVE:  # else nobody knows how long it took
        took = max(0.0, event.at - attempt.launched)
        sweep.pace = took if sweep.pace is None else 0.8 * sweep.pace + 0.2 * took
        sweep.taken += attempt.width * took
    sweep.live.remove(trial.number)
    del sweep.held[attempt.slot]
    action = event.action if outcome in (Outcome.CRASHED, Outcome.OOM) else ""
    if state is TrialState.FAIL and may_retry(trial, outcome, sweep.rules, action):
        move(sweep, trial, TrialState.WAITING)
        trial.why = f"attempt {attempt.number} {outcome.value}: {why}; another follows"
        trial.why += " on a device of its own" if attempt.crowded else ""
        if pause := retry_pause(trial, outcome, sweep.rules):
            trial.why += f" in {pause:g} s"
            sweep.resting[trial.number] = event.at + pause
        else:
            sweep.ready.appendleft(trial.number)
        return []
    if values is not None:
        values, why = again.learn(sweep, trial, values, why)
    orders = end_trial(sweep, trial, state, values, why)
    orders += _fail_fast(sweep, trial, outcome, why, action)
    return orders


def end_trial(
    sweep: Sweep, trial: Trial, state: TrialState, values: tuple[float, ...] | None, why: str
) -> Effects:
    move(sweep, trial, state)
    trial.values, trial.why = values, why
    if values is not None and sweep.rules.single:
        leader = sweep.trials[sweep.best].values if sweep.best is not None else None
        if leader is None or better(sweep.rules.directions[0], values[0], leader[0]):
            sweep.best = trial.number
    return [do.Tell(trial.number, state, values, trial.outcome, trial.ran_out)]


def _fail_fast(sweep: Sweep, trial: Trial, outcome: Outcome, why: str, action: str) -> Effects:
    """The same failure in the first trials is a broken script, not bad luck: the sweep ends with it."""
    if outcome is Outcome.STOPPED or sweep.state is SweepState.STOPPING:
        return []
    failed = trial.state is TrialState.FAIL
    sweep.failures += failed
    text = ""
    if failed and action == "stop":
        text = f"trial {trial.number} failed, and `failures` says to stop then: {why}"
    elif alike := _alike(sweep, f"{outcome.value} {strip_numbers(why)}" if failed else ""):
        text = f"the first {alike} trials failed alike: {why}"
    elif failed and too_many_failures(sweep.failures, sweep.counts, sweep.rules):
        share = f"{sweep.failures} of {sum(sweep.counts[one] for one in TrialState if one.terminal)} trials"
        text = f"{share} failed, more than fail_rate allows; the last one: {why}"
    if not text:
        return []
    wind_down(sweep, SweepState.STOPPING, text, failed=True)
    return sentence_all(sweep, Verdict.STOP, text)


def _alike(sweep: Sweep, cause: str) -> int:
    """How many first trials failed for this one cause, once they are enough; any other end ends the count.

    Where it may be a device that fails them, it is waited until that is known.
    """
    causes = sweep.first_failures
    if causes is None or not sweep.rules.fail_fast:
        return 0
    causes.append(cause)
    if not cause or len(set(causes)) > 1:
        sweep.first_failures = None
        return 0
    enough = len(causes) >= sweep.rules.fail_fast and not may_be_a_device(sweep)
    return len(causes) if enough else 0


def wind_down(sweep: Sweep, state: SweepState, why: str, *, failed: bool = False) -> None:
    """The sweep goes towards its end. Where a failure brought it there, that stays the reason."""
    sweep.state = state
    if not sweep.failed:
        sweep.why, sweep.failed = why, failed


def sentence_all(sweep: Sweep, verdict: Verdict, why: str) -> Effects:
    live = [sweep.trials[number] for number in sorted(sweep.live)]
    return [order for trial in live for order in sentence(sweep, trial, verdict, why)]


def sentence(sweep: Sweep, trial: Trial, verdict: Verdict, why: str) -> Effects:
    """Gives a live attempt a verdict; a weaker or equal one than it has changes nothing."""
    attempt = trial.attempts[-1]
    if attempt.verdict is not None and verdict.strength <= attempt.verdict.strength:
        return []
    attempt.verdict, attempt.verdict_why = verdict, why
    return [deliver(sweep, trial)] if verdict_due(trial) else []


def verdict_due(trial: Trial) -> bool:
    attempt = trial.attempts[-1]
    return attempt.verdict is not None and attempt.phase is Phase.RUNNING


def deliver(sweep: Sweep, trial: Trial) -> do.Deliver:
    attempt = trial.attempts[-1]
    assert attempt.verdict is not None
    hurried = attempt.verdict in (Verdict.KILL, Verdict.STALL)  # who hangs looks for no verdict
    grace = 0.0 if hurried or not sweep.rules.heeds else sweep.rules.grace
    return do.Deliver(trial.number, attempt.number, attempt.verdict, grace, sweep.rules.kill_after)


def find(sweep: Sweep, number: int) -> Trial:
    trial = sweep.trials.get(number)
    if trial is None:
        raise IllegalEvent(f"there is no trial {number}")
    return trial


def _live(sweep: Sweep, number: int, attempt: int) -> tuple[Trial, Attempt]:
    trial = find(sweep, number)
    live = trial.attempt
    if live is None or live.number != attempt:
        raise IllegalEvent(f"attempt {number}/{attempt} is not the live one")
    return trial, live


def move(sweep: Sweep, trial: Trial, state: TrialState) -> None:
    sweep.counts[trial.state] -= 1
    sweep.counts[state] += 1
    trial.state = state


HANDLERS: dict[type[e.Event], Callable[[Sweep, Any], Effects]] = {
    e.TrialSampled: _trial_sampled,
    e.RunLinked: _run_linked,
    e.AttemptStarted: _attempt_started,
    e.Reported: _reported,
    e.Checkpointed: _checkpointed,
    e.CheckpointDropped: _checkpoint_dropped,
    e.PruneAdvised: _prune_advised,
    e.StallSeen: _stall_seen,
    e.TimedOut: _timed_out,
    e.Evicted: _evicted,
    e.RetryDue: _retry_due,
    e.LaunchFailed: _launch_failed,
    e.AttemptEnded: _attempt_ended,
}
