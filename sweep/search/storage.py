"""The default storage: Optuna's journal file with one writer."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

log = logging.getLogger("sweep.search")


class OwnJournal(JournalFileBackend):  # type: ignore[misc]
    """Optuna's journal file with one writer: no lock, no sync to disk, and no reading back of what was written.

    The file's format is Optuna's, so that others read it while we write. What a machine's crash loses of it is put
    back from the sweep's own journal, which is synced. What cannot be written (a full disk) waits for the next
    line, from the byte where it stopped: the study in memory is right all the time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._loaded = False
        self._unread: list[dict[str, Any]] = []
        self._waiting = bytearray()
        self._hold = False
        self._lock = threading.Lock()  # `whole` ends outside of the lock of Optuna's storage
        self._trouble = ""
        _cut_torn_line(path)
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in logs]
        self._unread += [json.loads(line) for line in lines]  # as a reader would see them: keys are strings
        with self._lock:
            self._waiting += b"".join(lines)
            self._write()

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
        self._hold = True
        try:
            yield
        finally:
            with self._lock:
                self._hold = False
                self._write()

    def close(self) -> None:
        """Once more what could not be written."""
        with self._lock:
            self._write()
            os.close(self._out)

    def _write(self) -> None:
        if self._hold:
            return
        try:
            while self._waiting:
                del self._waiting[: os.write(self._out, self._waiting)]
        except OSError as error:
            if not self._trouble:
                log.error("cannot write the study: %s; a resume would mend it", error)
            self._trouble = str(error)
        else:
            self._trouble = ""


def _cut_torn_line(path: Path) -> None:
    """A line that a crash left unfinished would make Optuna refuse the whole file."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
