"""The sweep's own run at its end, and what is uploaded of the best trial. All of it may be done again."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.config.rounds import SECRET
from sweep.core.model import Sweep, Trial, TrialState
from sweep.core.pareto import front
from sweep.core.policy import final_checkpoint
from sweep.rundir import SweepDir
from sweep.tracking.limits import param, tag
from sweep.tracking.memory import Memory
from sweep.tracking.mirror import PARENT, Batch, Mirror, Point, ended, millis
from sweep.tracking.sender import Sender
from sweep.tracking.trouble import Refused
from sweep.tracking.uri import redacted

log = logging.getLogger("sweep.tracking")
SHORTEST_SECRET = 4  # characters; `1` as a secret would hide every 1 of the file
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def summary(mirror: Mirror, runs: dict[int, str]) -> Batch:
    """What the sweep's own run says at the end, its status apart: counts, the best trial, a note in words.

    MLflow lets no parameter change: where a sweep that was resumed after its end has found a better trial, the new
    `best.*` are refused; the tag sweep.best_params has them.
    """
    sweep = mirror.sweep
    at = millis(sweep.at)
    batch = Batch(tags={"mlflow.note.content": tag(_note(sweep))})
    batch.metrics = [
        Point(f"trials.{state.value.lower()}", float(sweep.counts[state]), at, ended(sweep)) for state in _COUNTED
    ]
    if sweep.best is not None:
        best = sweep.trials[sweep.best]
        names = mirror.param_names
        batch.params = {f"best.{names[key]}": param(value) for key, value in best.params.items()}
        batch.tags["sweep.best_trial"] = str(best.number)
        batch.tags["sweep.best_run_id"] = runs.get(best.number, "")
        batch.tags["sweep.best_params"] = tag(json.dumps(best.params, ensure_ascii=False, default=str))
    return batch


def _note(sweep: Sweep) -> str:
    """Markdown, shown at the top of the run's page."""
    counts = [
        f"{sweep.counts[state]} {word}"
        for state, word in zip(_COUNTED, ("complete", "pruned", "failed"), strict=True)
    ]
    lines = [f"{ended(sweep)} trials: " + ", ".join(counts) + f"; {_duration(sweep.at - sweep.opened)}."]
    if sweep.why:
        lines.append(f"It ended because {sweep.why}.")
    if sweep.best is not None:
        best = sweep.trials[sweep.best]
        given = "\n".join(f"- {name}: {value}" for name, value in best.params.items())
        value = (best.values or (float("nan"),))[0]
        lines.append(f"Best: **{sweep.rules.metrics[0]} {value:.6g}**, trial {best.number}\n\n{given}")
    elif winners := _winners(sweep):
        numbers = ", ".join(str(trial.number) for trial in winners)
        lines.append(f"Best: {len(winners)} trials that no other one beats in everything: {numbers}")
    return "\n\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def send_sources(directory: SweepDir, sweep: Sweep, sender: Sender, memory: Memory) -> None:
    """space.yaml, source.json and the uncommitted changes in it, once each, once there. Raises Trouble.

    Without what may be a secret in them: who may read the store may not read the sweep's folder.
    """
    for path in (directory.space, directory.source):
        if path.name in memory.done or not path.exists():
            continue
        try:
            run_id, _ = sender.run_of(PARENT)
            _send_text(run_id, path.name, path.read_text(encoding="utf-8", errors="replace"), sweep, sender)
            if path == directory.source:
                _send_text(run_id, "source.diff", str(_git(directory).get("diff") or ""), sweep, sender)
        except Refused as error:
            sender.note(PARENT, f"{path.name} is not in MLflow: {error.message}")
        memory.done[path.name] = "sent"


def _send_text(run_id: str, name: str, text: str, sweep: Sweep, sender: Sender) -> None:
    text = redacted(text)
    for variable, value in (sweep.config.get("env") or {}).items():
        if SECRET.search(variable) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    if text:
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            file = Path(folder) / name
            file.write_text(text, encoding="utf-8")
            sender.store.upload(run_id, file)


def send_best(directory: SweepDir, mirror: Mirror, sender: Sender, memory: Memory) -> None:
    """The final checkpoint of the best trial, or of each of the Pareto set, as its `checkpoint/`. Raises Trouble.

    And a registered model of the best trial, if asked.
    """
    sweep = mirror.sweep
    winners = _winners(sweep)
    for trial in winners:
        _send_final(directory, sweep, trial, sender, memory)
    model = sweep.config["mlflow"]["register_as"]
    if model and len(winners) == 1:
        _register(model, sweep, winners[0], sender, memory)
    elif model and winners:
        sender.note(PARENT, f"nothing registered: {len(winners)} trials are best, each in its way")


def _winners(sweep: Sweep) -> list[Trial]:
    """The best trial, or the Pareto set; none of a job."""
    if len(sweep.rules.metrics) > 1:
        return front(sweep.trials.values(), sweep.rules.directions)
    return [] if sweep.best is None else [sweep.trials[sweep.best]]


def _send_final(directory: SweepDir, sweep: Sweep, trial: Trial, sender: Sender, memory: Memory) -> None:
    chosen = final_checkpoint(trial, sweep.rules)
    key = f"checkpoint of {trial.number}"
    if chosen is None or memory.done.get(key) == chosen.directory:
        return
    run_id, _ = sender.run_of(trial.number)
    try:
        _send_checkpoint(directory.path / chosen.directory, run_id, sender)
        sender.send(trial.number, Batch(tags={"sweep.checkpoint": chosen.directory}))
    except Refused as error:
        sender.note(trial.number, f"its checkpoint is not in MLflow: {error.message}")
    memory.done[key] = chosen.directory


def _register(model: str, sweep: Sweep, trial: Trial, sender: Sender, memory: Memory) -> None:
    chosen = final_checkpoint(trial, sweep.rules)
    if chosen is None:
        sender.note(PARENT, f"nothing to register: trial {trial.number} has no checkpoint")
        return
    run_id, _ = sender.run_of(trial.number)
    if memory.done.get("registered") == run_id:
        return
    try:
        tags = {"sweep.id": sweep.id, "sweep.trial": str(trial.number), "sweep.step": str(chosen.step)}
        version = sender.store.register(model, run_id, "checkpoint", tags)
        sender.send(PARENT, Batch(tags={"sweep.registered": f"{model}/{version}"}))
        log.info("trial %s is registered as version %s of %s", trial.number, version, model)
    except Refused as error:
        sender.note(trial.number, f"it is not registered: {error.message}")
    memory.done["registered"] = run_id


def _send_checkpoint(folder: Path, run_id: str, sender: Sender) -> None:
    if not folder.is_dir():
        raise Refused(f"{folder} is gone")
    sender.store.upload(run_id, folder, "checkpoint")


def commit_of(directory: SweepDir) -> str | None:
    """The git commit that source.json names."""
    commit = _git(directory).get("commit")
    return str(commit) if commit else None


def _git(directory: SweepDir) -> dict[str, Any]:
    source = rundir.read_json(directory.source)
    git = source.get("git") if isinstance(source, dict) else None
    return git if isinstance(git, dict) else {}
