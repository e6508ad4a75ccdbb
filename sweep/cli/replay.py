"""`sweep replay`: recorded trials under another pruner, or on another number of slots; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep import rundir
from sweep.cli import words
from sweep.cli.snapshot import on_slots
from sweep.cli.state import Followed
from sweep.config.model import Named, SweepConfig
from sweep.config.reading import assignments
from sweep.core.codec import number_to_json
from sweep.core.events import Event, Reported
from sweep.core.model import Sweep, Trial, TrialState
from sweep.core.policy import better
from sweep.errors import UsageError
from sweep.search.replay import Curve, Replayed
from sweep.search.replay import replay as play

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def replay(wanted: str | None, pruner: str | None, slots: int | None, *, as_json: bool) -> None:
    """Prints what was, the same trials on so many slots, and what the pruner makes of them.

    pruner: `NAME[:key=value,...]`; by default the sweep's own, as slots are. Raises UsageError.
    """
    directory = rundir.find(Path.cwd(), wanted)
    reports = _Reports()
    sweep = Followed(directory, reports.saw).sweep
    trials = [trial for trial in sweep.trials.values() if trial.state in ENDED]
    _check(sweep, trials)
    curves = [reports.curve(trial, sweep.rules.first[0]) for trial in trials]
    config = SweepConfig.model_validate(sweep.config)
    named = _named(pruner) if pruner is not None else config.pruner or Named(name="nop")
    width = _width(trials)
    count = slots or width
    recorded = _as_it_was(play(config, sweep.id, curves, None, width), trials)
    same = play(config, sweep.id, curves, None, count)
    other = play(config, sweep.id, curves, named, count)
    document = {
        "id": sweep.id,
        "metric": sweep.rules.first[0],
        "direction": sweep.rules.first[1],
        "pruner": {"name": named.name, **named.options},
        "trials": len(curves),
        "left_out": _left_out(sweep),
        "recorded": {**_column(recorded, width), "pruned": len(recorded.unknown)},
        "same_trials": {**_column(same, count), "pruned": len(same.unknown)},
        "replayed": {
            **_column(other, count),
            "unknown": list(other.unknown),
            "slot_seconds_expected": other.slot_seconds + _rest(other, curves),
            "regret": _regret(recorded, other, sweep.rules.first[1]),
        },
    }
    if as_json:
        print(json.dumps(document))
    else:
        _show(document)


def _named(text: str) -> Named:
    name, _, options = text.partition(":")
    if not name.strip():
        hint = "such as --pruner median:n_startup_trials=5,n_warmup_steps=2"
        raise UsageError(f"--pruner {text!r} names no pruner", hint=hint)
    return Named(name=name.strip(), options=assignments(word for word in options.split(",") if word.strip()))


def _check(sweep: Sweep, trials: Sequence[Trial]) -> None:
    if not sweep.rules.single:
        kind = "several objectives" if sweep.rules.metrics else "no objective"
        raise UsageError(f"{sweep.id} has {kind}", hint="a pruner compares trials by one, so a replay needs one")
    if not trials:
        hint = f"`sweep status {sweep.id}` shows how far it is"
        raise UsageError(
            f"no trial of {sweep.id} has completed or was pruned so far: nothing to replay", hint=hint
        )


class _Reports:
    """By trial, what it reported."""

    def __init__(self) -> None:
        self._of: dict[int, list[Reported]] = {}

    def saw(self, event: Event) -> None:
        if isinstance(event, Reported):
            self._of.setdefault(event.trial, []).append(event)

    def curve(self, trial: Trial, metric: str) -> Curve:
        """Steps that are not higher than an earlier one were shown to no pruner. Time runs on over attempts."""
        kept: list[tuple[int, float, float]] = []
        before, seconds = 0.0, {}
        for attempt in trial.attempts:
            seconds[attempt.number] = before - attempt.launched
            before += max(0.0, (attempt.ended or 0.0) - attempt.launched)
        for event in self._of.get(trial.number, ()):
            value = event.metrics.get(metric)
            if value is None or (kept and event.step <= kept[-1][0]):
                continue
            at = max(0.0, kept[-1][2] if kept else 0.0, event.at + seconds[event.attempt])
            kept.append((event.step, value, min(at, before)))
        value = trial.values[0] if trial.state is TrialState.COMPLETE and trial.values else None
        return Curve(trial.number, tuple(kept), on_slots(trial), value)


def _width(trials: Iterable[Trial]) -> int:
    """How many of them had slots at once, at most."""
    marks = [mark for t in trials for a in t.attempts if a.ended for mark in ((a.launched, 1), (a.ended, -1))]
    busy = most = 0
    for _, change in sorted(marks):
        busy += change
        most = max(most, busy)
    return max(1, most)


def _as_it_was(played: Replayed, trials: Sequence[Trial]) -> Replayed:
    """With the times of the clock on the wall: pauses, waiting for slots and all."""
    attempts = [a for trial in trials for a in trial.attempts]
    first = min((a.launched for a in attempts), default=0.0)
    found = next((t.attempts[-1].ended for t in trials if t.number == played.best and t.attempts), None)
    return replace(
        played,
        seconds=max((a.ended or first for a in attempts), default=first) - first,
        found=None if played.best is None else max(0.0, (found or first) - first),
    )


def _left_out(sweep: Sweep) -> dict[str, Any]:
    failed = [trial for trial in sweep.trials.values() if trial.state is TrialState.FAIL]
    return {
        "failed": len(failed),
        "failed_slot_seconds": sum(map(on_slots, failed)),
        "unfinished": sum(not trial.state.terminal for trial in sweep.trials.values()),
    }


def _column(one: Replayed, slots: int) -> dict[str, Any]:
    best = None
    if one.best is not None and one.value is not None:
        best = {"trial": one.best, "value": number_to_json(one.value), "found_seconds": one.found}
    return {
        "slots": slots,
        "slot_seconds": one.slot_seconds,
        "wall_seconds": one.seconds,
        "best": best,
        "complete": one.complete,
        "pruned": len(one.pruned),
    }


def _rest(one: Replayed, curves: Sequence[Curve]) -> float:
    """Seconds beyond the records of unknown ones, had each run as long as the mean complete one."""
    complete = [curve.seconds for curve in curves if curve.value is not None]
    mean = sum(complete) / len(complete) if complete else 0.0
    return sum(max(0.0, mean - curve.seconds) for curve in curves if curve.number in one.unknown)


def _regret(recorded: Replayed, other: Replayed, direction: str) -> dict[str, Any] | None:
    """What pruning lost: the best recorded trial and where it was pruned; None where nothing better was lost.

    value is null where not one trial completed.
    """
    if recorded.best is None or recorded.value is None:
        return None
    if other.value is not None and not better(direction, recorded.value, other.value):
        return None
    lost = None if other.value is None else number_to_json(abs(recorded.value - other.value))
    return {"value": lost, "trial": recorded.best, "step": other.pruned.get(recorded.best)}


def _show(document: dict[str, Any]) -> None:
    console = Console()
    columns = [document[key] for key in ("recorded", "same_trials", "replayed")]
    other, left = document["replayed"], document["left_out"]
    options = ", ".join(f"{key}={value}" for key, value in document["pruner"].items() if key != "name")
    pruner = words.clean(document["pruner"]["name"])
    with_options = f"pruner {pruner}" + (f" ({words.clean(options)})" if options else "")
    many = f"{words.plural(document['trials'], 'trial')}, {with_options}, {words.plural(other['slots'], 'slot')}"
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "recorded", f"same on {other['slots']}", f"{pruner} on {other['slots']}"):
        table.add_column(title, justify="right" if title else "left", overflow="fold")
    at_least = ">= " if other["unknown"] else ""
    table.add_row("slots", *(str(one["slots"]) for one in columns))
    for label, key in (("time on slots", "slot_seconds"), ("wall time", "wall_seconds")):
        shown = [words.duration(one[key]) for one in columns]
        table.add_row(label, *shown[:2], at_least + shown[2])
    bests = [one["best"] for one in columns]
    table.add_row(words.clean(f"best {document['metric']}"), *("none" if b is None else _value(b) for b in bests))
    table.add_row("  found after", *("" if b is None else words.duration(b["found_seconds"]) for b in bests))
    for label, key in (("complete", "complete"), ("pruned", "pruned")):
        table.add_row(label, *(str(one[key]) for one in columns))
    table.add_row("unknown", "", "", str(len(other["unknown"])))
    console.print(Text.assemble((document["id"], "bold"), f"  {many}"), soft_wrap=True)
    console.print(table)
    for line in (_regret_line(other, document["metric"]), _unknown_line(other), _left_line(left)):
        if line:
            console.print(Text(line), soft_wrap=True)


def _value(best: dict[str, Any]) -> str:
    return f"{words.number(float(best['value']))} (trial {best['trial']})"


def _regret_line(other: dict[str, Any], metric: str) -> str:
    regret = other["regret"]
    if regret is None:
        return "regret: none; the best recorded trial was kept" if other["best"] else "regret: no trial completed"
    step = f" was pruned at step {regret['step']}" if regret["step"] is not None else " was lost"
    lost = "everything" if regret["value"] is None else f"{words.number(float(regret['value']))} of {metric}"
    return words.clean(f"regret: {lost}; trial {regret['trial']}{step}")


def _unknown_line(other: dict[str, Any]) -> str:
    if not other["unknown"]:
        return ""
    expected = words.duration(other["slot_seconds_expected"])
    return (
        f"unknown: {words.plural(len(other['unknown']), 'trial')} would have gone on beyond the step at which the "
        f"record ends; their values are not known, so the best may be better than shown, and the times are lower "
        f"bounds (about {expected} on the slots, had they run as long as the mean complete trial)"
    )


def _left_line(left: dict[str, Any]) -> str:
    parts = []
    if left["failed"]:
        parts.append(f"{left['failed']} failed ({words.duration(left['failed_slot_seconds'])} on the slots)")
    if left["unfinished"]:
        parts.append(f"{left['unfinished']} unfinished")
    return f"left out: {', '.join(parts)}" if parts else ""
