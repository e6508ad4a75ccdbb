"""Snapshots beside a journal: what is read from one is what the whole journal says, or it is not read at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from journals import WORLD, write
from world import picture

from sweep import journal, snapshot
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.journal import Keeper, Replay, Writer


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "RARELY", 9)


def lived(path: Path, events: list[e.Event]) -> None:
    """As a controller writes them."""
    opening = events[0]
    assert isinstance(opening, e.SweepOpened)
    writer, sweep = Writer(path), open_sweep(opening)
    writer.append(opening)
    keeper = Keeper(writer, sweep)
    for event in events[1:]:
        step(sweep, event)
        keeper.append(event)
        keeper.commit(behind=True)
        if writer.mark.seq % 9 < 2:
            told = Replay(path)
            assert (picture(told.sweep), told.last) == (picture(sweep), writer.mark)
    writer.close()


def kept(path: Path) -> int:
    return Replay(path).kept


def whole(path: Path) -> str:
    """What the journal says to one who finds no snapshot."""
    alone = path.with_name("alone.jsonl")
    alone.write_bytes(path.read_bytes())
    return picture(Replay(alone).sweep)


def test_a_long_journal_is_read_from_its_snapshot(path: Path) -> None:
    lived(path, WORLD.log)
    marks = [mark.seq for _, mark in journal.records(path)]
    assert marks[-1] - kept(path) < max(9, marks[-1] // 4)
    assert picture(Replay(path).sweep) == picture(WORLD.sweep)


def test_a_short_one_has_none(path: Path) -> None:
    lived(path, WORLD.log[:8])
    assert not snapshot.beside(path).exists() and kept(path) == 0


def test_the_next_controller_goes_on_counting(path: Path) -> None:
    lived(path, WORLD.log[:12])
    told = Replay(path)
    assert told.kept > 0
    before = snapshot.beside(path).read_bytes()
    writer = Writer(path, told.last)
    keeper = Keeper(writer, told.sweep, told.kept)
    for event in WORLD.log[12:]:
        step(told.sweep, event)
        keeper.append(event)
    keeper.commit()
    writer.close()
    assert snapshot.beside(path).read_bytes() != before and kept(path) == len(WORLD.log) - 1


def test_a_journal_that_was_cut_before_it_is_read_from_its_start(path: Path) -> None:
    lived(path, WORLD.log)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: kept(path) - 2]))
    assert kept(path) == 0 and picture(Replay(path).sweep) == whole(path)


def test_a_journal_that_was_written_anew_is_read_from_its_start(path: Path) -> None:
    lived(path, WORLD.log)
    path.unlink()
    write(path, [WORLD.log[0], *(e.Noted(1.0, f"remark {n}") for n in range(1000))])
    assert kept(path) == 0 and picture(Replay(path).sweep) == whole(path)


@pytest.mark.parametrize("damage", ["torn", "garbage", "another version", "other fields", "another thing"])
def test_a_snapshot_that_is_not_whole_or_not_ours_does_not_count(path: Path, damage: str) -> None:
    lived(path, WORLD.log)
    beside = snapshot.beside(path)
    text = beside.read_text()
    (version, shape), place, state = json.loads(text)
    beside.write_text(
        {
            "torn": text[: len(text) // 2],
            "garbage": "\x00" * 100,
            "another version": json.dumps([["0.0.0", shape], place, state]),
            "other fields": json.dumps([[version, shape[1:]], place, state]),
            "another thing": json.dumps([[version, shape], place, {"trials": 3}]),
        }[damage]
    )
    assert kept(path) == 0 and picture(Replay(path).sweep) == picture(WORLD.sweep)


def test_one_that_cannot_be_written_is_done_without(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot.beside(path).mkdir()
    lived(path, WORLD.log)
    assert "cannot write" in caplog.text and [one.name for one in path.parent.glob(".*")] == []


def test_what_the_pruner_was_asked_is_read_again_for_a_few(path: Path) -> None:
    sweep = open_sweep(WORLD.log[0])  # type: ignore[arg-type]
    asked: dict[int, dict[int, float]] = {}
    for event in WORLD.log[1:]:
        for order in step(sweep, event):
            if isinstance(order, do.Judge):
                asked.setdefault(order.trial, {})[order.step] = order.value
    write(path, WORLD.log)
    told = Replay(path)
    assert repr(told.judged(sweep.trials)) == repr({number: asked.get(number, {}) for number in sweep.trials})
    assert repr(told.judged([7])) == repr({7: asked[7]}) and len(asked[1]) == 2  # a retry, at its second step
