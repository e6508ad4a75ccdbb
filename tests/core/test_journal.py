"""The journal under a knife: what was whole is read, a torn tail is set aside, damage is said."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from journals import WORLD, played, write
from world import opened, picture

from sweep.core import events as e
from sweep.core.model import Rules
from sweep.errors import JournalError
from sweep.journal import Replay, Writer, records, replay


def spoken(path: Path) -> list[str]:
    """What the records say, NaN like NaN."""
    return [repr(record.event) for record in records(path)]


SAID = [repr(event) for event in WORLD.log]


def test_a_replay_is_the_live_state(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))
    told = Replay(path)
    sweep, seq, end = told.sweep, told.last.seq + 1, told.last.end
    assert picture(sweep) == picture(WORLD.sweep)
    assert (seq, end) == (len(lines), path.stat().st_size) and len(sweep.trials) == 30
    for line in lines:
        strict = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert list(strict)[:2] == ["v", "seq"]


def go_on_after(path: Path, lines: list[bytes], events: list[e.Event], size: int) -> None:
    """Cut at this byte, then taken over: the torn tail is set aside, and what is written next is in its place."""
    whole = b"".join(lines)
    path.write_bytes(whole[:size])
    count = whole.count(b"\n", 0, size)
    told = Replay(path)
    sweep, last, seq, end = told.sweep, told.last, told.last.seq + 1, told.last.end
    assert (sweep.id, seq, end) == ("digits-1", count, sum(map(len, lines[:count])))
    writer = Writer(path, last)
    for event in events[seq:]:
        writer.append(event)
    writer.commit()
    writer.close()
    assert path.read_bytes() == whole
    aside = path.with_name(f"journal.jsonl.torn-{end}")
    if size > end:
        assert aside.read_bytes() == whole[end:size]
        aside.unlink()
    assert list(path.parent.iterdir()) == [path]


def test_cut_at_any_byte_of_a_small_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)
    small = played(2)
    lines = write(path, small.log).read_bytes().splitlines(keepends=True)
    for size in range(len(lines[0]), sum(map(len, lines))):
        go_on_after(path, lines, small.log, size)


def test_cut_in_any_record_of_a_large_one(path: Path, lines: list[bytes]) -> None:
    position = len(lines[0])
    for number, line in enumerate(lines[1:]):
        go_on_after(path, lines, WORLD.log, position + number % len(line))
        position += len(line)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 4096,
        b"\xff\xfe\x00garbage",
        b"half a line",
        b"\n\n\n",
        b"not json\nnor this\n",
        b"[" * 100_000 + b"\n",
        b'{"v": 1}\n[1, 2]\n"text"\n17\n',
        b'{"v":true,"seq":true,"event":"Noted","at":1.0,"text":"x"}\n',
        b'{"v":1,"seq":1e400}\n\xff\n',
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_garbage_at_the_end_is_set_aside(path: Path, lines: list[bytes], garbage: bytes) -> None:
    whole = b"".join(lines)
    path.write_bytes(whole + garbage)
    told = Replay(path)
    sweep, last, seq, end = told.sweep, told.last, told.last.seq + 1, told.last.end
    assert (seq, end, picture(sweep)) == (len(lines), len(whole), picture(WORLD.sweep))
    writer = Writer(path, last)
    writer.append(e.Noted(1.0, "on"))
    writer.commit()
    writer.close()
    assert spoken(path) == [*SAID, repr(e.Noted(1.0, "on"))]
    assert path.with_name(f"journal.jsonl.torn-{end}").read_bytes() == garbage


def test_a_line_that_was_written_twice_counts_once(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join([*lines, lines[-1]]))
    assert spoken(path) == SAID
    last = Replay(path).last
    writer = Writer(path, last)
    writer.append(e.Noted(1.0, "on"))
    writer.commit()
    assert spoken(path) == [*SAID, repr(e.Noted(1.0, "on"))]
    path.write_bytes(b"".join([*lines[:9], lines[8], *lines[9:]]))
    assert spoken(path) == SAID and list(records(path))[-1].mark.end == path.stat().st_size


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lines: [*lines[:9], b"\x00" * 40 + b"\n", *lines[10:]], "is not a record, but records follow"),
        (lambda lines: [*lines[:9], lines[9][:-20], *lines[10:]], "is not a record, but records follow"),
        (lambda lines: [*lines[:9], b"\n", lines[-1].strip()], "is not a record, but records follow"),
        (lambda lines: [*lines[:9], *lines[10:]], "record 10 stands where 9 should be"),
        (
            lambda lines: [*lines[:9], lines[8].replace(b'"at":', b'"at":1'), *lines[9:]],
            "record 8 stands where 9 should be",
        ),
        (lambda lines: [*lines, lines[0]], "record 0 stands where"),
    ],
)
def test_damage_in_the_middle_is_refused_and_says_what_to_do(path: Path, lines, damage, says: str) -> None:
    path.write_bytes(b"".join(damage(lines)))
    with pytest.raises(JournalError, match=says) as caught:
        replay(path)
    place = 0 if caught.value.hint is None else int(caught.value.hint.split("truncate -s ")[1].split()[0])
    assert f"byte {place}" in caught.value.message
    os.truncate(path, place)  # what the hint says to type
    last = Replay(path).last
    assert last.seq >= 8 and last.end == place


def test_what_another_version_wrote(path: Path, lines: list[bytes]) -> None:
    newer = lines[9].replace(b'{"v":1,', b'{"v":2,')
    path.write_bytes(b"".join([*lines[:9], newer]))
    with pytest.raises(JournalError, match=r"schema 2; this one reads 1\)\n.*the version of sweep that wrote it"):
        replay(path)
    path.write_bytes(b"".join([*lines[:9], b'{"v":1,"seq":9,"at":1.0,"event":"Teleported"}\n']))
    with pytest.raises(JournalError, match=r"record 9: unknown event 'Teleported'\n.*the version of sweep"):
        replay(path)
    wider = [line.replace(b'{"v":1,', b'{"v":1,"mood":{"a":[1]},') for line in lines]
    wider[0] = wider[0].replace(b'"rules":{', b'"rules":{"luck":7,')
    path.write_bytes(b"".join(wider))
    assert picture(replay(path)) == picture(WORLD.sweep)


def test_what_an_older_version_left_out(path: Path) -> None:
    """Fields with a default may be missing, those without may not."""
    rules = {"metrics": ["acc"], "directions": ["maximize"]}
    path.write_text(
        json.dumps(
            {"v": 1, "seq": 0, "at": 1.0, "event": "SweepOpened", "id": "a-1", "rules": rules, "config": {}}
        )
        + '\n{"v":1,"seq":1,"at":2.0,"event":"StopAsked"}\n'
    )
    assert replay(path).rules == Rules(("acc",), ("maximize",))
    path.write_text(path.read_text() + '{"v":1,"seq":2,"at":2.0,"event":"Noted"}\n')
    with pytest.raises(JournalError, match=r"record 2: Noted: .*text"):
        replay(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b'{"v":1,"seq":0,"at":1.0,"ev', "is empty"),
        (b'{"v":1,"seq":0,"at":1.0,"event":"Noted","text":"x"}\n', "does not begin with the opening"),
    ],
)
def test_what_is_no_journal(path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=says):
        replay(path)
    if content is None:
        path.mkdir()
        with pytest.raises(JournalError, match="cannot read"):
            replay(path)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            {"event": "AttemptStarted", "trial": 3, "attempt": 1, "pid": 1, "start_time": 1, "boot_id": ""},
            "no trial 3",
        ),
        ({"event": "StopAsked", "trial": [1]}, "unhashable"),
        ({"event": ["Noted"]}, "unknown event"),
        ({"event": "Reported", "trial": 0, "attempt": 1, "step": 1, "metrics": {"acc": "high"}}, "not a number"),
        ({"event": "Reported", "trial": 0, "attempt": 1, "step": 1, "metrics": {"acc": 10**400}}, "too large"),
        ({"event": "Reported", "trial": 0, "attempt": 1, "step": 1, "metrics": [1]}, "Reported"),
    ],
)
def test_a_record_that_makes_no_sense_is_named(path: Path, lines: list[bytes], record: dict, says: str) -> None:
    record = {"v": 1, "seq": 1, "at": 1.0, **record}
    path.write_bytes(lines[0] + json.dumps(record).encode() + b"\n")
    with pytest.raises(JournalError, match=f"record 1.*{says}"):
        replay(path)


NUMBERS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308])


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    metrics=st.dictionaries(st.text(), NUMBERS), text=st.text(st.characters(categories=["L", "Cc", "Cs", "So"]))
)
@example(metrics={}, text=b"\xff caf\xe9".decode(errors="surrogateescape"))
def test_numbers_and_words_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], text: str
) -> None:
    """Lone surrogates too: they are how Python shows bytes of an output or a path that are no text."""
    path = tmp_path_factory.mktemp("numbers") / "journal.jsonl"
    report, note = e.Reported(1.0, 0, 1, 3, metrics), e.Noted(2.0, text)
    write(path, [opened(), report, note])
    _, again, words = (record.event for record in records(path))
    assert repr(again) == repr(report) and words == note


# ---- anything at all -----------------------------------------------------------------------------------------

CUT = st.integers(0, 10**6)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(begin=CUT, length=st.integers(0, 300), put=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_whatever_was_done_to_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], begin: int, length: int, put: bytes
) -> None:
    """What stands before the wound is read as it was; no error but ours comes out."""
    whole = b"".join(lines[:60])
    begin %= len(whole) + 1
    path = tmp_path_factory.mktemp("any") / "journal.jsonl"
    path.write_bytes(whole[:begin] + put + whole[begin + length :])
    untouched = whole.count(b"\n", 0, begin)
    heard: list[str] = []
    try:
        heard.extend(repr(record.event) for record in records(path))
    except JournalError as error:
        assert str(path) in error.message
    assert heard[:untouched] == SAID[:untouched] and len(heard) >= untouched
    try:
        replay(path)
    except JournalError as error:
        assert str(path) in error.message


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(junk=st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), max_size=6))
def test_what_never_was_a_journal(tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("junk") / "journal.jsonl"
    path.write_bytes(b"\n".join(junk))
    with pytest.raises(JournalError):
        replay(path)
