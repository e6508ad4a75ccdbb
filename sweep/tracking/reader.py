"""What there is to send: the journal read on from the cursor, and the usage of live attempts.

The cursor (in memory.py) moves by `sent`, when nothing is pending any more, never before: what is read again after
a death is sent again, which does no harm.
"""

from __future__ import annotations

import hashlib
import logging

from sweep.core import events as e
from sweep.errors import IllegalEvent
from sweep.rundir import SweepDir
from sweep.tracking.files import Usage
from sweep.tracking.memory import Memory
from sweep.tracking.mirror import Mirror
from sweep.tracking.tail import Shrunk, Tail

ROUND = 1.0  # seconds that one round of reading and sending should take at most: a death costs that much
FEWEST, MOST = 50, 50_000  # events of one round
log = logging.getLogger("sweep.tracking")


class Reader:
    def __init__(self, directory: SweepDir, memory: Memory) -> None:
        self.directory = directory
        self.memory = memory
        self.mirror: Mirror | None = None  # until the journal's first line is there
        self._begin()

    def _begin(self) -> None:
        self._tail = Tail(self.directory.journal)
        self._usage = Usage(self.directory)
        self._sent_lines = 0
        self._fed = 0  # events that were not sent yet
        self._limit = FEWEST
        self.mirror = None

    def rewind(self) -> None:
        """Begins with the journal's first line again, and has all of it sent."""
        self.memory.start_over()
        self._begin()

    def read(self) -> bool:
        """Takes in what is new, if it is not too much. False where everything has to be sent again."""
        if self._fed >= self._limit:
            return True
        try:
            for event, end in self._tail.read():
                send = end > self.memory.cursor
                self._feed(event, send)
                self._fed += send
                if self._fed >= self._limit:
                    break
        except Shrunk:
            log.info("the journal is shorter than before; everything is sent again")
            self.rewind()
            return False
        return True

    def _feed(self, event: e.Event, send: bool) -> None:
        if self.mirror is None:
            if isinstance(event, e.SweepOpened):
                self.memory.uid = uid(event)
                self.mirror = Mirror(event, self.memory.uid)
                if not send:
                    self.mirror.pending.clear()
            return
        try:
            self.mirror.feed(event, send)
        except IllegalEvent as error:
            log.info("an event of the journal does not fit and is left out: %s", error)
            return
        if isinstance(event, e.AttemptEnded) and send:
            self._read_usage(event.trial, event.attempt)
            self._usage.forget(event.trial, event.attempt)

    def read_usage(self) -> None:
        """Takes in what live attempts use of the machine."""
        for trial in self.mirror.live() if self.mirror else ():
            self._read_usage(trial.number, trial.attempts[-1].number)

    def _read_usage(self, trial: int, attempt: int) -> None:
        assert self.mirror is not None
        points = self._usage.read(self.mirror.sweep.trials[trial], attempt)
        if points:
            self.mirror.batch(trial).metrics.extend(points)

    def pace(self, seconds: float) -> None:
        """Sending what is pending took so long: the next round is made to fit."""
        if seconds > ROUND:
            self._limit = max(FEWEST, self._limit // 2)
        elif self._fed >= self._limit and seconds < ROUND / 2:
            self._limit = min(MOST, self._limit * 2)

    def sent(self) -> bool:
        """Nothing is pending: moves the cursor, owes the output of attempts that ended. Says whether it moved."""
        assert self.mirror is not None
        if self.memory.cursor == self._tail.offset:
            return False
        if self.mirror.artifacts:
            self.memory.owed += [key for key in self.mirror.ended if key not in self.memory.owed]
        self.mirror.ended.clear()
        self.memory.cursor = self._tail.offset
        self._sent_lines = self._tail.taken
        self._fed = 0
        return True

    @property
    def more(self) -> bool:
        """Whether the journal has lines that were not read."""
        return not self._tail.caught_up()

    @property
    def caught_up(self) -> bool:
        """Whether everything that the journal says has been sent."""
        pending = self.mirror.pending if self.mirror else None
        return not pending and not self.more and self.memory.cursor == self._tail.offset

    def behind(self) -> dict[str, int]:
        """How many events of the journal, and how many runs of those, are not sent."""
        return {
            "events": self._tail.unread() + self._tail.taken - self._sent_lines,
            "runs": len(self.mirror.pending) if self.mirror else 0,
        }


def uid(opened: e.SweepOpened) -> str:
    """A sweep's id may be used again (in another folder, by another user of the server), the moment not."""
    return hashlib.sha256(f"{opened.id} {opened.at!r}".encode()).hexdigest()[:16]
