"""The attempts that live, as the loop sees them: what they say, what they are told, and that they have ended.

An attempt has ended when its supervisor has: its pidfd wakes the loop. Where a trial logs to MLflow by itself, its
end waits for the follower's last look at its run, but not for ever.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Sweep, Verdict
from sweep.launch import local, stacks
from sweep.launch.watch import Watch
from sweep.ports import Tracker
from sweep.rundir import SweepDir

COLLECT = 30.0  # seconds that an ended trial's last metrics may be on their way out of MLflow
Key = tuple[int, int]  # trial, attempt


class Attempts:
    """feed: to the state machine. ended: reads the end of an attempt whose reports have all been read."""

    def __init__(
        self,
        sweep: Sweep,
        directory: SweepDir,
        selector: selectors.BaseSelector,
        tracker: Tracker | None,
        feed: Callable[[e.Event], object],
        note: Callable[[str], None],
        ended: Callable[[Watch], e.AttemptEnded],
    ) -> None:
        self._sweep = sweep
        self._directory = directory
        self._selector = selector
        self._tracker = tracker
        self._feed = feed
        self._note = note
        self._ended = ended
        self._watches: dict[Key, Watch] = {}
        self._collecting: dict[Key, float] = {}
        self._undelivered: list[do.Deliver] = []

    def watched(self) -> list[Watch]:
        return list(self._watches.values())

    def watch(self, trial: int, attempt: int, pidfd: int | None, skip: int = 0) -> None:
        """Follows a live attempt from here on; one that has ended already is read to its end at once."""
        watch = Watch(trial, attempt, self._directory.attempt(trial, attempt), pidfd, skip)
        self._watches[trial, attempt] = watch
        if pidfd is None:
            self._died(watch)
        else:
            self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._died(watch))

    # ---- what they say

    def read_all(self) -> None:
        for watch in self.watched():
            self._read(watch)

    def read(self, names: Iterable[bytes]) -> None:
        """Those that rang: `trial/attempt`."""
        for name in names:
            trial, _, attempt = name.partition(b"/")
            if trial.isdigit() and attempt.isdigit():
                watch = self._watches.get((int(trial), int(attempt)))
                if watch is not None:
                    self._read(watch)

    def _read(self, watch: Watch) -> None:
        for event in watch.read(self._note):
            self._feed(event)

    # ---- their ends

    def _died(self, watch: Watch) -> None:
        """The supervisor has ended, and with it the lease."""
        if watch.pidfd is not None:
            self._selector.unregister(watch.pidfd)
            os.close(watch.pidfd)
            watch.pidfd = None
        if self._tracker is not None and self._sweep.rules.needs_run:
            self._tracker.collect(watch.trial, watch.attempt)
            self._collecting[watch.trial, watch.attempt] = time.monotonic() + COLLECT
        else:
            self._end(watch)

    def _end(self, watch: Watch) -> None:
        self._read(watch)
        ended = self._ended(watch)
        self._watches.pop((watch.trial, watch.attempt)).close()
        self._feed(ended)

    def collected(self, key: Key) -> None:
        """The follower has had its last look."""
        if self._collecting.pop(key, None) is not None:
            self._end(self._watches[key])

    # ---- what they are told

    def deliver(self, order: do.Deliver) -> None:
        watch = self._watches.get((order.trial, order.attempt))
        if watch is None:
            return  # it has ended
        hangs = order.verdict is Verdict.STALL
        try:
            local.deliver(
                watch.paths,
                watch.pidfd,
                order.verdict.value,
                order.grace,
                order.kill_after,
                abort=hangs and not stacks.known(watch.paths),
            )
        except OSError as error:
            self._note(f"trial {order.trial}: its verdict cannot be written ({error.strerror}); trying again")
            self._undelivered.append(order)

    # ---- once a second

    def look(self) -> None:
        """Ends those whose last metrics do not come, and tries again what could not be delivered."""
        now = time.monotonic()
        for key in [key for key, until in self._collecting.items() if now > until]:
            self._note(f"trial {key[0]}: its last metrics could not be read back from MLflow in {COLLECT:g} s")
            self.collected(key)
        undelivered, self._undelivered = self._undelivered, []
        for order in undelivered:
            self.deliver(order)

    def close(self) -> None:
        """They live on."""
        for watch in self._watches.values():
            watch.close()
