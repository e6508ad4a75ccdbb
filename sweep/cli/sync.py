"""What MLflow has not got yet, in words; and `sweep sync`, which sees to it that it gets there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from sweep import journal, rundir
from sweep.cli import words
from sweep.cli.document import sweep_document
from sweep.errors import StorageError, UsageError
from sweep.rundir import SweepDir
from sweep.tracking.lag import Lag, lag_of
from sweep.tracking.process import catch_up

POLL = 0.1


def missing(lag: Lag) -> str:
    """What MLflow lacks: "62 events and 2 outputs"."""
    found = [(lag.events, "event"), (lag.files, "output")]
    return " and ".join(words.plural(count, name) for count, name in found if count) or "its last words"


def standing(lag: Lag | None, id: str, *, controlled: bool) -> list[str]:
    """Lines for a person: what MLflow lacks, why, and what brings it there; what it refused. Mostly none.

    controlled: a controller lives, so that a follower that dies has a successor and some lag is no news.
    """
    if lag is None:
        return []
    lines = []
    why = f": {words.clean(lag.error)}" if lag.error else ""
    if lag.behind and not lag.followed and not controlled:
        lines.append(f"{missing(lag)} not in MLflow yet, and nobody sends them{why}; `sweep sync {id}` does")
    elif lag.behind and lag.error:
        lines.append(f"{missing(lag)} not in MLflow yet{why}; nothing is lost, it is tried on in the background")
    elif lag.behind and not controlled:
        lines.append(f"{missing(lag)} not in MLflow yet; on the way")
    if lag.refused:
        times = words.plural(len(lag.refused), "time")
        lines.append(f"MLflow refused something {times}, last: {words.clean(lag.refused[-1])}")
    return lines


def sync(wanted: str | None, *, as_json: bool) -> None:
    """Waits until MLflow has all of a sweep, with a follower of its own if none lives.

    Raises StorageError where the store does not take it; the follower stays behind and goes on trying.
    """
    directory = rundir.find(Path.cwd(), wanted)
    sweep = journal.replay(directory.journal)
    if not sweep.config["mlflow"]["enabled"]:
        raise UsageError(f"{sweep.id} does not log to MLflow (`mlflow: false`)")
    _wait(directory)
    if as_json:
        alive = rundir.locked(directory.controller_lock)
        print(json.dumps(sweep_document(sweep, directory, controller_alive=alive)))
    else:
        print(f"{sweep.id}: MLflow has all of it")


def _wait(directory: SweepDir) -> None:
    began = time.time()
    ours = None
    if not rundir.locked(directory.follower_lock):
        ours = catch_up(directory, os.environ)
    console = Console(stderr=True)
    with console.status("MLflow is catching up") if console.is_terminal else nullcontext():
        while not _is_done(directory, ours, began):
            time.sleep(POLL)


def _is_done(directory: SweepDir, ours: subprocess.Popen[bytes] | None, began: float) -> bool:
    """ours: the follower that was started for this. Raises StorageError where the store has not taken it since."""
    over = ours.poll() is not None if ours else not rundir.locked(directory.follower_lock)
    lag = lag_of(directory)
    if lag is None or (ours and lag.pid != ours.pid):  # what an earlier one has left
        lag = None
    elif not lag.behind and (over or ours is None):
        return True
    if over:
        raise StorageError(
            f"the follower of {directory.id} has ended, and MLflow has not got all of it",
            hint=f"see {directory.follower_log}",
        )
    if lag is not None and lag.outage and (lag.tried or 0.0) > began:
        raise StorageError(
            f"{missing(lag)} not in MLflow yet: {lag.error}",
            hint=f"it is tried on in the background for a day; `sweep status {directory.id}` shows it",
        )
    return False
