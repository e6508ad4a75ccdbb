"""The state as the JSON documents that scripts rely on; keys are added, never renamed.

Documents are strict JSON. A number that JSON lacks is one of the words "NaN", "Infinity", "-Infinity", as in the
journal: null means that there is no value, and a diverged loss is a value. Paths are absolute.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from sweep.cli.pareto import front
from sweep.config.command import EXPANSIONS, placeholders, render
from sweep.core.events import number_to_json
from sweep.core.model import Attempt, Sweep, Trial
from sweep.core.policy import best_checkpoint
from sweep.rundir import SweepDir, read_json
from sweep.tracking.uri import redacted

INTERRUPTED = "INTERRUPTED"


def sweep_document(sweep: Sweep, directory: SweepDir, *, controller_alive: bool) -> dict[str, Any]:
    """What `run` and `status` print. `best` is null for several objectives: `best` has the Pareto set."""
    mlflow = read_json(directory.mlflow) or {}
    trials = [trial_document(sweep, trial, directory, _run_id(trial, mlflow)) for trial in sweep.trials.values()]
    best = None
    if sweep.best is not None:
        best = next(document for document in trials if document["number"] == sweep.best)
    return {
        "id": sweep.id,
        "name": sweep.config.get("name") or sweep.id.rpartition("-")[0],
        "state": state_word(sweep, controller_alive=controller_alive),
        "why": sweep.why,
        "directory": str(directory.path),
        "storage": redacted(sweep.config.get("storage") or str(directory.study)),
        "mlflow": {
            **{key: mlflow.get(key) for key in ("tracking_uri", "experiment", "run_id")},
            "lag": _lag(mlflow),
        },
        "controller": {"pid": sweep.controller.get("pid"), "alive": controller_alive},
        "counts": {state.value: count for state, count in sweep.counts.items()},
        "best": best,
        "trials": trials,
    }


def trial_document(sweep: Sweep, trial: Trial, directory: SweepDir, run_id: str | None = None) -> dict[str, Any]:
    """One trial; `run_id` is its MLflow run, where the follower knows it."""
    return {
        "number": trial.number,
        "state": trial.state.value,
        "outcome": trial.outcome.value if trial.outcome else None,
        "params": _strict(trial.params),
        "values": None if trial.values is None else [number_to_json(value) for value in trial.values],
        "step": trial.step,
        "attempts": [_attempt(trial, attempt, directory) for attempt in trial.attempts],
        "why": trial.why,
        "mlflow_run_id": trial.run_id or run_id,
        "checkpoint": checkpoint_path(sweep, trial, directory),
    }


def best_document(sweep: Sweep, directory: SweepDir) -> dict[str, Any]:
    """The best COMPLETE trial, or the Pareto set of several objectives; ties are kept, in the order of numbers."""
    mlflow = read_json(directory.mlflow) or {}
    return {
        "trials": [
            {
                **trial_document(sweep, trial, directory, _run_id(trial, mlflow)),
                "command": command_line(sweep, trial, directory),
            }
            for trial in front(sweep.trials.values(), sweep.rules.directions)
        ]
    }


def state_word(sweep: Sweep, *, controller_alive: bool) -> str:
    return sweep.state.value if sweep.state.ended or controller_alive else INTERRUPTED


def checkpoint_path(sweep: Sweep, trial: Trial, directory: SweepDir) -> str | None:
    """The checkpoint that goes with the trial's value: the newest, or the best one where the best value counts.

    None where there is none, or none any more (`sweep clean`).
    """
    if not trial.checkpoints:
        return None
    best = best_checkpoint(trial, sweep.rules.directions[0]) if sweep.rules.value == "best" else None
    path = directory.path / (best or trial.checkpoints[-1]).directory
    return str(path) if path.is_dir() else None


def command_line(sweep: Sweep, trial: Trial, directory: SweepDir) -> str:
    """What to type, in the folder that `sweep run` was called in, to train this configuration once more.

    A script that finds its parameters by itself gets them by the same file as in the trial. `{attempt_dir}` is a
    folder of its own, so that a second run does not write over the first.
    """
    template = sweep.config.get("command")
    if not template:
        params = json.dumps(trial.params, ensure_ascii=False)
        objective = str(sweep.config.get("objective"))
        return shlex.join(["python", "-m", "sweep.launch.objective", objective, "--params", params])
    attempt = len(trial.attempts) or 1
    file = str(directory.attempt(trial.number, attempt).params)
    extra = {
        "trial": trial.number,
        "attempt": attempt,
        "sweep": sweep.id,
        "attempt_dir": f"{sweep.id}-trial-{trial.number}",
        "params_file": file,
    }
    named = placeholders(template)
    whole = named & {*EXPANSIONS, "params_file"} or named >= trial.params.keys()
    return shlex.join(
        [*([] if whole else ["env", f"SWEEP_PARAMS={file}"]), *render(template, trial.params, extra)]
    )


def _attempt(trial: Trial, attempt: Attempt, directory: SweepDir) -> dict[str, Any]:
    """`pid` is the command's own, that a person would look for in `top`; the journal knows the supervisor's."""
    place = directory.attempt(trial.number, attempt.number)
    return {
        "attempt": attempt.number,
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "pid": (read_json(place.attempt) or {}).get("pid"),
        "device": attempt.device,
        "slot": attempt.slot,
        "started": attempt.started,
        "ended": attempt.ended,
        "directory": str(place.path),
    }


def _lag(mlflow: Mapping[str, Any]) -> dict[str, Any] | None:
    """events: not in MLflow yet. seconds: since when it takes none, and error why; 0 and null while it does.

    errors: what MLflow refused for good, of whichever runs. Null where MLflow is off, or not begun.
    """
    lag = mlflow.get("lag")
    if not lag:
        return None
    seconds = max(0.0, time.time() - lag["since"]) if lag.get("since") else 0.0
    return {
        "events": lag.get("events", 0),
        "seconds": seconds,
        "error": lag.get("error"),
        "errors": lag.get("errors", []),
    }


def _run_id(trial: Trial, mlflow: Mapping[str, Any]) -> str | None:
    runs = mlflow.get("runs") or {}
    found = runs.get(str(trial.number))
    return str(found) if found else None


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
