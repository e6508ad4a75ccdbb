"""Which checkpoints go where a sweep takes more of the disk than it may. Pure functions.

Those that lose go first: of trials that gave no result, the ones that ended first; then of complete trials that
another beats, the worst; then of trials that go on, all but the newest. Never: those of the best trial (of the
whole Pareto set, of a job), and the newest of a trial that may still be resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweep.core.model import Checkpoint, Sweep, Trial, TrialState
from sweep.core.pareto import front

Dropped = tuple[int, Checkpoint]  # number of its trial


def to_drop(sweep: Sweep, sizes: Mapping[str, int], excess: int) -> list[Dropped]:
    """The fewest, in the order of `expendable`, that make room for so many bytes; all of them if that is too few.

    sizes: bytes of each checkpoint by its directory, relative to the sweep's; one without a size stays.
    """
    dropped: list[Dropped] = []
    for number, one in expendable(sweep):
        if excess <= 0:
            break
        if one.directory in sizes:
            excess -= sizes[one.directory]
            dropped.append((number, one))
    return dropped


def expendable(sweep: Sweep) -> Iterator[Dropped]:
    """Every checkpoint that may go, the least missed first; of one trial the oldest first."""
    directions = sweep.rules.directions
    trials = [trial for trial in sweep.trials.values() if trial.checkpoints]
    best = {trial.number for trial in front(sweep.trials.values(), directions)} if directions else set()
    without = [trial for trial in trials if trial.state in (TrialState.FAIL, TrialState.PRUNED)]
    beaten = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.number not in best]
    for trial in sorted(without, key=_ended):
        yield from ((trial.number, one) for one in trial.checkpoints)
    if directions:
        for trial in sorted(beaten, key=lambda trial: _loss(trial, directions[0]), reverse=True):
            yield from ((trial.number, one) for one in trial.checkpoints)
    for trial in trials:
        if not trial.state.terminal:
            yield from ((trial.number, one) for one in trial.checkpoints[:-1])


def _ended(trial: Trial) -> float:
    return (trial.attempts[-1].ended or 0.0) if trial.attempts else 0.0


def _loss(trial: Trial, direction: str) -> float:
    value = (trial.values or (0.0,))[0]
    return -value if direction == "maximize" else value
