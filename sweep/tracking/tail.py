"""Follows journal.jsonl: whole lines only, in order, as events.

The last line may be torn: it is waited for, because its end may still come, or the next controller cuts it off and
writes another in its place. Nothing of it is kept here: every read starts behind the last line that was taken.
A line that cannot be read is treated alike, for only the controller may say that the file is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.core import events as e
from sweep.core.codec import from_json
from sweep.lines import parsed
from sweep.snapshot import Mark

_READ = 1 << 20


class Shrunk(Exception):
    """The file is shorter than what was read of it: it is another file, or lost its end with the machine."""


class Tail:
    def __init__(self, path: Path, behind: Mark | None = None) -> None:
        """behind: the record to begin after."""
        self.path = path
        self.offset = behind.end if behind else 0  # behind the last line taken
        self._seq = behind.seq if behind else -1
        self.taken = 0  # lines
        self._stuck = (-1, 0)  # size and time of the file whose line at `offset` could not be read
        self._counted = 0  # bytes whose lines are counted in _lines
        self._lines = 0

    def read(self) -> Iterator[tuple[e.Event, int]]:
        """The next events, each with the offset behind its line; about a mebibyte of them.

        Raises Shrunk. Ends without a word where there is nothing more to read now.
        """
        now = size, _ = self._stat()
        if size < self.offset:
            raise Shrunk
        if size == self.offset or now == self._stuck:
            return
        data = self._load(size)
        records = iter(self._at_once(data))
        position = 0
        while (stop := data.find(b"\n", position)) >= 0:
            event, fresh = self._parse(next(records, None) or data[position:stop])
            if event is None and fresh:
                self._stuck = now
                return
            self.taken += 1
            self.offset += stop + 1 - position
            position = stop + 1
            if event is not None:
                yield event, self.offset
        if position == 0:
            self._stuck = now

    def unread(self) -> int:
        """How many whole lines lie behind the offset."""
        size, _ = self._stat()
        if self._counted < self.offset:
            self._counted, self._lines = self.offset, self.taken
        if size > self._counted:
            with self.path.open("rb") as file:
                file.seek(self._counted)
                while data := file.read(_READ):
                    self._lines += data.count(b"\n")
                    self._counted += len(data)
        return max(0, self._lines - self.taken)

    def caught_up(self) -> bool:
        """Whether everything that can be read has been read."""
        now = size, _ = self._stat()
        return size == self.offset or now == self._stuck

    def _load(self, size: int) -> bytes:
        """From the offset on: a mebibyte, or as much as one line needs."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(_READ)
            while b"\n" not in data and self.offset + len(data) < size:
                data += file.read(_READ)
        return data

    def _at_once(self, data: bytes) -> list[dict[str, Any]]:
        """The records of the whole lines by one call of the parser, in half the time.

        Nothing where that could read them in another way than one by one: each has to be the next of its turn.
        """
        records = parsed(data[: data.rfind(b"\n") + 1]) or []
        try:
            turns = [record["seq"] for record in records]
        except (KeyError, TypeError):
            return []
        return records if turns == list(range(self._seq + 1, self._seq + 1 + len(records))) else []

    def _parse(self, line: bytes | dict[str, Any]) -> tuple[e.Event | None, bool]:
        """The event, and whether the line says anything new (a line written twice does not)."""
        try:
            record = json.loads(line) if isinstance(line, bytes) else line
            seq = record["seq"]
            if seq <= self._seq:
                return None, False
            if record["v"] != e.SCHEMA:
                return None, True
            event = from_json(record)
        except (ValueError, KeyError, TypeError):
            return None, True
        self._seq = seq
        return event, True

    def _stat(self) -> tuple[int, int]:
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return facts.st_size, facts.st_mtime_ns
