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
import re
import threading
import time
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sweep import snapshot
from sweep.core import events as e
from sweep.core.codec import from_json, to_json
from sweep.core.machine import open_sweep, step
from sweep.core.model import Sweep
from sweep.core.policy import to_judge
from sweep.errors import IllegalEvent, JournalError, StorageError
from sweep.lines import no_collector, parsed
from sweep.snapshot import Mark

_UNSYNCED = (e.Reported, e.Noted)
GATHER = 0.02  # seconds between a record that is to be synced behind and its sync
RARELY = 20_000  # records between two snapshots, at least: they are read in a quarter of a second
_REPORT = re.compile(rb'"event":"Reported",.*?"trial":(\d+),')
_READ = 1 << 20  # bytes that are parsed at once; the first time fewer, for who wants to see the first record only


class Record(NamedTuple):
    event: e.Event
    mark: Mark


class Writer:
    """Appends to a journal; the only writer, held by the controller's lock.

    last: the newest whole record, as a Replay has it; without one a new journal is begun. mark: what was appended
    last.
    Raises JournalError for a new one where one is, StorageError where it cannot be written.
    """

    def __init__(self, path: Path, last: Mark | None = None) -> None:
        self.path = path
        self.mark = last or Mark(-1, 0, b"")
        end = self.mark.end
        self._pending = bytearray()
        self._sync = False
        self._failed: OSError | None = None
        self._syncer: threading.Thread | None = None
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._asked = False  # for a sync that has not begun
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size > end:
                if end == 0:
                    raise JournalError(f"{path} is there already", hint="`sweep resume` goes on with it")
                self._set_tail_aside(end)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def append(self, event: e.Event) -> None:
        seq = self.mark.seq + 1
        record = {"v": e.SCHEMA, "seq": seq, **to_json(event)}
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        line = text.encode(errors="surrogatepass") + b"\n"  # odd bytes of a trial's output or of a path
        self._pending += line
        self.mark = Mark(seq, self.mark.end + len(line), line)
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
        if not self._asked:  # waking the thread costs more than a record
            self._asked = True
            self._wanted.put(True)

    def _serve(self) -> None:
        while self._wanted.get():
            time.sleep(GATHER)  # one sync serves all that is written meanwhile
            self._asked = False
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


def records(path: Path, behind: Mark | None = None) -> Iterator[Record]:
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


def _parse(file: BinaryIO, path: Path, behind: Mark | None) -> Iterator[Record]:
    position = expected = 0
    previous = b""
    if behind is not None:
        position, expected, previous = behind.end, behind.seq + 1, behind.line
        file.seek(position)
    size = 1 << 13
    while lines := file.readlines(size):
        size = _READ
        found = parsed(b"".join(lines)) or map(_loads, lines)
        for index, (line, record) in enumerate(zip(lines, found, strict=True)):
            if not _is_record(record) or not line.endswith(b"\n"):
                if any(_is_record(_loads(rest)) for rest in chain(lines[index + 1 :], file)):
                    raise _damaged(path, position, f"{_short(line)!r} is not a record, but records follow")
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
                yield Record(event, Mark(expected, position + len(line), line))
                expected += 1
            position += len(line)
            previous = line


_OTHER = "use the version of sweep that wrote it"


def _damaged(path: Path, position: int, what: str) -> JournalError:
    return JournalError(
        f"{path} is damaged at byte {position}: {what}",
        hint=f"restore it from a backup, or give up what follows: truncate -s {position} {path}",
    )


def _loads(line: bytes) -> Any:
    try:
        return json.loads(str(line, "utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and type(found.get("seq")) is int and type(found.get("v")) is int


def _short(line: bytes) -> bytes:
    return line if len(line) <= 60 else line[:60] + b"..."


class Keeper:
    """A journal for the one who steps the state with it: now and then he keeps a snapshot beside.

    Each is written when a quarter as many records have come since as there were before, so that all of them
    together cost a fixed part of what the records do.
    """

    def __init__(self, writer: Writer, sweep: Sweep, kept: int = 0) -> None:
        """kept: the seq of the newest snapshot."""
        self._writer = writer
        self._sweep = sweep
        self._due = self._next(kept)

    def append(self, event: e.Event) -> None:
        """To be called when the state has taken its step."""
        self._writer.append(event)

    def commit(self, *, behind: bool = False) -> None:
        self._writer.commit(behind=behind)
        if self._writer.mark.seq >= self._due:
            snapshot.save(self._writer.path, self._sweep, self._writer.mark)
            self._due = self._next(self._writer.mark.seq)

    def _next(self, kept: int) -> int:
        return kept + max(RARELY, kept // 4)


class Replay:
    """The state that a journal tells, as far as it has been read.

    last: the newest record. kept: the seq of the snapshot from which it was read on, 0 without one.
    Raises JournalError where the journal cannot be read or does not begin with SweepOpened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with no_collector():
            self.sweep, self.last = snapshot.load(path) or self._begun()
            self.kept = self.last.seq
            self.read_on()

    def _begun(self) -> tuple[Sweep, Mark]:
        first = next(records(self._path), None)
        if first is None:
            raise JournalError(f"{self._path} is empty", hint="the sweep never began: start it anew")
        if not isinstance(first.event, e.SweepOpened):
            raise JournalError(f"{self._path} does not begin with the opening of a sweep")
        try:
            return open_sweep(first.event), first.mark
        except (TypeError, ValueError, AttributeError) as error:
            raise self._unfit(first.mark, error) from None

    def read_on(self) -> None:
        """Takes in what has been written since. Raises JournalError."""
        for event, mark in records(self._path, self.last):
            try:
                step(self.sweep, event)
            except (IllegalEvent, TypeError, ValueError, AttributeError) as error:
                raise self._unfit(mark, error) from None
            self.last = mark

    def judged(self, trials: Collection[int]) -> dict[int, dict[int, float]]:
        """What the pruner was asked about, of these trials: trial -> step -> value. They are read anew.

        Raises JournalError.
        """
        found: dict[int, dict[int, float]] = {number: {} for number in trials}
        try:
            with self._path.open("rb") as file:
                for line in file.read(self.last.end).splitlines():
                    number = _REPORT.search(line)
                    if number and int(number[1]) in found and isinstance(record := _loads(line), dict):
                        event = from_json(record)
                        assert isinstance(event, e.Reported)
                        known = found[event.trial]
                        value = to_judge(self.sweep.rules, max(known, default=None), event)
                        if value is not None:
                            known[event.step] = value
        except (OSError, ValueError) as error:
            raise JournalError(f"cannot read {self._path}: {error}") from None
        return found

    def _unfit(self, mark: Mark, error: Exception) -> JournalError:
        return JournalError(
            f"{self._path}, record {mark.seq} does not fit: {error}",
            hint="if nobody changed the file this is a bug of sweep: please report it with the file",
        )


def replay(path: Path) -> Sweep:
    """The state that the journal tells. Raises JournalError."""
    return Replay(path).sweep
