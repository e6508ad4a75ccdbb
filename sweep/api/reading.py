"""A sweep's journal as a notebook reads it: the state, and every report, kept up with the file.

The journal is read once, and then only what is new. Reports are kept as columns: 1,000 trials with 100 reports
each are 100,000 rows, and as many objects would take more time and room than the rest of the state.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from sweep import rundir
from sweep.cli.state import Followed
from sweep.core.events import Event, Reported
from sweep.core.model import Sweep
from sweep.errors import IllegalEvent, JournalError
from sweep.lines import no_collector
from sweep.rundir import SweepDir
from sweep.tracking.tail import Shrunk

_MOST = 2**63 - 1


class Reports:
    """What was reported, a row each; times are seconds since the epoch.

    `kind` is the place in `kinds` of the metrics that the report had, `value` has theirs, report after report.
    """

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, ...], int] = {}
        self.trial = array("q")
        self.attempt = array("q")
        self.step = array("q")
        self.time = array("d")
        self.kind = array("q")
        self.value = array("d")

    @property
    def names(self) -> list[str]:
        """Of the metrics, in the order in which they came up."""
        return list(dict.fromkeys(name for kind in self.kinds for name in kind))

    def saw(self, event: Event) -> None:
        if type(event) is not Reported:
            return
        self.trial.append(event.trial)
        self.attempt.append(event.attempt)
        self.step.append(min(event.step, _MOST))
        self.time.append(event.at)
        self.kind.append(self.kinds.setdefault(tuple(event.metrics), len(self.kinds)))
        self.value.extend(event.metrics.values())


class Reader:
    """`sweep` and `reports` as of the last `news`. Raises JournalError where the journal cannot be read."""

    def __init__(self, directory: SweepDir) -> None:
        self.directory = directory
        self._open()

    def _open(self) -> None:
        self.reports = Reports()
        with _reading(self.directory), no_collector():
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
