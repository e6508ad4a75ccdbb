"""Time for the journal: wall time that never goes back while this process lives, whoever sets the clock."""

from __future__ import annotations

import time


class WallClock:
    """`ports.Clock`: the wall's time at the start, moved on by the monotonic clock."""

    def __init__(self, not_before: float = 0.0) -> None:
        self._start = max(time.time(), not_before)
        self._since = time.monotonic()

    def now(self) -> float:
        return round(self._start + time.monotonic() - self._since, 6)
