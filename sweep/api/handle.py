"""`sweep.load` and what it returns: a sweep that is driven elsewhere, to be looked at and told what to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import rundir
from sweep.api.plots import Plots
from sweep.api.progress import catch_up, follow, watch
from sweep.api.reading import Reader
from sweep.api.record import TrialRecord, record
from sweep.api.space import Space, plain
from sweep.cli.control import order, place, wish
from sweep.cli.detached import start
from sweep.cli.document import state_word
from sweep.cli.rounds import top
from sweep.core import events as e
from sweep.core import model
from sweep.core.codec import to_json
from sweep.core.pareto import front
from sweep.errors import NotFoundError, SweepError, UsageError
from sweep.rundir import SweepDir

if TYPE_CHECKING:
    import pandas as pd


def load(sweep: str | Path | None = None, *, project: str | Path | None = None) -> Sweep:
    """A sweep that runs or ran, by id (`ocr-rec-3`), name (the newest of it), or folder; or the newest of all.

    project: the folder that has `sweeps/`; by default the one that you are in. Raises NotFoundError.
    """
    folder = Path(sweep) if sweep is not None else None
    if folder is not None and (isinstance(sweep, Path) or "/" in str(sweep)):
        if not (folder / "journal.jsonl").is_file():
            raise NotFoundError(f"{folder} is no folder of a sweep", hint="such as sweeps/ocr-rec-3")
        return Sweep(SweepDir(folder))
    return Sweep(rundir.find(Path(project or Path.cwd()).resolve(), sweep if sweep is None else str(sweep)))


class Sweep:
    """A sweep, running or ended. Everything is as of the moment in which it is asked for.

    `best`, `trials`, `dataframe()`, `curves()`, `plot`, `checkpoint()`, `report()` look; `enqueue()`,
    `stop()` change; `watch()` and `wait()` wait for the end. Raises JournalError where its journal cannot be read.
    """

    def __init__(self, directory: SweepDir) -> None:
        self._directory = directory
        self._reader = Reader(directory)

    # -- what it is

    @property
    def id(self) -> str:
        return self._directory.id

    @property
    def directory(self) -> Path:
        return self._directory.path

    @property
    def space(self) -> Space:
        """Its parameters, as they are now."""
        return Space(self._state().config.get("space") or {})

    @property
    def status(self) -> str:
        """RUNNING, PAUSED, DRAINING, STOPPING, FINISHED, FAILED, or INTERRUPTED: its controller is gone."""
        driven = self._reader.driven
        return state_word(self._state(), controller_alive=driven)

    @property
    def why(self) -> str:
        """Why it is, or ended, as it did; empty where there is nothing to say."""
        return self._state().why

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        return {state.value: count for state, count in self._state().counts.items()}

    @property
    def mlflow(self) -> dict[str, str | None]:
        """Where MLflow has it: tracking_uri, experiment, run_id (above the trials' own runs); None: not yet."""
        known = rundir.read_json(self._directory.mlflow) or {}
        return {key: known.get(key) for key in ("tracking_uri", "experiment", "run_id")}

    # -- its trials

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, by number."""
        sweep = self._state()
        return [self._record(sweep, trial) for _, trial in sorted(sweep.trials.items())]

    @property
    def best(self) -> TrialRecord | None:
        """The best COMPLETE trial; None where there is none yet. Raises UsageError for several objectives."""
        sweep = self._state()
        if len(sweep.rules.metrics) > 1:
            raise UsageError(f"{sweep.id} has several objectives, and so no best trial", hint="see `.front`")
        return None if sweep.best is None else self._record(sweep, sweep.trials[sweep.best])

    @property
    def front(self) -> list[TrialRecord]:
        """The COMPLETE trials that no other one dominates; of one objective the best and its equals."""
        sweep = self._state()
        return [self._record(sweep, trial) for trial in front(sweep.trials.values(), sweep.rules.directions)]

    def top(self, count: int = 5) -> list[TrialRecord]:
        """The best COMPLETE trials, best first; of several objectives some of the front."""
        sweep = self._state()
        return [self._record(sweep, trial) for trial in top(sweep, count)]

    def checkpoint(self) -> Path | None:
        """The folder of the best trial's checkpoint; None where there is none (any more)."""
        best = self.best
        return best.checkpoint if best else None

    def dataframe(self) -> pd.DataFrame:
        """One row a trial, with its number as index, and the columns (the first ones named as Optuna does)

        state, outcome, values_<metric>, params_<name>, step, started (UTC), duration (on slots), device, slot,
        attempts, origin, why.
        """
        from sweep.api.frames import trials_frame

        sweep = self._state()
        return trials_frame(self.trials, sweep.rules.metrics, list(sweep.config.get("space") or {}))

    def curves(self) -> pd.DataFrame:
        """One row a reported value, as they came: trial, attempt, step, time (UTC), metric, value."""
        from sweep.api.frames import curves_frame

        self._state()
        return curves_frame(self._reader.reports)

    @property
    def plot(self) -> Plots:
        """Pictures: `.history()`, `.importances()`, `.parallel()`, `.slice()`, `.front()`, `.curves()`,
        `.timeline()`.
        """
        return Plots(self._reader)

    def report(self, path: str | Path | None = None) -> Path:
        """Writes one page about it for a browser, which needs no other file; by default `<id>.html`, here.

        path: a file, or a folder that is there. Raises StorageError where it cannot be written.
        """
        from sweep.api.page import write

        self._state()
        return write(self._reader, Path(path or "."))

    # -- what it is told

    def enqueue(self, params: Mapping[str, Any] | None = None, /, **more: Any) -> bool:
        """A configuration of your own, next in line; what it leaves out is sampled. Raises UsageError.

        False where the sweep's controller is gone: the order waits for `sweep resume`.
        """
        sweep = self._state()
        wanted = {name: plain(value) for name, value in {**(params or {}), **more}.items()}
        return place(sweep, self._directory, wish(sweep, wanted))

    def stop(self, trial: int | None = None, *, now: bool = False) -> None:
        """Ends the sweep, or one trial, and waits until its processes are gone.

        now: without time for a checkpoint. Raises UsageError where it has ended already.
        """
        sweep = self._state()
        if sweep.state.ended:
            raise UsageError(f"{sweep.id} has ended already ({sweep.state.value})")
        if trial is not None and trial not in sweep.trials:
            raise NotFoundError(f"{sweep.id} has no trial {trial}", hint="`.trials` lists them")
        event = e.StopAsked(0.0, trial, now)
        if not order(self._directory, event):
            if trial is not None:
                raise SweepError(
                    f"the controller of {sweep.id} is gone", hint=f"bring it back: sweep resume {sweep.id}"
                )
            task = {"directory": str(self.directory), "events": [to_json(event)]}
            start(task, self.directory.parent.parent)
        while not (self._state().state.ended or (trial is not None and self._trial(trial).state.terminal)):
            time.sleep(0.05)

    # -- waiting

    def watch(self) -> None:
        """Shows how it gets on until it has ended: in the cell, as a table on a terminal, else as lines.

        An interrupt starts no new trials and lets the running ones finish; a second one stops them.
        """
        watch(self._reader)

    def wait(self, timeout: float | None = None) -> str:
        """Waits for the end (and for MLflow to have all of it), at most so many seconds; returns the status."""
        until = None if timeout is None else time.monotonic() + timeout
        if follow(self._reader, None, until):
            catch_up(self._directory, until)
        return self.status

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"<Sweep {self.id}: {self.status}{': ' if counts else ''}{counts}>"

    def _state(self) -> model.Sweep:
        for _ in self._reader.news():
            pass
        return self._reader.sweep

    def _trial(self, number: int) -> model.Trial:
        return self._reader.sweep.trials[number]

    def _record(self, sweep: model.Sweep, trial: model.Trial) -> TrialRecord:
        return record(sweep, trial, self._directory)
