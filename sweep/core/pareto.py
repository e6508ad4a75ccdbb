"""Which trials no other one beats.

Up to three objectives, one sort and a staircase: in the order of the first, a point is beaten if one before it is
as good in the other two. 10,000 trials that are all on the front take 0.1 s so, and minutes pair by pair, which is
how more than three objectives are done.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import le

from sweep.core.model import Trial, TrialState

Loss = tuple[float, ...]  # of every objective, less is better


def front(trials: Iterable[Trial], directions: Sequence[str]) -> list[Trial]:
    """The COMPLETE trials that no other dominates (as good in every objective, better in one), by number.

    Of one objective those are the best one and its equals.
    """
    alike: dict[Loss, list[Trial]] = {}
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.values is not None:
            goals = zip(trial.values, directions, strict=True)
            alike.setdefault(tuple(-v if d == "maximize" else v for v, d in goals), []).append(trial)
    losses = sorted(alike)
    kept = _staircase(losses) if len(directions) <= 3 else _pairwise(losses)
    return sorted((trial for loss in kept for trial in alike[loss]), key=lambda trial: trial.number)


def _staircase(losses: Sequence[Loss]) -> list[Loss]:
    """ys and zs hold the corners of what is beaten so far: ys go up, zs go down."""
    kept: list[Loss] = []
    ys: list[float] = []
    zs: list[float] = []
    for loss in losses:
        y, z = (*loss[1:], 0.0, 0.0)[:2]
        above = bisect_right(ys, y)
        if above and zs[above - 1] <= z:
            continue
        kept.append(loss)
        first = last = bisect_left(ys, y)
        while last < len(zs) and zs[last] >= z:
            last += 1
        ys[first:last], zs[first:last] = [y], [z]
    return kept


def _pairwise(losses: Sequence[Loss]) -> list[Loss]:
    kept: list[Loss] = []
    for loss in losses:
        if not any(all(map(le, other, loss)) for other in kept):
            kept.append(loss)
    return kept
