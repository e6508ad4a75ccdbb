"""When a store in trouble is tried again, and when its trouble is news."""

from __future__ import annotations

import time

PAUSE = 5.0  # longest time between attempts at a store in trouble, seconds
QUIET = 60.0  # between two times that the same trouble is told, though it was over in between, seconds


class Retry:
    """When to try again, and what is wrong meanwhile.

    News is what the next attempt does not cure, once in an outage; and once in QUIET seconds where a store comes
    and goes.
    """

    def __init__(self) -> None:
        self.error = ""
        self.since: float | None = None  # the first and the latest failure of this outage, seconds since the epoch
        self.tried: float | None = None
        self.due = 0.0
        self._pause = 0.0
        self._told: dict[str, float] = {}  # what, and when last
        self._told_now: set[str] = set()  # in this outage

    def failed(self, error: str) -> bool:
        """Says whether this is news."""
        now = time.monotonic()
        quiet = error in self._told_now or now - self._told.get(error, -QUIET) < QUIET
        news = bool(self.error) and not quiet
        if news:
            self._told[error] = now
            self._told_now.add(error)
        self.error = error
        self.tried = time.time()
        self.since = self.since or self.tried
        self._pause = min(PAUSE, max(0.25, 2 * self._pause))
        self.due = now + self._pause
        return news

    def worked(self) -> bool:
        """Says whether this is news."""
        news = bool(self._told_now)
        self._told_now.clear()
        self.error, self.since, self.tried = "", None, None
        self.due = self._pause = 0.0
        return news
