"""The default storage: Optuna's journal file with one writer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend


class OwnJournal(JournalFileBackend):  # type: ignore[misc]
    """Optuna's journal file with one writer: no lock, no sync to disk, and no reading back of what was written.

    The file's format is Optuna's, so that others read it while we write. What a machine's crash loses of it is put
    back from the sweep's own journal, which is synced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._loaded = False
        self._unread: list[dict[str, Any]] = []
        self._held: list[bytes] | None = None
        _cut_torn_line(path)
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in logs]
        self._unread += [json.loads(line) for line in lines]  # as a reader would see them: keys are strings
        if self._held is not None:
            self._held += lines
        else:
            _write(self._out, b"".join(lines))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if not self._loaded:
            self._loaded = True
            self._unread = []
            yield from super().read_logs(log_number_from)
            return
        unread, self._unread = self._unread, []
        yield from unread

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is appended inside is written in one piece: a trial is there with all its parameters, or not."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            _write(self._out, b"".join(held))


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _cut_torn_line(path: Path) -> None:
    """A line that a crash left unfinished would make Optuna refuse the whole file."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
