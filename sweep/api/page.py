"""A sweep as one page for a browser: facts, pictures, trials and failures. It needs no network and no other file.

Everything that somebody else wrote (names, parameters, outputs) is escaped by the template; only the pictures are
markup of ours. The page's own policy lets it load nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.api.drawing import WIDTH, picture
from sweep.api.plots import Plots
from sweep.api.reading import Reader
from sweep.api.record import TrialRecord, record
from sweep.cli import words
from sweep.cli.document import state_word
from sweep.cli.snapshot import on_slots
from sweep.cli.summary import pruning_saved
from sweep.core.model import Sweep, TrialState
from sweep.core.pareto import front
from sweep.errors import StorageError, SweepError
from sweep.rundir import write_atomic

if TYPE_CHECKING:
    from markupsafe import Markup

FRONT = 20  # trials of a Pareto set with their commands
DEVICES = 8  # that are named
_STATES = {TrialState.FAIL: "failed"}


def write(reader: Reader, path: Path) -> Path:
    """The page of a sweep as a file, whole or not at all. Raises StorageError."""
    place = path / f"{reader.sweep.id}.html" if path.is_dir() else path
    try:
        write_atomic(place, page(reader))
    except OSError as error:
        hint = "choose another file: sweep report -o report.html"
        raise StorageError(f"cannot write {place}: {error.strerror}", hint=hint) from None
    return place.absolute()


def page(reader: Reader) -> str:
    """As HTML."""
    from jinja2 import Environment, StrictUndefined

    sweep = reader.sweep
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("sweep.api").joinpath("page.html").read_text(encoding="utf-8"))
    records = [record(sweep, trial, reader.directory) for _, trial in sorted(sweep.trials.items())]
    return template.render(
        id=sweep.id,
        state=state_word(sweep, controller_alive=reader.driven),
        why=words.clean(sweep.why),
        hold="" if sweep.state.ended else words.clean(sweep.hold),
        written=f"{datetime.now():%Y-%m-%d %H:%M}",
        metrics=[words.clean(name) for name in sweep.rules.metrics],
        best=list(_best(reader, sweep)),
        facts=_facts(sweep, records, reader.driven),
        pictures=list(_pictures(reader)),
        table=_table(sweep, records),
        failures=[_failure(one) for one in records if one.state == TrialState.FAIL.value],
    )


# ---- what is said ----------------------------------------------------------------------------------------------


def _best(reader: Reader, sweep: Sweep) -> Iterator[dict[str, Any]]:
    """The best trial, those of the Pareto front, or the job's."""
    trials = list(sweep.trials.values())  # of a job, which has one
    if sweep.rules.metrics:
        trials = front(trials, sweep.rules.directions)
    if sweep.best is not None:
        trials = [sweep.trials[sweep.best]]
    for trial in trials[:FRONT]:
        one = record(sweep, trial, reader.directory)
        yield {
            "number": one.number,
            "values": [(words.clean(name), words.number(value)) for name, value in one.values.items()],
            "params": [(words.clean(name), words.parameter(value)) for name, value in one.params.items()],
            "command": one.command,
            "checkpoint": str(one.checkpoint or ""),
            "cost": _cost(one),
        }


def _cost(one: TrialRecord) -> str:
    at = "" if one.step is None else f"step {one.step}, "
    return f"{at}{words.duration(one.duration or 0.0)} on {words.clean(one.slot or 'no slot yet')}"


def _facts(sweep: Sweep, records: Sequence[TrialRecord], driven: bool) -> list[tuple[str, str]]:
    """Label and text; those of which nothing is known are left out."""
    counts = [
        f"{count} {_STATES.get(state, state.value.lower())}" for state, count in sweep.counts.items() if count
    ]
    goals = list(zip(sweep.rules.metrics, sweep.rules.directions, strict=True))
    started = min((one.started for one in records if one.started), default=None)
    now = max(sweep.at, time.time()) if driven and not sweep.state.ended else sweep.at
    saved = pruning_saved(sweep)
    facts = [
        ("objective", ", ".join(f"{direction} {words.clean(name)}" for name, direction in goals)),
        ("trials", ", ".join(counts)),
        ("started", f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}" if started else ""),
        ("took" if sweep.state.ended else "so far", words.duration(sweep.active + now - sweep.resumed)),
        ("on slots", words.duration(sum(map(on_slots, sweep.trials.values())))),
        ("saved by pruning", f"about {words.duration(saved[1])} on slots" if saved and saved[1] >= 1 else ""),
        ("devices", _devices(sweep)),
        ("sampler", (_named(sweep.config.get("sampler")) or "tpe") if goals else ""),
        ("pruner", (_named(sweep.config.get("pruner")) or "none") if goals else ""),
        ("folder", str(sweep.config.get("cwd") or "")),
    ]
    return [(label, text) for label, text in facts if text not in ("", ".")]


def _devices(sweep: Sweep) -> str:
    found = {attempt.device for trial in sweep.trials.values() for attempt in trial.attempts}
    shown = sorted(found, key=words.natural)
    more = f" and {len(shown) - DEVICES} more" if len(shown) > DEVICES else ""
    return ", ".join(map(words.clean, shown[:DEVICES])) + more


def _named(chosen: Mapping[str, Any] | None) -> str:
    if not chosen:
        return ""
    options = ", ".join(f"{key}={value}" for key, value in chosen.get("options", {}).items())
    return words.clean(f"{chosen['name']} ({options})" if options else str(chosen["name"]))


def _failure(one: TrialRecord) -> dict[str, Any]:
    return {
        "number": one.number,
        "outcome": one.outcome or "",
        "why": words.clean(one.why),
        "params": words.parameters(dict(one.params)),
        "attempts": words.plural(one.attempts, "attempt"),
        "log": str(one.directory / "output.log") if one.directory else "",
    }


# ---- what is drawn ---------------------------------------------------------------------------------------------


def _pictures(reader: Reader) -> Iterator[dict[str, Any]]:
    """Each with its title and what it shows; in place of one that cannot be drawn (yet), why."""
    plots, metrics = Plots(reader), reader.sweep.rules.metrics
    wanted: list[tuple[str, str, Callable[[], Markup]]] = []
    if len(metrics) in (2, 3):
        text = "Every completed trial; those that no other one beats in everything stand out."
        wanted.append(("Pareto front", text, partial(picture, plots.front, 4.2)))
    for name, direction in zip(metrics, reader.sweep.rules.directions, strict=True):
        of = f" of {words.clean(name)}" if len(metrics) > 1 else ""
        high, many = direction == "maximize", len(reader.sweep.config.get("space") or {})
        wanted += [
            (f"History{of}", "The value of each trial, and the best so far.",
             partial(picture, partial(plots.history, name), 3.2)),
            (f"Curves{of}", "What trials reported; a cross is where one was pruned or failed.",
             partial(picture, partial(plots.curves, name), 3.6)),
            (f"Importances{of}", "How much each parameter matters, by Optuna's evaluator.",
             partial(picture, partial(plots.importances, name), 0.9 + 0.35 * max(3, many))),
            (f"Parallel coordinates{of}", "One line a completed trial, bluer where it is better.",
             partial(picture, partial(plots.parallel, name), 3.8, max(WIDTH, many), high_is_good=high)),
        ]  # fmt: skip
    text = "Which slot worked on what, and when; a gap is an idle slot."
    wanted.append(("Slots", text, partial(picture, plots.timeline)))
    for title, text, draw in wanted:
        try:
            yield {"title": title, "text": text, "drawn": draw(), "why": ""}
        except SweepError as error:
            yield {"title": title, "text": text, "drawn": None, "why": words.clean(error.message)}


# ---- the table -------------------------------------------------------------------------------------------------


def _table(sweep: Sweep, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """titles, and rows of cells: text and, where it is a number, what to sort by."""
    metrics = sweep.rules.metrics
    params = list(dict.fromkeys(name for one in records for name in one.params))
    titles = ["trial", "state", *metrics, *params, "step", "time", "slot", "why"]
    rows = [
        {
            "state": one.state,
            "best": one.number == sweep.best,
            "cells": [
                (str(one.number), one.number),
                (one.state.lower(), None),
                *(_cell(one.values.get(name, one.latest.get(name))) for name in metrics),
                *(_cell(one.params.get(name)) for name in params),
                _cell(one.step),
                (words.duration(one.duration), one.duration) if one.duration is not None else ("", None),
                (words.clean(one.slot or ""), None),
                (words.clean(one.why), None),
            ],
        }
        for one in records
    ]
    return {"titles": [words.clean(title) for title in titles], "rows": rows}


def _cell(value: Any) -> tuple[str, float | None]:
    if value is None:
        return "", None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return words.parameter(value), float(value)
    return words.parameter(value), None
