"""Commands that look at sweeps from outside: they replay the journal and change nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep import journal, projects, rundir
from sweep.cli import words
from sweep.cli.document import best_document, command_line, state_word, sweep_document, trial_document
from sweep.cli.sync import standing
from sweep.core.model import Sweep
from sweep.errors import JournalError
from sweep.rundir import SweepDir
from sweep.tracking.lag import lag_of


def show_status(wanted: str | None, *, as_json: bool) -> None:
    sweep, directory, alive = _load(wanted)
    document = sweep_document(sweep, directory, controller_alive=alive)
    document["held_back"] = _held_back(sweep) if alive and not sweep.state.ended else []
    if as_json:
        print(json.dumps(document))
        return
    counts = ", ".join(f"{count} {state.lower()}" for state, count in document["counts"].items() if count)
    console = Console()
    console.print(f"[bold]{document['id']}[/]  {document['state']}  {counts}", highlight=False)
    if document["state"] == "INTERRUPTED":
        console.print(f"its controller is gone; `sweep resume {document['id']}` goes on with it", highlight=False)
    if sweep.hold and alive:
        console.print(sweep.hold, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for one in document["held_back"]:
        said = words.clean(f"{one['slot']} is not used: {one['why']}")
        console.print(said, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for line in standing(lag_of(directory), sweep.id, controlled=alive):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for hook in document["hooks"]:
        console.print(_hook_line(hook, sweep.id, directory), highlight=False, markup=False, soft_wrap=True)
    console.print(_trial_table(document["trials"], sweep.rules.metrics))


def _held_back(sweep: Sweep) -> list[dict[str, Any]]:
    """GPUs that are free and were found unfit when somebody last wanted them: quarantined, or in foreign hands."""
    if sweep.config["devices"]["kind"] == "cpu":
        return []
    from sweep.slots.survey import held_back

    return [{"slot": slot, "why": word.why, "since": word.since} for slot, word in held_back(os.environ)]


def _hook_line(hook: dict[str, Any], sweep: str, directory: SweepDir) -> str:
    if hook["at"] is not None:
        return f"{hook['hook']}: {words.clean(hook['said'])}"
    if rundir.locked(directory.hooks_lock):
        return f"{hook['hook']}: about to be done"
    return f"{hook['hook']}: not done, its controller was killed; `sweep resume {sweep}` does it"


def show_best(wanted: str | None, *, as_json: bool) -> None:
    sweep, directory, _ = _load(wanted)
    document = best_document(sweep, directory)
    if as_json:
        print(json.dumps(document))
        return
    console = Console()
    if not document["trials"]:
        console.print(f"{sweep.id} has no completed trial yet", highlight=False)
    for trial in document["trials"]:
        values = "  ".join(
            f"{name} {words.number(value)}"
            for name, value in zip(sweep.rules.metrics, trial["values"], strict=True)
        )
        console.print(f"[bold]trial {trial['number']}[/]  {values}", highlight=False)
        console.print(f"  {words.parameters(trial['params'])}", highlight=False, markup=False)
        if trial["checkpoint"]:
            console.print(f"  {trial['checkpoint']}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  {trial['command']}", highlight=False, markup=False, soft_wrap=True)


def show_list(*, everywhere: bool, as_json: bool) -> None:
    """The sweeps of this folder, or also those of the others in which this user has begun any."""
    folders = dict.fromkeys([*(projects.known(os.environ) if everywhere else ()), Path.cwd()])
    directories = [one for folder in folders for one in _readable(folder)]
    found: list[dict[str, Any]] = []
    for directory in directories:
        try:
            sweep = journal.replay(directory.journal)
        except JournalError:
            if directory.journal.exists() and directory.journal.stat().st_size:
                print(f"{directory.id} cannot be read; `sweep status {directory.id}` says why", file=sys.stderr)
            continue
        best = sweep.trials[sweep.best] if sweep.best is not None else None
        jobs = [] if sweep.rules.metrics else list(sweep.trials.values())  # of which there is one, or none yet
        found.append(
            {
                "id": sweep.id,
                "name": sweep.config["name"],
                "state": state_word(sweep, controller_alive=rundir.locked(directory.controller_lock)),
                "directory": str(directory.path),
                "counts": {state.value: count for state, count in sweep.counts.items()},
                "best": trial_document(sweep, best, directory) if best else None,
                "job": next((command_line(sweep, one, directory) for one in jobs), None),
            }
        )
    archived = [path.absolute() for folder in folders for path in rundir.archives(folder)]
    if as_json:
        packed = [{"id": rundir.archived_id(one), "path": str(one)} for one in archived]
        print(json.dumps({"sweeps": found, "archived": packed}))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    titles = {"job": any(one["job"] for one in found), "folder": everywhere}
    more = [title for title, wanted in titles.items() if wanted]
    for title in ("sweep", "state", "complete", "pruned", "failed", "best", *more):
        right = title in ("complete", "pruned", "failed")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for one in found:
        counts, best = one["counts"], one["best"]
        value = ", ".join(words.number(v) for v in best["values"]) if best else ""
        done = (str(counts[state]) for state in ("COMPLETE", "PRUNED", "FAIL"))
        texts = {"job": one["job"] or "", "folder": str(Path(one["directory"]).parent.parent)}
        table.add_row(one["id"], one["state"], *done, value, *(Text(words.clean(texts[title])) for title in more))
    console = Console()
    if directories or archived:
        console.print(table)
    else:
        print(f"no sweep in {Path.cwd()} yet: `sweep run space.yaml` starts one")
    for path in archived:
        console.print(f"{rundir.archived_id(path)} is archived: {path}", style="dim", markup=False, soft_wrap=True)


def _readable(project: Path) -> list[SweepDir]:
    try:
        return rundir.sweeps(project)
    except OSError:  # it went, or was closed to us, while we looked
        return []


def _load(wanted: str | None) -> tuple[Sweep, SweepDir, bool]:
    directory = rundir.find(Path.cwd(), wanted)
    alive = rundir.locked(directory.controller_lock)
    return journal.replay(directory.journal), directory, alive


def _trial_table(trials: list[dict[str, Any]], metrics: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("trial", "state", "slot", "step", *metrics, "why"):
        table.add_column(title, justify="right" if title in ("trial", "step", *metrics) else "left")
    for trial in trials:
        last = trial["attempts"][-1] if trial["attempts"] else {"slot": ""}
        values = [words.number(value) for value in trial["values"] or ()]
        step = "" if trial["step"] is None else str(trial["step"])
        cells = [str(trial["number"]), trial["state"], last["slot"], step]
        table.add_row(*cells, *(values or [""] * len(metrics)), words.clean(trial["why"] or ""))
    return table
