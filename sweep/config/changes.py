"""A file that was changed after its sweep began: what the sweep can take over as it lives, and what it cannot.

Rules
1.  What was learnt must stay comparable: neither what a value means (metric, direction, `value`) nor whose study
    it is (name, storage) can change.
2.  Optuna lets a study's parameters come and go and their ranges move, but not their kind: a parameter's type,
    scale (`log`) and choices are for good. A sampler that tries everything counts by the space: it stays with it.
3.  Everything else holds from then on, and every change is told, one a line. Values that may be secrets are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sweep.config.model import SweepConfig
from sweep.config.parameters import Categorical, Constant, Float, Int, Parameter, same
from sweep.config.rounds import PREVIOUS
from sweep.config.words import KeyPath, Problem, show

_FOR_GOOD: dict[KeyPath, str] = {
    ("name",): "the sweep's folder is called so",
    ("metric",): "Optuna was told the trials so far by it",
    ("direction",): "Optuna cannot turn a study round",
    ("value",): "the trials so far were judged by it",
    ("storage",): "what was learnt is in the study there",
    ("mlflow", "tracking_uri"): "the runs so far are there",
    ("mlflow", "experiment"): "the runs so far are in it",
    ("mlflow", "tags"): "the runs so far have them",
    ("mlflow", "artifacts"): "the runs so far were made by it",
}
_LATER = ("command", "objective", "cwd", "env", "report", "warm", "memory", "processes")
_UNSHOWN = ("storage", "tracking_uri", "tags", "on_finish", "on_fail")
_COUNT = ("grid", "brute")  # samplers that try every configuration, by the beginning of their names
_NO_RELATION = ("tpe", "random", "qmc")  # samplers to which a parameter of another range is not a new one


class Change(NamedTuple):
    """One key that differs: in words, and why the sweep cannot take it (empty where it can)."""

    path: KeyPath
    text: str
    refusal: str = ""
    note: str = ""  # what taking it means

    @property
    def told(self) -> str:
        return f"{self.text} (taken{', ' if self.note else ''}{self.note})"

    @property
    def problem(self) -> Problem:
        return Problem(f"{self.text}: {self.refusal}", self.path)


def takeover(old: SweepConfig, new: SweepConfig) -> tuple[SweepConfig, list[Change]]:
    """The config that the sweep goes on with, and what differs, in the order of the keys.

    What `from_best` made of space and queue when the sweep began stays so, and is not compared.
    """
    if old.from_best is None or new.from_best is None or old.from_best.sweep == PREVIOUS:  # which made nothing
        return new, list(_changes(old, new))
    kept = {"space": old.space, "enqueue": old.enqueue, "from_best": old.from_best}
    merged = new.model_copy(update=kept)
    return merged, list(_changes(old, merged))


def new_wishes(old: SweepConfig, new: SweepConfig) -> list[dict[str, Any]]:
    """The configurations of `enqueue` that were not there before."""
    left = list(old.enqueue)
    fresh = []
    for wish in new.enqueue:
        if wish in left:
            left.remove(wish)
        else:
            fresh.append(wish)
    return fresh


def _changes(old: SweepConfig, new: SweepConfig) -> Iterator[Change]:
    for key in SweepConfig.model_fields:
        one, other = getattr(old, key), getattr(new, key)
        if one == other and key != "space":  # `true` and `1` are equal to Python
            continue
        if key == "space":
            yield from _space(old, new)
        elif key == "enqueue":
            yield from _enqueue(old, new)
        elif key == "env":
            yield from _env(one, other)
        elif key == "mlflow":
            for part in type(one).model_fields:
                if getattr(one, part) != getattr(other, part):
                    yield _plain((key, part), getattr(one, part), getattr(other, part))
        elif key == "from_best":
            yield Change((key,), _arrow(one, other), "space and queue were made when the sweep began")
        elif key == "sampler" and (_counts(old) or _counts(new)):
            why = "a sampler that tries every configuration counts all trials of the study"
            yield Change((key,), _arrow(one, other), why)
        elif key == "report" and "mlflow" in (one.mode, other.mode):
            why = "trials that log to MLflow themselves need their runs before they start"
            yield Change((key,), _arrow(one, other), why)
        else:
            yield _plain((key,), one, other)


def _plain(path: KeyPath, one: Any, other: Any) -> Change:
    text = "another one" if path[-1] in _UNSHOWN else _arrow(one, other)
    note = "for trials that start from now on" if path[0] in _LATER else ""
    return Change(path, text, _FOR_GOOD.get(path, ""), note)


def _env(one: dict[str, str], other: dict[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            said = "added" if name not in one else "taken out" if name not in other else "another value"
            yield Change(("env", name), said, "", "for trials that start from now on")


def _enqueue(old: SweepConfig, new: SweepConfig) -> Iterator[Change]:
    fresh = new_wishes(old, new)
    gone = len(old.enqueue) + len(fresh) - len(new.enqueue)
    if gone:
        said = f"{gone} of {len(old.enqueue)} configurations taken out"
        yield Change(("enqueue",), said, "they are in line, or have been tried")
    for wish in fresh:
        yield Change(("enqueue",), "+ " + ", ".join(f"{name}={show(value)}" for name, value in wish.items()))


def _space(old: SweepConfig, new: SweepConfig) -> Iterator[Change]:
    counted = "a sampler that tries every configuration counts by the space" if _counts(old) else ""
    for name in dict.fromkeys((*old.space, *new.space)):
        path: KeyPath = ("space", name)
        one, other = old.space.get(name), new.space.get(name)
        if one is None and other is not None:
            yield Change(path, f"+ {_shown(other)}", counted, "the trials so far have none")
        elif other is None and one is not None:
            yield Change(path, f"{_shown(one)} -> taken out", counted)
        elif one is not None and other is not None and not _alike(one, other):
            path, refusal = _kind(path, one, other)
            note = "for configurations from now on"
            sampler = new.sampler.name.lower() if new.sampler else "tpe"
            if not isinstance(one, Constant) and not sampler.startswith(_NO_RELATION):
                note += f"; {sampler} samples it apart from the others"
            yield Change(path, f"{_shown(one)} -> {_shown(other)}", refusal or counted, note)


def _kind(path: KeyPath, one: Parameter, other: Parameter) -> tuple[KeyPath, str]:
    """The key of a parameter that is at fault, and why Optuna cannot follow; no reason where it can."""
    if one.type != other.type:
        return (*path, "type"), "Optuna cannot change the kind of a parameter that it has sampled"
    if isinstance(one, (Float, Int)) and isinstance(other, (Float, Int)) and _scale(one) != _scale(other):
        return (*path, "log"), "Optuna cannot change the scale of a parameter that it has sampled"
    if isinstance(one, Categorical) and isinstance(other, Categorical) and one.choices != other.choices:
        return (*path, "choices"), "Optuna cannot change the choices of a parameter that it has sampled"
    return path, ""


def _scale(parameter: Float | Int) -> bool:
    """As Optuna knows it: a real parameter of one value has no scale."""
    return parameter.log and (isinstance(parameter, Int) or parameter.low < parameter.high)


def _alike(one: Parameter, other: Parameter) -> bool:
    if isinstance(one, Constant) and isinstance(other, Constant):
        return same(one.value, other.value) and one.when == other.when
    return one == other


def _counts(config: SweepConfig) -> bool:
    return config.sampler is not None and config.sampler.name.lower().startswith(_COUNT)


def _shown(parameter: Parameter) -> str:
    """A parameter in one line."""
    if isinstance(parameter, Constant):
        text = show(parameter.value)
    elif isinstance(parameter, Categorical):
        text = f"[{', '.join(map(show, parameter.choices))}]"
    else:
        text = f"{parameter.type} {show(parameter.low)} .. {show(parameter.high)}"
        text += " log" if parameter.log else ""
        text += f" step {show(parameter.step)}" if parameter.step not in (None, 1) else ""
    conditions = [f"{name} is {' or '.join(map(show, wanted))}" for name, wanted in (parameter.when or {}).items()]
    return f"{text} when {' and '.join(conditions)}" if conditions else text


def _arrow(one: Any, other: Any) -> str:
    return f"{_value(one)} -> {_value(other)}"


def _value(value: Any) -> str:
    """A value of the file in one line; of a mapping only what is not the default."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, dict):
        parts = [f"{key}: {_value(part)}" for key, part in value.items() if part not in ({}, [], None)]
        return f"{{{', '.join(parts)}}}" if parts else "default"
    if isinstance(value, list):
        return " ".join(part if isinstance(part, str) else _value(part) for part in value) or "none"
    return "none" if value is None else value if isinstance(value, str) else show(value)
