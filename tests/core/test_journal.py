"""The journal under a knife: what was whole is read, a torn tail is set aside, damage is said."""

from __future__ import annotations

import json
import math
import os
import resource
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from world import World, controller, opened, picture

from sweep.core import events as e
from sweep.core.model import Rules
from sweep.errors import JournalError, StorageError
from sweep.journal import Writer, records, replay


def played(trials: int) -> World:
    """A whole sweep with retries, prunes, odd numbers and words that are not ASCII."""
    world = World(opened(trials=trials, retries={"CRASHED": 1}))
    world.feed(controller(0.0))
    while not world.sweep.state.ended:
        while world.asks:
            world.sample()
        while world.sweep.demand() and world.free():
            world.feed(e.SlotOffered(world.time(), world.free()[0], "cpu"))
        for key in list(world.launches):
            world.start(key)
        for number, attempt in list(world.running):
            value = math.nan if number % 3 == 0 else number / 7
            world.feed(e.Reported(world.time(), number, attempt, attempt, {"acc": value, "lr": math.inf}))
            if number % 5 == 2:
                world.feed(e.PruneAdvised(world.time(), number, attempt, attempt))
            code = 1 if number % 4 == 1 and attempt == 1 else 0
            cause = "训练失败\n  in train.py" if code else ""
            world.feed(e.AttemptEnded(world.time(), number, attempt, code=code, cause=cause))
    return world


WORLD = played(30)


def write(path: Path, events: list[e.Event]) -> Path:
    writer = Writer(path)
    for event in events:
        writer.append(event)
    writer.commit()
    writer.close()
    return path


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a real journal of 30 trials."""
    path = write(tmp_path_factory.mktemp("journal") / "journal.jsonl", WORLD.log)
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def spoken(path: Path) -> list[str]:
    """What the records say, NaN like NaN."""
    return [repr(record.event) for record in records(path)]


SAID = [repr(event) for event in WORLD.log]


def test_a_replay_is_the_live_state(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))
    sweep, seq, end = replay(path)
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
    sweep, seq, end = replay(path)
    assert (sweep.id, seq, end) == ("digits-1", count, sum(map(len, lines[:count])))
    writer = Writer(path, seq, end)
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
    sweep, seq, end = replay(path)
    assert (seq, end, picture(sweep)) == (len(lines), len(whole), picture(WORLD.sweep))
    writer = Writer(path, seq, end)
    writer.append(e.Noted(1.0, "on"))
    writer.commit()
    writer.close()
    assert spoken(path) == [*SAID, repr(e.Noted(1.0, "on"))]
    assert path.with_name(f"journal.jsonl.torn-{end}").read_bytes() == garbage


def test_a_line_that_was_written_twice_counts_once(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join([*lines, lines[-1]]))
    assert spoken(path) == SAID
    _, seq, end = replay(path)
    writer = Writer(path, seq, end)
    writer.append(e.Noted(1.0, "on"))
    writer.commit()
    assert spoken(path) == [*SAID, repr(e.Noted(1.0, "on"))]
    path.write_bytes(b"".join([*lines[:9], lines[8], *lines[9:]]))
    assert spoken(path) == SAID and list(records(path))[-1].end == path.stat().st_size


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
    _, seq, end = replay(path)
    assert seq >= 9 and end == place


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
    assert picture(replay(path)[0]) == picture(WORLD.sweep)


def test_what_an_older_version_left_out(path: Path) -> None:
    """Fields with a default may be missing, those without may not."""
    rules = {"metrics": ["acc"], "directions": ["maximize"]}
    path.write_text(
        json.dumps(
            {"v": 1, "seq": 0, "at": 1.0, "event": "SweepOpened", "id": "a-1", "rules": rules, "config": {}}
        )
        + '\n{"v":1,"seq":1,"at":2.0,"event":"StopAsked"}\n'
    )
    assert replay(path)[0].rules == Rules(("acc",), ("maximize",))
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


# ---- writing -------------------------------------------------------------------------------------------------


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


def test_a_sync_that_failed_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def refuse(handle: int) -> None:
        tries.append(handle)
        if len(tries) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    writer = Writer(path)
    writer.append(opened())
    with pytest.raises(StorageError, match="Input/output error"):
        writer.commit()
    writer.commit()
    assert len(tries) == 2 and len(list(records(path))) == 1


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
