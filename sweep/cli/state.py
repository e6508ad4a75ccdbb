"""The state of a sweep that somebody else drives, kept up with its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sweep import journal, snapshot
from sweep.core.events import Event, SweepOpened
from sweep.core.machine import open_sweep, step
from sweep.rundir import SweepDir
from sweep.tracking.tail import Tail


class Followed:
    """`sweep` is the state so far; only what is new is read. Raises JournalError where nothing can be read."""

    def __init__(self, directory: SweepDir, saw: Callable[[Event], None] | None = None) -> None:
        """saw: is told every event up to now."""
        if saw is None:
            told = journal.Replay(directory.journal)
            self.sweep, self._tail = told.sweep, Tail(directory.journal, told.last)
            return
        self._tail = Tail(directory.journal)
        sweep, known = snapshot.load(directory.journal) or (None, None)
        while events := list(self._tail.read()):
            for event, end in events:
                if sweep is None and isinstance(event, SweepOpened):
                    sweep = open_sweep(event)
                elif sweep is not None and (known is None or end > known.end):
                    step(sweep, event)
                saw(event)
        self.sweep = sweep or journal.replay(directory.journal)  # which says what is wrong

    def news(self) -> Iterator[Event]:
        """The events since the last call, each after the state has taken its step."""
        for event, _ in self._tail.read():
            step(self.sweep, event)
            yield event
