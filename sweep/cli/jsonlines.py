"""A sweep as JSON lines in its controller.log: what `PlainLines` says, with fields to search by (logs.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TextIO

from sweep.cli.plain import sayings
from sweep.core import events as e
from sweep.core.model import Sweep, TrialState
from sweep.logs import line

LOGGER = "sweep.events"


class JsonLines:
    """A `ports.View`. Notices are not its business: they are logged as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def saw(self, event: e.Event, sweep: Sweep) -> None:
        said = []
        fields = _fields(event, sweep)
        for text in sayings(event, sweep):
            level = "warning" if fields.get("state") == TrialState.FAIL.value else "info"
            said.append(line(time.time(), sweep.id, level, LOGGER, text, **fields) + "\n")
            fields = {"event": "end"}  # the event has ended the sweep: that is not of its trial
        if not said:
            return
        try:
            self._out.writelines(said)
            self._out.flush()
        except (OSError, ValueError):
            pass  # a full disk: the sweep goes on

    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None:
        pass


def _fields(event: e.Event, sweep: Sweep) -> dict[str, object]:
    fields: dict[str, object] = {"event": type(event).__name__}
    number = getattr(event, "trial", None)
    if number is not None and number in sweep.trials:
        trial = sweep.trials[number]
        fields |= {"trial": number, "attempt": getattr(event, "attempt", None), "state": trial.state.value}
        if isinstance(event, (e.AttemptEnded, e.LaunchFailed)) and trial.outcome:
            fields["outcome"] = trial.outcome.value
    return fields
