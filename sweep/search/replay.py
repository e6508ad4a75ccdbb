"""What another pruner, or another number of slots, would have made of recorded trials: in virtual time.

Rules
1.  The configurations, their order and their curves are those of the record. No sampler is asked again: one that
    had seen other results would have chosen otherwise.
2.  The next trial starts in the moment in which a slot is free. It reports what it reported, as long after its
    start as it did, and Optuna's own pruner judges each report in a study that grows in this order. A trial that
    is pruned gives its slot back at that report: what a script needs to take notice is not known.
3.  Where a record ends because the trial was pruned, its future is unknown. A replay that would have let it go on
    ends it there, as PRUNED, and says so: its time is a lower bound, and its value might have been any.
4.  What happens at the same moment happens in the order of the trials' numbers, so every replay is the same.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from sweep.config.model import Named, SweepConfig
from sweep.core.policy import better
from sweep.errors import UsageError
from sweep.search.names import build_pruner


@dataclass(frozen=True)
class Curve:
    """What a trial that has ended recorded.

    reports: (step, value, seconds that it had been on slots), those that a pruner would look at. seconds: until
    its end. value: of the objective; None where it was pruned.
    """

    number: int
    reports: tuple[tuple[int, float, float], ...]
    seconds: float
    value: float | None


@dataclass(frozen=True)
class Replayed:
    """What it took and found, in seconds of virtual time.

    seconds: from the first start to the last end. best, value: the best trial that completed, and what it reached;
    found: when it had. pruned: trial -> the step at which the replayed pruner ended it. unknown: those that it did
    not end before their records do, because they had been pruned.
    """

    slot_seconds: float
    seconds: float
    complete: int
    pruned: dict[int, int]
    unknown: tuple[int, ...]
    best: int | None
    value: float | None
    found: float | None


def replay(config: SweepConfig, study: str, curves: Iterable[Curve], pruner: Named | None, slots: int) -> Replayed:
    """Without a pruner every trial ends where its record does.

    study: its name, which is what Hyperband deals trials out by. Raises UsageError for a pruner that Optuna does
    not have, or that cannot work here.
    """
    judge = Judge(config, study, pruner) if pruner else None
    waiting = deque(sorted(curves, key=lambda curve: curve.number))
    due: list[tuple[float, int, int]] = []  # when, whose, which report; behind the last one the end
    running: dict[int, tuple[Curve, float]] = {}
    pruned: dict[int, int] = {}
    done: list[tuple[Curve, float]] = []
    unknown: list[int] = []
    spent = now = 0.0

    def fill() -> None:
        while waiting and len(running) < slots:
            curve = waiting.popleft()
            running[curve.number] = (curve, now)
            heapq.heappush(due, (now + _at(curve, 0), curve.number, 0))
            if judge:
                judge.start(curve.number)

    fill()
    while due:
        now, number, place = heapq.heappop(due)
        curve, start = running[number]
        if place < len(curve.reports):
            step, value, _ = curve.reports[place]
            if judge is None or not judge.prunes(number, step, value):
                heapq.heappush(due, (start + _at(curve, place + 1), number, place + 1))
                continue
            pruned[number] = step
            judge.end(number, None)
        else:
            if curve.value is not None:
                done.append((curve, now))
            else:
                unknown.append(number)
            if judge:
                judge.end(number, curve.value)
        spent += now - start
        del running[number]
        fill()
    best = _best(done, config.direction[0])
    return Replayed(
        slot_seconds=spent,
        seconds=now,
        complete=len(done),
        pruned=pruned,
        unknown=tuple(sorted(unknown)),
        best=best[0].number if best else None,
        value=best[0].value if best else None,
        found=best[1] if best else None,
    )


def _at(curve: Curve, place: int) -> float:
    """When something of it is due, after its start."""
    return curve.reports[place][2] if place < len(curve.reports) else curve.seconds


def _best(done: Sequence[tuple[Curve, float]], direction: str) -> tuple[Curve, float] | None:
    best: tuple[Curve, float] | None = None
    for curve, at in done:
        assert curve.value is not None
        if best is None or better(direction, curve.value, best[0].value or 0.0):
            best = (curve, at)
    return best


class Judge:
    """Optuna's pruner and a study in memory, in which each trial has the number that it had in the record."""

    def __init__(self, config: SweepConfig, study: str, pruner: Named) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        changed = config.model_copy(update={"pruner": pruner})
        self._name = pruner.name
        self._study = optuna.create_study(
            study_name=study, direction=config.direction[0], pruner=build_pruner(changed)
        )

    def start(self, number: int) -> None:
        """Numbers that were left out are trials that failed, which no pruner looks at."""
        for _ in range(len(self._study.get_trials(deepcopy=False)), number):
            self._study.add_trial(create_trial(state=OptunaState.FAIL))
        self._study.add_trial(create_trial(state=OptunaState.RUNNING))

    def prunes(self, number: int, step: int, value: float) -> bool:
        storage, trial_id = self._study._storage, self._id(number)
        storage.set_trial_intermediate_value(trial_id, step, value)
        try:
            return bool(self._study.pruner.prune(self._study, storage.get_trial(trial_id)))
        except (TypeError, ValueError) as error:
            raise UsageError(f"the pruner {self._name} does not work with these reports: {error}") from None

    def end(self, number: int, value: float | None) -> None:
        state = OptunaState.PRUNED if value is None else OptunaState.COMPLETE
        values = None if value is None else [value]
        self._study._storage.set_trial_state_values(self._id(number), state, values)

    def _id(self, number: int) -> int:
        storage = self._study._storage
        return int(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
