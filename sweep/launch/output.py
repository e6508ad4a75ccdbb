"""Reads reports in what a script prints: for scripts that nobody may change.

Lines end with a newline or a carriage return (progress bars). A pattern's named groups are metrics, `step` is the
step. Where one of several patterns has a step and another has none, the latter belongs to the step seen last;
where none has, each pattern counts its own matches from 0.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator

from sweep.launch.bounded import read_on

AT_ONCE = 16 << 20  # bytes that are read before the supervisor does something else
LONGEST_LINE = 1 << 16


class OutputReader:
    """Follows `output.log`; `read()` returns the reports that are new since the last call."""

    def __init__(self, path: str, mode: str, patterns: list[str]) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._json = mode == "json"
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._stepped = any("step" in pattern.groupindex for pattern in self._patterns)
        self._step: int | None = None
        self._counts = [0] * max(1, len(patterns))

    def read(self, last: bool = False) -> list[tuple[int, dict[str, float]]]:
        """(step, metrics) of every new whole line; `last` takes an unfinished line as well."""
        found: list[tuple[int, dict[str, float]]] = []
        for line in self._lines(last):
            found += self._in_json(line) if self._json else self._in_text(line)
        return found

    def _lines(self, last: bool) -> Iterator[str]:
        for data in self._chunks(last):
            *whole, self._rest = re.split(rb"[\r\n]+", self._rest + data)
            self._rest = self._rest[-LONGEST_LINE:]
            yield from (line.decode(errors="replace") for line in whole if line)
        if last and self._rest:
            yield self._rest.decode(errors="replace")
            self._rest = b""

    def _chunks(self, last: bool) -> Iterator[bytes]:
        """What is new. Of a script that writes faster than this reads, what was left out meanwhile is not seen."""
        try:
            size = os.stat(self._path).st_size
            self._offset = min(self._offset, size)  # it is less where it was cut back (bounded.py)
            if size == self._offset:
                return
            until = math.inf if last else self._offset + AT_ONCE
            with open(self._path, "rb", buffering=0) as file:
                while self._offset < until:
                    left_out, data = read_on(file.fileno(), self._offset)
                    if not data:
                        return
                    self._offset += left_out + len(data)
                    if left_out:
                        self._rest = b""
                    yield data
        except OSError:
            pass  # not there yet, or not any more: there is nothing to read

    def _in_text(self, line: str) -> list[tuple[int, dict[str, float]]]:
        found = []
        for index, pattern in enumerate(self._patterns):
            match = pattern.search(line)
            if match is None:
                continue
            groups = match.groupdict()
            given = groups.pop("step", None)
            metrics = {name: value for name, text in groups.items() if (value := _number(text)) is not None}
            if given is not None and (number := _number(given)) is not None and number == number // 1:
                self._step = int(number)
            step = self._step if self._stepped else self._counts[index]
            if metrics and step is not None:
                self._counts[index] += 1
                found.append((step, metrics))
        return found

    def _in_json(self, line: str) -> list[tuple[int, dict[str, float]]]:
        start = line.find("{")
        if start < 0:
            return []
        try:
            record = json.loads(line[start:])
        except (ValueError, RecursionError):
            return []
        if not isinstance(record, dict):
            return []
        given = record.pop("step", None)
        metrics = {
            name: float(str(value))  # a whole number may be too large for a float: infinite, as in text
            for name, value in record.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        if not metrics:
            return []
        step = int(given) if isinstance(given, (int, float)) and given == given // 1 else self._counts[0]
        self._counts[0] = step + 1
        return [(step, metrics)]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
