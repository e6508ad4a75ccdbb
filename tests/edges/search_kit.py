"""Plays the controller and the machine for one search, for the tests of test_search*.py."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweep.config.model import SweepConfig
from sweep.config.rules import rules
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Outcome, TrialState
from sweep.search import OptunaSearch

SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "n": {"type": "int", "low": 1, "high": 64, "log": True},
    "kind": ["a", "b", "c"],
    "fixed": 7,
}


def config(**keys: Any) -> SweepConfig:
    whole = {"name": "s", "command": "true", "metric": "acc", "direction": "maximize", "space": SPACE, "trials": 9}
    return SweepConfig.model_validate({**whole, **keys})


class Bench:
    """Plays the controller and the machine for one search."""

    def __init__(self, config: SweepConfig, storage: Path | str, before: Bench | None = None) -> None:
        """before: whose sweep this one takes over."""
        opened = e.SweepOpened(0.0, "s-1", rules(config), config.model_dump(mode="json"))
        self.sweep = before.sweep if before else open_sweep(opened)
        self.judged: dict[int, dict[int, float]] = before.judged if before else {}
        self._inbox: queue.SimpleQueue[e.Event] = queue.SimpleQueue()
        self.search = OptunaSearch(config, self.sweep, storage, self._inbox.put, lambda: 1.0)
        self.missed = self.search.reconcile(self.sweep, lambda trials: self.judged)
        step(self.sweep, e.ControllerStarted(1.0, 1, 1, "boot", sampled=self.missed))
        self.search.start()

    def ask(self) -> e.Event:
        self.search.ask()
        return self.event()

    def event(self) -> e.Event:
        return self._inbox.get(timeout=30)

    def sample(self) -> e.TrialSampled:
        event = self.ask()
        assert isinstance(event, e.TrialSampled), event
        self.sweep.asking += 1
        step(self.sweep, event)
        return event

    def judge(self, trial: int, *values: float) -> None:
        for at, value in enumerate(values):
            self.judged.setdefault(trial, {})[at] = value
            self.search.judge(do.Judge(trial, 1, at, value))

    def tell(self, trial: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
        values = None if value is None else (value,)
        self.sweep.trials[trial].state, self.sweep.trials[trial].values = state, values
        self.search.tell(do.Tell(trial, state, values, Outcome.COMPLETED))

    def close(self) -> None:
        self.search.close()


@contextmanager
def benches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Bench]]:
    """Opens searches on one study in a file; none of them may have logged an error."""
    opened: list[Bench] = []

    def open_bench(before: Bench | None = None, storage: Path | str | None = None, **keys: Any) -> Bench:
        opened.append(Bench(config(**keys), storage or tmp_path / "study.log", before))
        return opened[-1]

    yield open_bench
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def study(path: Path) -> optuna.Study:
    """As anybody's Optuna reads it."""
    return optuna.load_study(study_name="s-1", storage=JournalStorage(JournalFileBackend(str(path))))
