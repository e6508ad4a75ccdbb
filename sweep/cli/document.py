"""The state as the JSON documents that scripts rely on; keys are added, never renamed.

Documents are strict JSON. A number that JSON lacks is one of the words "NaN", "Infinity", "-Infinity", as in the
journal: null means that there is no value, and a diverged loss is a value. Paths are absolute.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.config.command import EXPANSIONS, placeholders, render
from sweep.config.rounds import SECRET
from sweep.core.codec import number_to_json
from sweep.core.model import Attempt, Sweep, Trial
from sweep.core.pareto import front
from sweep.core.policy import final_checkpoint
from sweep.notify import due, told
from sweep.rundir import SweepDir, read_json
from sweep.tracking.lag import lag_of
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
        "hold": sweep.hold,
        "directory": str(directory.path),
        "storage": redacted(sweep.config.get("storage") or str(directory.study)),
        "mlflow": {
            **{key: mlflow.get(key) for key in ("tracking_uri", "experiment", "run_id")},
            "lag": _lag(directory),
        },
        "controller": {"pid": sweep.controller.get("pid"), "alive": controller_alive},
        "counts": {state.value: count for state, count in sweep.counts.items()},
        "best": best,
        "started_by": sweep.started_by or None,
        "hooks": _hooks(sweep, directory),
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
    """The checkpoint that goes with the trial's value; None where there is none (any more: `sweep clean`)."""
    chosen = final_checkpoint(trial, sweep.rules)
    path = directory.path / chosen.directory if chosen else None
    return str(path) if path and path.is_dir() else None


def command_line(sweep: Sweep, trial: Trial, directory: SweepDir) -> str:
    """What to type, in the folder that `sweep run` was called in, to train this configuration once more.

    As the file was when the trial ran: in its `cwd`, with its `env`; what may be a secret of that is taken from
    the shell. A script that finds its parameters by itself gets them by the same file as in the trial.
    `{attempt_dir}` is a folder of its own, so that a second run does not write over the first.
    """
    config = sweep.config_at(trial.attempts[-1].launched) if trial.attempts else sweep.config
    attempt = len(trial.attempts) or 1
    paths = directory.attempt(trial.number, attempt)
    env = {name: value for name, value in (config.get("env") or {}).items() if not name.startswith("SWEEP_")}
    template = config.get("command")
    named: set[str] = set()
    fresh = f"{sweep.id}-trial-{trial.number}"
    if template:
        file = str(paths.params)
        extra = {
            "trial": trial.number,
            "attempt": attempt,
            "sweep": sweep.id,
            "attempt_dir": fresh,
            "params_file": file,
        }
        named = placeholders(template)
        if not named & {*EXPANSIONS, "params_file"} and not named >= trial.params.keys():
            env["SWEEP_PARAMS"] = file
        words = render(template, trial.params, extra)
    else:
        if not sweep.rules.single:
            env["SWEEP_METRICS"] = "\n".join(sweep.rules.metrics)
        params = json.dumps(trial.params, ensure_ascii=False)
        words = ["python", "-m", "sweep.launch.objective", str(config.get("objective")), "--params", params]
    words[0] = _program(words[0], read_json(paths.attempt) or {})
    line = " ".join([*(["env"] if env else []), *map(_assignment, env, env.values()), shlex.join(words)])
    if "attempt_dir" in named:
        line = f"mkdir -p {shlex.quote(fresh)} && {line}"
    cwd = config.get("cwd") or "."
    return line if cwd == "." else f"(cd {shlex.quote(cwd)} && {line})"


def _program(word: str, attempt: Mapping[str, Any]) -> str:
    """A bare `python` where this shell would take the same one as the trial; else the trial's, by its path."""
    used = (attempt.get("argv") or [word])[0]
    found = shutil.which(word)
    if word not in ("python", "python3") or (found and Path(found).parent == Path(used).parent):
        return word
    return str(used)


def _assignment(name: str, value: str) -> str:
    if SECRET.search(name) and name.isidentifier():
        return f'{name}="${{{name}:?is set in space.yaml, under env}}"'
    return shlex.quote(f"{name}={value}")


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
        "evidence": str(directory.path / attempt.evidence) if attempt.evidence else None,
    }


def _lag(directory: SweepDir) -> dict[str, Any] | None:
    """events, files: not in MLflow yet. seconds: since when it takes none, error: why; 0 and null while it does.

    errors: what MLflow refused for good, of any run. followed: whether a process is at it. complete: whether
    that is all. Null where MLflow is off, or not begun.
    """
    lag = lag_of(directory)
    if lag is None:
        return None
    return {
        "events": lag.events,
        "files": lag.files,
        "seconds": max(0.0, time.time() - lag.since) if lag.since else 0.0,
        "error": lag.error,
        "errors": list(lag.refused),
        "followed": lag.followed,
        "complete": not lag.behind,
    }


def _hooks(sweep: Sweep, directory: SweepDir) -> list[dict[str, Any]]:
    """What `on_fail` and `on_finish` ask for since the sweep has ended; at is null where it was not done yet."""
    nothing = {"at": None, "said": "", "failed": False}
    done = told(sweep, directory)
    return [{"hook": key, **done.get(key, nothing)} for key in due(sweep)]


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
