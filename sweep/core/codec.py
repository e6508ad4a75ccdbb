"""Events as JSON objects, and back: strict JSON, which has no NaN and no infinity. The whole state, and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from sweep.core import events as e
from sweep.core.model import (
    Attempt,
    Checkpoint,
    Outcome,
    Phase,
    Rules,
    Sweep,
    SweepState,
    Trial,
    TrialState,
    Tried,
    Verdict,
)

_NAMES: dict[type[e.Event], tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind)) for kind in e.EVENTS.values()
}
_OF_JOURNAL = ("v", "seq")
_ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_to_json(value: float) -> float | str:
    """Strict JSON has no NaN or infinity: they are written as words."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def number_from_json(value: Any) -> float:
    """Raises ValueError for anything that is neither a number nor one of the three words."""
    if type(value) is float:  # nearly all of them
        return value
    if isinstance(value, str):
        if value not in _ODD:
            raise ValueError(f"not a number: {value!r}")
        return _ODD[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"not a number: {value!r}")
    return float(value)


def to_json(event: e.Event) -> dict[str, Any]:
    """The event as a JSON object, without the journal's own `v` and `seq`."""
    record: dict[str, Any] = {"event": type(event).__name__}
    for name in _NAMES[type(event)]:
        record[name] = getattr(event, name)
    if type(event) is e.Reported:
        record["metrics"] = {key: number_to_json(value) for key, value in event.metrics.items()}
    elif type(event) is e.SweepOpened:
        record["rules"] = {f.name: getattr(event.rules, f.name) for f in fields(Rules)}
    return record


def from_json(record: dict[str, Any]) -> e.Event:
    """The event of a journal's record, which it takes over.

    Raises ValueError for an event that this version does not know or that lacks a field.
    """
    name = record.pop("event", None)
    kind = e.EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown event {name!r}")
    for key in _OF_JOURNAL:
        record.pop(key, None)
    names = _NAMES[kind]
    try:
        if (mend := _MEND.get(kind)) is not None:
            mend(record)
        if tuple(record) != names:  # of an earlier version, or with a field that this one does not know
            return kind(**{name: record[name] for name in names if name in record})
        event = object.__new__(kind)  # what __init__ would do, in a third of the time: a long journal has millions
        event.__dict__.update(record)
        return event
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _reported(record: dict[str, Any]) -> None:
    record["metrics"] = {key: number_from_json(value) for key, value in record["metrics"].items()}


def _opened(record: dict[str, Any]) -> None:
    names = {f.name for f in fields(Rules)}
    rules = {key: value for key, value in record["rules"].items() if key in names}
    rules["metrics"] = tuple(rules["metrics"])
    rules["directions"] = tuple(rules["directions"])
    record["rules"] = Rules(**rules)


def _changed(record: dict[str, Any]) -> None:
    names = {f.name for f in fields(Rules)}
    record["rules"] = {key: value for key, value in record["rules"].items() if key in names}


_MEND: dict[type[e.Event], Callable[[dict[str, Any]], None]] = {
    e.Reported: _reported,
    e.SweepOpened: _opened,
    e.ConfigChanged: _changed,
}


# ---- the whole state: rows without names, for a sweep has tens of thousands of trials

_KINDS = (Sweep, Rules, Trial, Attempt, Checkpoint, Tried)
SHAPE = [[f.name for f in fields(kind)] for kind in _KINDS]  # what a row says depends on it
_ROWS = {kind: attrgetter(*names) for kind, names in zip(_KINDS, SHAPE, strict=True)}


def rows(value: Any) -> Any:
    """For json.dumps: what it does not know, a Sweep and its parts, as lists. NaN and infinity are left to it."""
    if isinstance(value, (deque, set)):
        return list(value)
    return _ROWS[type(value)](value)


def state_from_rows(row: list[Any]) -> Sweep:
    """Back, from what json.loads makes of it. Raises ValueError, TypeError or LookupError for anything else."""
    sweep: Any = Sweep(*row)
    sweep.rules = _rules(sweep.rules)
    sweep.state = SweepState(sweep.state)
    sweep.trials = {int(number): _trial(trial) for number, trial in sweep.trials.items()}
    sweep.counts = {TrialState(state): count for state, count in sweep.counts.items()}
    sweep.resting = {int(number): due for number, due in sweep.resting.items()}
    sweep.tried = {key: Tried(first, runs, tuple(total)) for key, (first, runs, total) in sweep.tried.items()}
    sweep.former = [(end, config) for end, config in sweep.former]
    sweep.ready, sweep.queue, sweep.live = deque(sweep.ready), deque(sweep.queue), set(sweep.live)
    whole: Sweep = sweep
    return whole


def _rules(row: Any) -> Rules:
    rules = Rules(*row)
    return replace(rules, metrics=tuple(rules.metrics), directions=tuple(rules.directions))


def _trial(row: Any) -> Trial:
    trial: Any = Trial(*row)
    trial.state = TrialState(trial.state)
    trial.attempts = [_attempt(attempt) for attempt in trial.attempts]
    trial.checkpoints = [Checkpoint(*checkpoint) for checkpoint in trial.checkpoints]
    trial.values = None if trial.values is None else tuple(trial.values)
    whole: Trial = trial
    return whole


def _attempt(row: Any) -> Attempt:
    attempt = Attempt(*row)
    attempt.phase = Phase(attempt.phase)
    attempt.verdict = attempt.verdict and Verdict(attempt.verdict)
    attempt.outcome = attempt.outcome and Outcome(attempt.outcome)
    return attempt
