"""One sweep as its journal tells it, kept up with at every look.

A sweep that has ended says nothing new, so its trials are let go (all but the best), which is nearly all of its
memory; if its journal grows again, because it is resumed, it is read anew.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sweep import rundir
from sweep.cli.state import Followed
from sweep.core import events as e
from sweep.core.model import Sweep
from sweep.errors import IllegalEvent, JournalError
from sweep.rundir import SweepDir
from sweep.tracking.lag import Lag, lag_of
from sweep.tracking.tail import Shrunk

RECENT = 7 * 86400.0  # seconds: sweeps of which nothing was written for longer are not watched
# a journal that is damaged, cut, of another version, or on a disk that does not answer
_UNREADABLE = (JournalError, IllegalEvent, Shrunk, OSError, ValueError, KeyError)


class Watched:
    """Raises one of _UNREADABLE where its journal cannot be read.

    size: bytes of the journal. events, reports, controllers: how many it tells of. outcomes: how attempts ended.
    """

    def __init__(self, directory: SweepDir) -> None:
        self.directory = directory
        self._lag: Lag | None = None
        self._lag_of: tuple[int, int] = (0, 0)
        self._follow()

    def _follow(self) -> None:
        self.events = self.reports = self.controllers = 0
        self.outcomes: Counter[str] = Counter()
        self._followed: Followed | None = Followed(self.directory, self._count)
        self.sweep: Sweep = self._followed.sweep
        for trial in self.sweep.trials.values():
            self.outcomes.update(one.outcome.value for one in trial.attempts if one.outcome)
        self.size = self._size()

    def look(self) -> None:
        """Takes in what is new."""
        size = self._size()
        if self._followed is None:
            if size != self.size:
                self._follow()
            return
        driven = rundir.locked(self.directory.controller_lock)  # first: what it writes last is then seen
        for event in self._followed.news():
            self._count(event)
            if isinstance(event, (e.AttemptEnded, e.LaunchFailed)):
                ended = self.sweep.trials[event.trial].attempts[event.attempt - 1]
                self.outcomes.update([ended.outcome.value] if ended.outcome else [])
        if self.sweep.state.ended and not driven and size == self.size:
            self._let_go()
        self.size = size

    def _count(self, event: e.Event) -> None:
        self.events += 1
        if type(event) is e.Reported:
            self.reports += 1
        elif type(event) is e.ControllerStarted:
            self.controllers += 1

    def _let_go(self) -> None:
        best = self.sweep.best
        self.sweep.trials = {} if best is None else {best: self.sweep.trials[best]}
        self._followed = None

    def _size(self) -> int:
        return self.directory.journal.stat().st_size

    def lag(self) -> Lag | None:
        """How far MLflow is behind; counted anew only where something was written."""
        try:
            now = (self.directory.mlflow.stat().st_mtime_ns, self.size)
        except OSError:
            return None
        if now != self._lag_of or (self._lag is not None and self._lag.followed):
            self._lag, self._lag_of = lag_of(self.directory), now
        return self._lag


class Project:
    """The sweeps of a folder, oldest first. unreadable: how many cannot be read now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Watched] = {}
        self._failed: dict[str, int] = {}  # id -> size of the journal that could not be read
        self.unreadable = 0

    def look(self, now: float) -> list[Watched]:
        """now: seconds since the epoch."""
        try:
            here = [one for one in rundir.sweeps(self._folder) if self._is_of_now(one, now)]
        except OSError:
            here = []
        self._known = {one.id: self._known[one.id] for one in here if one.id in self._known}
        self.unreadable = 0
        for directory in here:
            try:
                self._look_at(directory)
            except _UNREADABLE:
                self._known.pop(directory.id, None)
                self.unreadable += 1
        return [self._known[one.id] for one in here if one.id in self._known]

    def _look_at(self, directory: SweepDir) -> None:
        size = directory.journal.stat().st_size
        if directory.id in self._known:
            self._known[directory.id].look()
        elif self._failed.get(directory.id) == size:
            raise JournalError(f"{directory.journal} is as it was")
        else:
            self._failed[directory.id] = size
            self._known[directory.id] = Watched(directory)
            del self._failed[directory.id]

    def _is_of_now(self, directory: SweepDir, now: float) -> bool:
        try:
            written = directory.journal.stat().st_mtime
        except OSError:
            return False
        return now - written < RECENT or rundir.locked(directory.controller_lock)
