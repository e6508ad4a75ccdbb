"""Judgements over facts: each as a table."""

from __future__ import annotations

import math

import pytest

from sweep.core.events import AttemptEnded
from sweep.core.model import Attempt, Checkpoint, Outcome, Phase, Rules, Trial, TrialState, Verdict
from sweep.core.policy import best_checkpoint, better, judge_end, may_retry, objective, strip_numbers

NAN = math.nan


@pytest.mark.parametrize(
    ("direction", "one", "other", "wins"),
    [
        ("maximize", 2.0, 1.0, True),
        ("maximize", 1.0, 2.0, False),
        ("maximize", 1.0, 1.0, False),
        ("minimize", 1.0, 2.0, True),
        ("minimize", 2.0, 1.0, False),
        ("minimize", NAN, 1.0, False),
        ("minimize", 1.0, NAN, True),
        ("maximize", NAN, NAN, False),
        ("maximize", -math.inf, NAN, True),
        ("maximize", math.inf, 1e308, True),
    ],
)
def test_better(direction: str, one: float, other: float, wins: bool) -> None:
    assert better(direction, one, other) is wins


# What an end means: the trial's metric, what it was told, (code, signal, acknowledged, signalled) -> what it is.
ENDS = [
    # it ended well, whatever was on its way
    (0.5, None, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    (0.5, Verdict.PRUNE, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    (0.5, Verdict.STOP, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    (0.5, Verdict.KILL, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    # it was pruned
    (0.5, Verdict.PRUNE, (0, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.PRUNE, (1, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.PRUNE, (0, None, None, True), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.PRUNE, (None, 15, None, True), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.PRUNE, (None, None, None, False), Outcome.PRUNED, TrialState.PRUNED),
    (NAN, Verdict.PRUNE, (0, None, None, False), Outcome.PRUNED, TrialState.FAIL),  # it had nothing to compare
    (0.5, None, (1, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (None, None, (0, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.STOP, (0, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.KILL, (None, 9, "prune", True), Outcome.PRUNED, TrialState.PRUNED),
    # it was stopped
    (0.5, Verdict.STOP, (0, None, "stop", False), Outcome.STOPPED, TrialState.FAIL),
    (0.5, Verdict.STOP, (None, 15, None, True), Outcome.STOPPED, TrialState.FAIL),
    (0.5, Verdict.KILL, (None, 9, None, True), Outcome.STOPPED, TrialState.FAIL),
    (0.5, Verdict.STOP, (1, None, None, False), Outcome.STOPPED, TrialState.FAIL),
    (None, Verdict.STOP, (0, None, None, False), Outcome.STOPPED, TrialState.FAIL),
    (0.5, Verdict.STOP, (None, None, None, False), Outcome.STOPPED, TrialState.FAIL),
    (0.5, Verdict.PRUNE, (0, None, "stop", False), Outcome.STOPPED, TrialState.FAIL),
    (0.5, None, (0, None, "stop", False), Outcome.STOPPED, TrialState.FAIL),
    # it hung, or took too long
    (0.5, Verdict.STALL, (None, 9, None, True), Outcome.STALLED, TrialState.PRUNED),
    (None, Verdict.STALL, (None, 9, None, True), Outcome.STALLED, TrialState.FAIL),
    (NAN, Verdict.STALL, (None, 9, None, True), Outcome.STALLED, TrialState.FAIL),
    (0.5, Verdict.STALL, (0, None, "stop", False), Outcome.STALLED, TrialState.PRUNED),  # it woke up
    (0.5, Verdict.STALL, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    (0.5, Verdict.TIME, (0, None, "stop", False), Outcome.TIMED_OUT, TrialState.FAIL),
    (0.5, Verdict.TIME, (None, 15, None, True), Outcome.TIMED_OUT, TrialState.FAIL),
    (0.5, Verdict.TIME, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    # it was sent away
    (0.5, Verdict.MOVE, (0, None, "stop", False), Outcome.LOST, TrialState.FAIL),
    (0.5, Verdict.MOVE, (None, 9, None, True), Outcome.LOST, TrialState.FAIL),
    (0.5, Verdict.MOVE, (1, None, None, False), Outcome.LOST, TrialState.FAIL),
    (0.5, Verdict.MOVE, (1, None, "prune", False), Outcome.PRUNED, TrialState.PRUNED),
    (0.5, Verdict.MOVE, (0, None, None, False), Outcome.COMPLETED, TrialState.COMPLETE),
    # it failed by itself
    (0.5, None, (1, None, None, False), Outcome.CRASHED, TrialState.FAIL),
    (0.5, None, (None, 11, None, False), Outcome.CRASHED, TrialState.FAIL),
    (None, None, (0, None, None, False), Outcome.CRASHED, TrialState.FAIL),
    (NAN, None, (0, None, None, False), Outcome.CRASHED, TrialState.FAIL),
    # nobody knows, or somebody else ended it
    (0.5, None, (None, None, None, False), Outcome.LOST, TrialState.FAIL),
    (0.5, None, (0, None, None, True), Outcome.LOST, TrialState.FAIL),
    (0.5, None, (None, 15, None, True), Outcome.LOST, TrialState.FAIL),
]


@pytest.mark.parametrize(("said", "verdict", "end", "outcome", "state"), ENDS)
def test_what_an_end_means(
    said: float | None, verdict: Verdict | None, end: tuple, outcome: Outcome, state: TrialState
) -> None:
    code, signal, acknowledged, signalled = end
    heard = {} if said is None else {"acc": said}
    trial = Trial(0, {}, latest=heard, best=heard, step=3)
    attempt = Attempt(
        1, "s0", "cpu", Phase.RUNNING, step=3, verdict=verdict, verdict_why="told" if verdict else ""
    )
    event = AttemptEnded(9.0, 0, 1, code, signal, acknowledged, signalled)
    found = judge_end(trial, attempt, event, Rules(("acc",), ("maximize",)))
    values = (said,) if state is TrialState.COMPLETE else None
    assert found[:3] == (outcome, state, values)
    assert bool(found[3]) == (state is not TrialState.COMPLETE)


@pytest.mark.parametrize(
    ("end", "outcome", "why"),
    [
        (AttemptEnded(9.0, 0, 1, code=1, cause="KeyError: 'x'"), Outcome.CRASHED, "KeyError: 'x' (exit code 1)"),
        (AttemptEnded(9.0, 0, 1, code=1, cause="no room", hint="oom"), Outcome.OOM, "no room (exit code 1)"),
        (AttemptEnded(9.0, 0, 1, signal=11), Outcome.CRASHED, "signal 11, SIGSEGV"),
        (
            AttemptEnded(9.0, 0, 1, signal=9),
            Outcome.CRASHED,
            "signal 9, SIGKILL from outside: an administrator, a scheduler, the kernel",
        ),
        (AttemptEnded(9.0, 0, 1, code=0), Outcome.CRASHED, "exited 0, but acc ended as NaN at step 3"),
        (AttemptEnded(9.0, 0, 1, code=0, acknowledged="prune"), Outcome.PRUNED, "gave up by itself at step 3"),
        (AttemptEnded(9.0, 0, 1, cause="the host went down"), Outcome.LOST, "the host went down"),
        (AttemptEnded(9.0, 0, 1, code=1, device_lost="GPU 0 is lost"), Outcome.LOST, "GPU 0 is lost"),
        (AttemptEnded(9.0, 0, 1, signal=9, device_lost="GPU 0 is lost"), Outcome.LOST, "GPU 0 is lost"),
    ],
)
def test_why_in_words(end: AttemptEnded, outcome: Outcome, why: str) -> None:
    trial = Trial(0, {}, latest={"acc": NAN}, step=3)
    found = judge_end(trial, Attempt(1, "s0", "cpu", step=3), end, Rules(("acc",), ("maximize",)))
    assert (found[0], found[3]) == (outcome, why)


def test_giving_up_before_the_first_report() -> None:
    end = AttemptEnded(9.0, 0, 1, code=1, acknowledged="prune")
    found = judge_end(Trial(0, {}), Attempt(1, "s0", "cpu"), end, Rules(("acc",), ("maximize",)))
    assert found[3] == "gave up by itself before its first report"


def test_the_objective_is_the_last_value_or_the_best() -> None:
    trial = Trial(0, {}, latest={"acc": 0.4, "loss": 1.0}, best={"acc": 0.9})
    assert objective(trial, Rules(("acc",), ("maximize",))) == ((0.4,), "")
    assert objective(trial, Rules(("acc",), ("maximize",), value="best")) == ((0.9,), "")
    found = objective(trial, Rules(("size", "acc", "time"), ("minimize",) * 3))
    assert found == (None, "size and time were never reported (reported: acc, loss)")


@pytest.mark.parametrize(
    ("before", "retries", "again"),
    [
        ("CRASHED", {}, False),
        ("CRASHED", {"CRASHED": 0}, False),
        ("CRASHED", {"CRASHED": 1}, True),
        ("CRASHED CRASHED", {"CRASHED": 1}, False),
        ("CRASHED OOM", {"CRASHED": 2, "OOM": 2}, True),
        ("OOM CRASHED OOM", {"CRASHED": 2, "OOM": 2}, False),
        ("OOM", {"CRASHED": 2}, False),
        ("OOM CRASHED", {"CRASHED": 1}, True),
        ("STOPPED", {"CRASHED": 5}, False),
        ("PRUNED", {"CRASHED": 5}, False),
        ("LOST", {}, True),
        ("LOST LOST", {}, True),
        ("LOST LOST LOST", {}, False),
        ("LOST LOST CRASHED", {"CRASHED": 1}, True),
        ("CRASHED LOST LOST CRASHED", {"CRASHED": 1}, False),
    ],
)
def test_another_attempt(before: str, retries: dict[str, int], again: bool) -> None:
    outcomes = [Outcome(name) for name in before.split()]
    trial = Trial(0, {}, attempts=[Attempt(1, "s0", "cpu", Phase.ENDED, outcome=one) for one in outcomes])
    assert may_retry(trial, outcomes[-1], Rules(("acc",), ("maximize",), retries=retries)) is again


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([], None),
        ([None, None], 1),
        ([0.1, 0.9, 0.5], 1),
        ([NAN, 0.1], 1),
        ([None, 0.1, None], 1),
        ([0.5, 0.5], 0),
    ],
)
def test_the_best_checkpoint(values: list[float | None], best: int | None) -> None:
    trial = Trial(0, {}, checkpoints=[Checkpoint(n, f"c/{n}", value) for n, value in enumerate(values)])
    found = best_checkpoint(trial, "maximize")
    assert (found.step if found else None) == best


def test_causes_that_differ_in_numbers_are_alike() -> None:
    assert strip_numbers("line 12: lr=0.01") == strip_numbers("line 34: lr=0.95")
    assert strip_numbers("line 12: lr=0.01") != strip_numbers("line 12: lr=0.01x")
