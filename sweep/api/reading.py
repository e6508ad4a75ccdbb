"""A sweep's journal as a notebook reads it: the state, and every report, kept up with the file.

The journal is read once, and then only what is new. Reports are kept as columns: 1,000 trials with 100 reports
each are 100,000 rows, and as many objects would take more time and room than the rest of the state.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from sweep import rundir
from sweep.cli.state import Followed
from sweep.core.events import Event, Reported
from sweep.core.model import Sweep
from sweep.errors import IllegalEvent, JournalError
from sweep.rundir import SweepDir
from sweep.tracking.tail import Shrunk

_MOST = 2**63 - 1


class Reports:
    """Rows of what was reported; `metric` holds indexes into `names`. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.trial = array("q")
        self.attempt = array("q")
        self.step = array("q")
        self.time = array("d")
        self.metric = array("q")
        self.value = array("d")

    def saw(self, event: Event) -> None:
        if type(event) is not Reported:
            return
        for name, value in event.metrics.items():
            self.trial.append(event.trial)
            self.attempt.append(event.attempt)
            self.step.append(min(event.step, _MOST))
            self.time.append(event.at)
            self.metric.append(self.names.setdefault(name, len(self.names)))
            self.value.append(value)


class Reader:
    """`sweep` and `reports` as of the last `news`. Raises JournalError where the journal cannot be read."""

    def __init__(self, directory: SweepDir) -> None:
        self.directory = directory
        self._open()

    def _open(self) -> None:
        self.reports = Reports()
        with _reading(self.directory), _no_collector():
            self._followed = Followed(self.directory, self.reports.saw)

    @property
    def sweep(self) -> Sweep:
        return self._followed.sweep

    def news(self) -> Iterator[Event]:
        """The events since the last call, each after the state has taken its step."""
        try:
            with _reading(self.directory):
                for event in self._followed.news():
                    self.reports.saw(event)
                    yield event
        except Shrunk:  # its end was lost with the machine, and is written anew
            self._open()

    @property
    def driven(self) -> bool:
        """Whether a controller is at work."""
        return rundir.locked(self.directory.controller_lock)


@contextmanager
def _reading(directory: SweepDir) -> Iterator[None]:
    try:
        yield
    except IllegalEvent as error:
        hint = f"`sweep status {directory.id}` says which record it is"
        raise JournalError(f"{directory.journal} does not fit together: {error}", hint=hint) from None


@contextmanager
def _no_collector() -> Iterator[None]:
    """Nothing that is read here is garbage, and a kernel with its libraries has much to look through in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
