"""What the journal promises to whoever writes it: all or nothing, in order, on the disk when it says so."""

from __future__ import annotations

import math
import os
import resource
import time
from itertools import islice
from pathlib import Path

import pytest
from journals import WORLD
from world import opened

from sweep.core import events as e
from sweep.errors import JournalError, StorageError
from sweep.journal import Writer, records


def test_a_journal_is_not_begun_where_one_is(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"is there already\n.*sweep resume"):
        Writer(path)
    assert path.read_bytes() == b"".join(lines)


def test_nothing_is_written_before_the_commit_and_all_of_it_by_then(path: Path) -> None:
    writer = Writer(path)
    writer.append(opened())
    assert path.read_bytes() == b""
    writer.commit()
    writer.append(e.Noted(1.0, "x"))
    assert len(list(records(path))) == 1
    writer.commit()
    assert len(list(records(path))) == 2 and path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_as_json_leaves_no_trace(path: Path) -> None:
    writer = Writer(path)
    writer.append(opened())
    with pytest.raises(ValueError):
        writer.append(e.TrialSampled(1.0, 0, {"lr": math.nan}))
    writer.append(e.Noted(1.0, "on"))
    writer.commit()
    assert [record.event for record in records(path)] == [opened(), e.Noted(1.0, "on")]


def test_a_machine_that_crashes_loses_reports_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(path.stat().st_size))
    writer = Writer(path)
    for event, syncs in [
        (opened(), True),
        (e.Reported(1.0, 0, 1, 1, {}), False),
        (e.Noted(1.0, "x"), False),
        (e.AttemptEnded(1.0, 0, 1, code=0), True),
    ]:
        before = len(synced)
        writer.append(event)
        writer.commit()
        assert len(synced) == before + syncs
    assert synced[-1] == path.stat().st_size


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The syncs that were tried, of which the first fails."""
    tried: list[int] = []

    def refuse(handle: int) -> None:
        tried.append(handle)
        if len(tried) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    return tried


def test_a_sync_that_failed_is_tried_again(path: Path, tries: list[int]) -> None:
    writer = Writer(path)
    writer.append(opened())
    with pytest.raises(StorageError, match="Input/output error"):
        writer.commit()
    writer.commit()
    assert len(tries) == 2 and len(list(records(path))) == 1


def test_a_sync_behind_is_waited_for_at_the_end_and_its_failure_is_told(path: Path, tries: list[int]) -> None:
    writer = Writer(path)
    writer.append(opened())
    writer.commit(behind=True)
    assert len(list(records(path))) == 1, "written at once"
    until = time.monotonic() + 10
    while not writer._failed:
        assert time.monotonic() < until
        time.sleep(0.005)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.commit(behind=True)
    writer.commit(behind=True)
    writer.close()
    assert len(tries) >= 2, "what failed is synced again, at the end at the latest"


def test_a_full_device_is_said(path: Path) -> None:
    path.symlink_to("/dev/full")
    writer = Writer(path)
    writer.append(opened())
    for _ in range(2):
        with pytest.raises(StorageError, match="No space left on device"):
            writer.commit()


def test_a_disk_that_fills_up_tears_no_record(path: Path, lines: list[bytes]) -> None:
    """The limit on a file's size stands in for the disk: it too lets a write stop half-way."""
    whole = b"".join(lines)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = Writer(path)
    room, waiting = 0, iter(WORLD.log)
    while path.stat().st_size < len(whole):
        for event in islice(waiting, 3):
            writer.append(event)
        room += 217
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            writer.commit()
        except StorageError:
            assert path.stat().st_size == room
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(list(records(path))) == path.read_bytes().count(b"\n")
    assert path.read_bytes() == whole
