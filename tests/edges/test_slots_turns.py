"""Whose turn it is: tickets as histories, with other processes where being dead matters."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sweep.config.model import Devices
from sweep.slots import turns
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool
from sweep.slots.turns import Turns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "waiting"


def test_the_older_ticket_goes_first_and_its_slots_alone(folder: Path) -> None:
    first, second, nobody = Turns(folder), Turns(folder), Turns(folder)
    first.wait(["cpu-0"])
    second.wait(["cpu-0", "cpu-1"])
    assert set(first.of_others()) == set()
    assert set(second.of_others()) == {"cpu-0"}
    assert set(nobody.of_others()) == {"cpu-0", "cpu-1"}


def test_who_was_served_waits_behind_the_others(folder: Path) -> None:
    first, second = Turns(folder), Turns(folder)
    first.wait(["cpu-0"])
    second.wait(["cpu-0"])
    first.leave()
    assert set(second.of_others()) == set()
    first.wait(["cpu-0"])
    assert set(first.of_others()) == {"cpu-0"}


def test_a_higher_priority_goes_first_and_may_change_while_one_waits(folder: Path) -> None:
    first, second, high = Turns(folder), Turns(folder), Turns(folder)
    first.wait(["cpu-0"])
    second.wait(["cpu-0"])
    high.priority = 5
    assert set(high.of_others()) == set(), "nor does it need a ticket for that"
    high.wait(["cpu-0"])
    assert set(first.of_others()) == set(second.of_others()) == {"cpu-0"}
    second.priority = 6
    second.wait(["cpu-0"])
    assert set(second.of_others()) == set() and set(high.of_others()) == {"cpu-0"}
    second.priority = 0
    second.wait(["cpu-0"])
    assert set(high.of_others()) == set()
    high.leave()
    assert set(first.of_others()) == set() and set(second.of_others()) == {"cpu-0"}, "a ticket keeps its age"
    first.priority = -100
    first.wait(["cpu-0"])
    assert set(second.of_others()) == set() and len(list(folder.iterdir())) == 2


def _wait_for_ever(folder: Path) -> None:
    Turns(folder).wait(["cpu-0"])
    time.sleep(60)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_dead_and_the_sleeping_do_not_hold_the_line_up(
    how: signal.Signals, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "STALE", 0.3)
    mine = Turns(folder)
    other = multiprocessing.get_context("spawn").Process(target=_wait_for_ever, args=(folder,))
    other.start()
    try:
        until = time.monotonic() + 20
        while not mine.of_others():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert other.pid is not None
        os.kill(other.pid, how)
        until = time.monotonic() + 5
        while mine.of_others():
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.4)
        assert set(mine.of_others()) == set()
        assert [path.name for path in folder.iterdir()] == [] or how == signal.SIGSTOP
    finally:
        other.kill()
        other.join()


def test_a_ticket_is_kept_awake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "STALE", 0.3)
    first, second = Turns(folder), Turns(folder)
    for _ in range(5):
        first.wait(["cpu-0"])
        time.sleep(0.1)
        assert set(second.of_others()) == {"cpu-0"}


@pytest.mark.parametrize("text", ["", "{", "[1, null]", '{"a": 1}'])
def test_a_ticket_that_makes_no_sense_wants_nothing(text: str, folder: Path) -> None:
    first, second = Turns(folder), Turns(folder)
    first.wait(["cpu-0"])
    (ticket,) = folder.iterdir()
    ticket.write_text(text)
    assert set(second.of_others()) == set()


def test_a_folder_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    turn = Turns(tmp_path / "no" / "such" / "folder")
    turn.wait(["cpu-0"])
    assert set(turn.of_others()) == set()
    turn.leave()


def pool(tmp_path: Path) -> Pool:
    return open_pool(Devices(kind="cpu", count=1), 1, {}, lock_dir=tmp_path)


def test_two_pools_take_turns_at_one_slot(tmp_path: Path) -> None:
    one, other = pool(tmp_path), pool(tmp_path)
    served: list[str] = []
    until = time.monotonic() + 20
    while len(served) < 6 and time.monotonic() < until:
        for name, who in (("one", one), ("other", other)):
            lease = who.acquire(who.slots[0], {"sweep": name})
            if lease is not None:
                (holder,) = [json.loads((tmp_path / "cpu-0").read_text())]
                assert holder["sweep"] == name
                served.append(name)
                assert other.acquire(other.slots[0], {}) is None or name == "other"
                assert one.acquire(one.slots[0], {}) is None or name == "one"
                os.close(lease)
        time.sleep(0.02)
    assert served[:6] in (["one", "other"] * 3, ["other", "one"] * 3)
    one.close()
    other.close()
    assert list((tmp_path / "waiting").iterdir()) == []
