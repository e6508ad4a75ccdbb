"""How long a sweep has still to run.

Of trials that have ended the short ones come first, above all where a pruner works: their mean says that the sweep
is nearly over when it has hardly begun. So the trials that run count too, as "longer than this", by the
Kaplan-Meier estimator (J. Am. Stat. Assoc. 53, 1958); beyond the longest time seen, nothing is assumed.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


class Lifetimes:
    """How long trials take. ended: seconds of those that have ended, one at least; ages: of the others, so far."""

    def __init__(self, ended: Sequence[float], ages: Sequence[float]) -> None:
        everyone = sorted([*((time, False) for time in ended), *((age, True) for age in ages)])
        times, share = [0.0], [1.0]  # from this time on, this share of the trials still runs
        for place, (time, still_runs) in enumerate(everyone):
            times.append(time)
            share.append(share[-1] if still_runs else share[-1] * (1 - 1 / (len(everyone) - place)))
        self._times, self._share = times, share
        self._beyond = [0.0] * len(times)  # area below the shares from this time on
        for place, (before, after) in reversed(list(enumerate(pairwise(times)))):
            self._beyond[place] = self._beyond[place + 1] + share[place] * (after - before)

    def rest(self, age: float) -> float:
        """Seconds that a trial of this age may be expected to take on; 0 where it is older than any other was."""
        place = bisect_right(self._times, age) - 1
        if self._share[place] <= 0 or place + 1 == len(self._times):
            return 0.0
        here = self._share[place] * (self._times[place + 1] - age)
        return (here + self._beyond[place + 1]) / self._share[place]


def makespan(ended: Sequence[float], ages: Sequence[float], ahead: int, slots: int) -> float:
    """Seconds until the running trials, this old, and `ahead` more have ended on so many slots."""
    lifetimes = Lifetimes(ended, ages)
    whole = lifetimes.rest(0.0)
    free = [lifetimes.rest(age) for age in ages]
    free += [0.0] * max(slots - len(free), 0 if free else 1)
    heapq.heapify(free)
    singly = min(ahead, 2 * len(free))  # the last ones decide how the slots run out; the rest only push it back
    for _ in range(singly):
        heapq.heapreplace(free, free[0] + whole)
    return max(free) + (ahead - singly) * whole / len(free)
