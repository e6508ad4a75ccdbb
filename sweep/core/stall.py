"""Whether an attempt hangs: for too long it gave no sign of life of any kind.

Signs, and when they count
- report: a line of its reports. output: its output has grown. checkpoint: its processes have written something.
  cpu, device: more than idling, over the last measurement. One sign is enough to live.
- A count that falls is life as well: of a process that has ended, or a file that was begun anew.
- Silence is added up look by look. Where nobody looked for longer than GAP (a controller that was stopped, or a
  machine that slept), all clocks restart: that was not the trial's silence.
- How long is too long follows from the trial's own pace, unless the user says it.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

FLOOR = 600.0  # seconds; a first epoch, a compilation, a slow file system
INTERVALS = 20.0  # of the trial's own, between two reports
GAP = 5.0  # seconds; the controller looks once in one
IDLE_CORES = 0.05
IDLE_DEVICE = 0.02


@dataclass(frozen=True)
class Signs:
    """What one look at an attempt saw.

    reports, output, written: counts (lines, bytes, bytes). cores: used of the CPU over the last seconds, None
    where that is not known, which is taken for life. device: its utilisation from 0 to 1, None where it has none.
    """

    reports: int
    output: int
    written: int
    cores: float | None = None
    device: float | None = None


class Pulse:
    """The signs of one attempt over time. pace: seconds between two of its reports, if earlier ones are known."""

    def __init__(self, pace: float | None = None) -> None:
        self._before: Signs | None = None
        self._silent: dict[str, float] = {}
        self._since_report = 0.0
        self._intervals: deque[float] = deque([] if pace is None else [pace], maxlen=31)

    def look(self, signs: Signs, passed: float) -> None:
        """passed: seconds since the last look."""
        if passed > GAP:
            self._before, self._since_report = signs, 0.0
            self._silent.clear()
            return
        before, self._before = self._before or signs, signs
        self._since_report += passed
        if (new := signs.reports - before.reports) > 0:
            self._intervals.append(self._since_report / new)
            self._since_report = 0.0
        alive = {
            "report": signs.reports != before.reports,
            "output": signs.output != before.output,
            "checkpoint": signs.written != before.written,
            "cpu": signs.cores is None or signs.cores > IDLE_CORES,
            "device": signs.device is not None and signs.device > IDLE_DEVICE,
        }
        for name, lives in alive.items():
            self._silent[name] = 0.0 if lives else self._silent.get(name, 0.0) + passed

    def silence(self, signs: Collection[str]) -> float:
        """Seconds for which none of these signs was seen."""
        return min((self._silent.get(name, 0.0) for name in signs), default=0.0)

    def too_long(self, after: float | None) -> float:
        """Seconds of silence that are too long; `after` where it is given."""
        if after is not None:
            return after
        return max(FLOOR, INTERVALS * statistics.median(self._intervals)) if self._intervals else FLOOR
