"""A sweep to look at (live_story.py), in a folder with its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from live_story import START, Story

from sweep.core import events as e
from sweep.journal import Writer

SPACE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "width": {"type": "int", "low": 16, "high": 128, "step": 16},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
}


class Written:
    """A story in a folder of its own; `write` brings its journal up to date."""

    def __init__(
        self, project: Path, metrics: tuple[str, ...] = ("val_acc",), space: Any = SPACE, **story: Any
    ) -> None:
        self.folder = project / "sweeps" / "ocr-rec-3"
        self.folder.mkdir(parents=True)
        self._events: list[e.Event] = []
        directions = ["maximize"] * len(metrics)
        config = {"metric": list(metrics), "direction": directions, "space": space, "mlflow": {"enabled": False}}
        self.story = Story(
            metrics=metrics,
            directions=tuple(directions),
            config=config,
            seen=lambda event, _: self._events.append(event),
            **story,
        )
        state = self.story.sweep
        self._events.insert(0, e.SweepOpened(START, state.id, state.rules, state.config))
        self.writer = Writer(self.folder / "journal.jsonl")

    def write(self) -> Written:
        while self._events:
            self.writer.append(self._events.pop(0))
        self.writer.commit()
        return self
