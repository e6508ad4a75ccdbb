"""The journal: every event of a sweep, in order, one line each. What it says is what happened.

Rules
1.  A record is whole or it is not there: one line, ended by a newline, with the next `seq`.
2.  `append` keeps lines in memory, `commit` writes them; after a write that stopped half-way (full disk) the next
    commit goes on with the byte where it stopped, so no record is torn by an error that passes.
3.  Effects of an event are carried out only after its commit: the record is with the kernel then, and no kill -9
    undoes it. What a crash of the whole machine should not lose either is synced to the disk; reports are not, for
    they lie in `reports.jsonl` already. The loop does not wait for the sync, which may take 20 ms: trials do not
    survive such a crash, so an effect whose record was lost is one of an attempt that is LOST anyway.
4.  Reading stops at the first bad line. If nothing whole follows, it is a tail that was torn: it is set aside and
    cut off when the journal is opened for writing. If whole records follow, or if one stands out of its turn (two
    writers), the file was damaged: refused. A line that was written twice counts once.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sweep.core import events as e
from sweep.core.codec import from_json, to_json
from sweep.core.machine import open_sweep, step
from sweep.core.model import Sweep
from sweep.errors import IllegalEvent, JournalError, StorageError

_UNSYNCED = (e.Reported, e.Noted)


@dataclass(frozen=True)
class Record:
    seq: int
    event: e.Event
    end: int  # byte offset behind the line
    line: bytes


class Writer:
    """Appends to a journal; the only writer, held by the controller's lock.

    last: the newest whole record, as a Replay has it; without one a new journal is begun.
    Raises JournalError for a new one where one is, StorageError where it cannot be written.
    """

    def __init__(self, path: Path, last: Record | None = None) -> None:
        self.path = path
        self.seq = last.seq + 1 if last else 0
        end = last.end if last else 0
        self._pending = bytearray()
        self._sync = False
        self._failed: OSError | None = None
        self._syncer: threading.Thread | None = None
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size > end:
                if end == 0:
                    raise JournalError(f"{path} is there already", hint="`sweep resume` goes on with it")
                self._set_tail_aside(end)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def append(self, event: e.Event) -> None:
        record = {"v": e.SCHEMA, "seq": self.seq, **to_json(event)}
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._pending += line.encode(errors="surrogatepass") + b"\n"  # odd bytes of a trial's output or of a path
        self.seq += 1
        self._sync = self._sync or not isinstance(event, _UNSYNCED)

    def commit(self, *, behind: bool = False) -> None:
        """Writes what was appended; behind: syncs it in a thread, whose failure the next commit tells.

        Raises StorageError; what is left is kept for the next commit.
        """
        try:
            if self._failed is not None:
                failed, self._failed, self._sync = self._failed, None, True
                raise failed
            while self._pending:
                done = os.write(self._file, self._pending)
                del self._pending[:done]
            if self._sync and behind:
                self._sync_behind()
            elif self._sync:
                os.fdatasync(self._file)
            self._sync = False
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from None

    def _sync_behind(self) -> None:
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._serve, name="journal", daemon=True)
            self._syncer.start()
        self._wanted.put(True)

    def _serve(self) -> None:
        while self._wanted.get():
            while not self._wanted.empty():  # one sync serves all that was written before it
                if not self._wanted.get():
                    return
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._failed = error

    def close(self) -> None:
        if self._syncer is not None:
            self._wanted.put(False)
            self._syncer.join()
            with contextlib.suppress(OSError):
                os.fdatasync(self._file)
        os.close(self._file)

    def _set_tail_aside(self, end: int) -> None:
        aside = self.path.with_name(f"{self.path.name}.torn-{end}")
        with self.path.open("rb") as file:
            file.seek(end)
            aside.write_bytes(file.read())
        os.truncate(self.path, end)


def records(path: Path, behind: Record | None = None) -> Iterator[Record]:
    """The whole records, in order, or those behind one of them; ends without a word at a torn tail.

    Raises JournalError for a record of another version, one out of order, or a bad line with whole ones behind.
    """
    try:
        with path.open("rb") as file:
            yield from _parse(file, path, behind)
    except FileNotFoundError:
        raise JournalError(f"{path} is not there") from None
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from None


def _parse(file: BinaryIO, path: Path, behind: Record | None) -> Iterator[Record]:
    position = expected = 0
    previous = b""
    if behind is not None:
        position, expected, previous = behind.end, behind.seq + 1, behind.line
        file.seek(position)
    for line in file:
        record = _loads(line)
        if record is None or not line.endswith(b"\n"):
            if any(_loads(rest) is not None for rest in file):
                found = line if len(line) <= 60 else line[:60] + b"..."
                raise _damaged(path, position, f"{found!r} is not a record, but records follow")
            return
        if record["v"] != e.SCHEMA:
            raise JournalError(
                f"{path} was written by another version (schema {record['v']}; this one reads {e.SCHEMA})",
                hint=_OTHER,
            )
        if line != previous:  # a line written twice says nothing new
            if record["seq"] != expected:
                raise _damaged(path, position, f"record {record['seq']} stands where {expected} should be")
            try:
                event = from_json(record)
            except ValueError as error:
                raise JournalError(f"{path}, record {expected}: {error}", hint=_OTHER) from None
            yield Record(expected, event, position + len(line), line)
            expected += 1
        position += len(line)
        previous = line


_OTHER = "use the version of sweep that wrote it"


def _damaged(path: Path, position: int, what: str) -> JournalError:
    return JournalError(
        f"{path} is damaged at byte {position}: {what}",
        hint=f"restore it from a backup, or give up what follows: truncate -s {position} {path}",
    )


_DECODER = json.JSONDecoder()  # json.loads() looks at its options and guesses an encoding, each time


def _loads(line: bytes) -> dict[str, Any] | None:
    try:
        record = _DECODER.decode(str(line, "utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and type(record.get("seq")) is int and type(record.get("v")) is int:
        return record
    return None


class Replay:
    """The state that a journal tells, as far as it has been read.

    last: the newest record. judged: trial -> step -> the value that the pruner was asked about.
    Raises JournalError where the journal cannot be read or does not begin with SweepOpened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(records(path), None)
        if first is None:
            raise JournalError(f"{path} is empty", hint="the sweep never began: start it anew")
        if not isinstance(first.event, e.SweepOpened):
            raise JournalError(f"{path} does not begin with the opening of a sweep")
        try:
            self.sweep = open_sweep(first.event)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._unfit(first, error) from None
        self.last = first
        self.judged: dict[int, dict[int, float]] = {}
        self.read_on()

    def read_on(self) -> None:
        """Takes in what has been written since. Raises JournalError."""
        for record in records(self._path, self.last):
            try:
                for order in step(self.sweep, record.event):
                    if type(order) is e.Judge:
                        self.judged.setdefault(order.trial, {})[order.step] = order.value
            except (IllegalEvent, TypeError, ValueError, AttributeError) as error:
                raise self._unfit(record, error) from None
            self.last = record

    def _unfit(self, record: Record, error: Exception) -> JournalError:
        return JournalError(
            f"{self._path}, record {record.seq} does not fit: {error}",
            hint="if nobody changed the file this is a bug of sweep: please report it with the file",
        )


def replay(path: Path) -> Sweep:
    """The state that the journal tells. Raises JournalError."""
    return Replay(path).sweep
