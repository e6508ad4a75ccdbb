"""Events as JSON objects, and back: strict JSON, which has no NaN and no infinity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from sweep.core import events as e
from sweep.core.model import Rules

_NAMES: dict[type[e.Event], tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind)) for kind in e.EVENTS.values()
}
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
    """Raises ValueError for an event that this version does not know or that lacks a field."""
    name = record.get("event")
    kind = e.EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown event {name!r}")
    names = _NAMES[kind]
    try:
        known = {name: record[name] for name in names}
    except KeyError:
        known = {name: record[name] for name in names if name in record}
    try:
        mend = _MEND.get(kind)
        known = mend(known) if mend else known
        if len(known) < len(names):
            return kind(**known)
        event = object.__new__(kind)  # what __init__ would do, in a third of the time: a long journal has millions
        event.__dict__.update(known)
        return event
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _reported(known: dict[str, Any]) -> dict[str, Any]:
    known["metrics"] = {key: number_from_json(value) for key, value in known["metrics"].items()}
    return known


def _opened(known: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(Rules)}
    rules = {key: value for key, value in known["rules"].items() if key in names}
    rules["metrics"] = tuple(rules["metrics"])
    rules["directions"] = tuple(rules["directions"])
    return {**known, "rules": Rules(**rules)}


def _changed(known: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(Rules)}
    return {**known, "rules": {key: value for key, value in known["rules"].items() if key in names}}


_MEND: dict[type[e.Event], Callable[[dict[str, Any]], dict[str, Any]]] = {
    e.Reported: _reported,
    e.SweepOpened: _opened,
    e.ConfigChanged: _changed,
}
