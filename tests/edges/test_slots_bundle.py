"""Several devices for one trial: which are chosen, all or none, and what its processes are given."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from gpu_kit import GPU_A, GPU_B, A, B, C
from hypothesis import given
from hypothesis import strategies as st
from launch_kit import Room

from sweep.config.model import Devices
from sweep.core.model import Attempt
from sweep.slots.bundle import neighbours, together
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool
from sweep.slots.usage import Gauge, Target

D = "gpu uuid=GPU-dddddddd-0 name=Fake_H100 total=80000"
# sockets of two cards, each with a bridge: 0 and 2, 1 and 3
SOCKETS = [
    "link gpu=0 to=2 level=40 nvlink=1",
    "link gpu=1 to=3 level=40 nvlink=1",
    *(f"link gpu={one} to={other} level=50" for one, other in ((0, 1), (0, 3), (2, 1), (2, 3))),
]


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[int], int, dict[tuple[int, int], int]]:
    """Free devices, how many are wanted, and the ways between them in a machine of boards and sockets."""
    free = draw(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True))
    board, socket = draw(st.sampled_from([(2, 8), (4, 8), (2, 4), (1, 4), (16, 16)]))
    ways = {
        (one, other): 0 if one // board == other // board else 20 if one // socket == other // socket else 50
        for one in range(16)
        for other in range(16)
    }
    return free, draw(st.integers(1, len(free))), ways


@given(machines())
def test_no_other_group_is_nearer(machine: tuple[list[int], int, dict[tuple[int, int], int]]) -> None:
    free, number, ways = machine

    def length(group: Any) -> int:
        return sum(ways[pair] for pair in combinations(group, 2))

    names = [str(one) for one in free]
    group = [int(one) for one in neighbours(names, number, lambda one, other: ways[int(one), int(other)])]
    assert len(set(group)) == number and set(group) <= set(free)
    if number <= 2 or not any(0 < way < 50 for way in ways.values()):
        assert length(group) == min(map(length, combinations(free, number)))
    for there in ({one for one in free if ways[one, first] == 0} for first in free):
        assert len(there) < number or length(group) == 0, "a board that has room for all"
    if len(set(ways.values())) == 1:
        assert group == free[:number], "where all are alike, by their numbers"


@pytest.fixture
def four(fake_nvml: Any) -> None:
    fake_nvml.write(A, B, C, D, *SOCKETS)


def indices(here: Any, number: int = 2) -> list[int] | None:
    here.run(f"got = p.acquire_all({number}, {{'sweep': 's-1'}})")
    return here("got and [slot.index for slot, _ in got]")  # type: ignore[no-any-return]


def test_neighbours_are_taken_before_numbers_in_a_row(four: None, remote: Any) -> None:
    here = remote()
    assert indices(here) == [0, 2]
    here.run("rest = p.acquire(p.slots[1], {})")
    assert indices(here) is None, "one is left"
    here.run("os.close(rest); pool.GLANCE = 0")
    assert indices(here) == [1, 3]
    here.run("[os.close(lease) for _, lease in got]")


def test_all_of_them_stand_in_the_order_of_the_links(four: None, remote: Any) -> None:
    here = remote()
    assert indices(here, 4) == [0, 2, 1, 3]
    here.run("from sweep.slots.bundle import together; one = together([slot for slot, _ in got])")
    assert here("one.env")["CUDA_VISIBLE_DEVICES"] == f"{GPU_A},GPU-cccccccc-0,{GPU_B},GPU-dddddddd-0"
    assert here("one.id") == "gpu-aaaaaaaa-0+gpu-cccccccc-0+gpu-bbbbbbbb-0+gpu-dddddddd-0"
    here.run("[os.close(lease) for _, lease in got]")


def test_a_count_of_gpus_for_trials_on_several_is_of_neighbours(four: None, remote: Any) -> None:
    here = remote()
    counted = "open_pool(Devices(kind='gpu', count=2), 1, environ, locks, per_trial={})"
    assert here(f"[slot.index for slot in {counted.format(2)}.slots]") == [0, 2]
    assert here(f"[slot.index for slot in {counted.format(1)}.slots]") == [0, 1]
    here.run("one = p.acquire(p.slots[2], {})")
    assert here(f"[slot.index for slot in {counted.format(2)}.slots]") == [1, 3]
    here.run("os.close(one)")


def test_what_is_unfit_is_left_out_of_the_group(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B, C + " used=50000", D, *SOCKETS)
    here = remote()
    assert indices(here) == [1, 3]
    here.run("[os.close(lease) for _, lease in got]")
    assert indices(here, 4) is None and here("p.holder(p.slots[0])") is None, "nothing is kept"


def test_shares_of_one_device_are_no_two_devices(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote(shares=2)
    assert indices(here) == [0, 1]
    assert here("[slot.id for slot, _ in got]") == ["gpu-aaaaaaaa-0.0", "gpu-bbbbbbbb-0.0"]
    here.run("first = got")
    assert indices(here) == [0, 1]
    here.run("[os.close(lease) for _, lease in first + got]")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("", "4 devices at once wanted, but there are 2"),
        ("kind='cpu', count=1", "4 devices at once wanted, but there is 1"),
    ],
)
def test_more_than_there_are_is_said_at_once(devices: str, said: str, fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    with pytest.raises(RuntimeError, match=f"DeviceError: {said}"):
        remote()(f"open_pool(Devices({devices}), 1, environ, locks, per_trial=4)")


def test_instances_cannot_be_had_together(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A + " mig=1", "mig gpu=0 uuid=MIG-1", "mig gpu=0 uuid=MIG-2")
    with pytest.raises(RuntimeError, match=r"DeviceError: 2 devices .* one MIG instance at most"):
        remote()("open_pool(Devices(), 1, environ, locks, per_trial=2)")


def cpus(tmp_path: Path, count: int = 4) -> Pool:
    return open_pool(Devices(kind="cpu", count=count), 1, {}, tmp_path, per_trial=2)


def test_two_shares_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.slots.cpu.cores", lambda: 8)
    pool = cpus(tmp_path)
    assert pool.said == "4 CPU slots of 2 cores each; a trial takes 2 of them."
    got = pool.acquire_all(2, {})
    assert got is not None
    slot = together([one for one, _ in got])
    assert (slot.id, slot.device, slot.threads) == ("cpu-0+cpu-1", "cpu-0,cpu-1", 4)
    assert slot.env["OMP_NUM_THREADS"] == "4" and slot.env["CUDA_VISIBLE_DEVICES"] == ""
    assert Attempt(1, slot.id, slot.device).width == 2 and Attempt(1, "cpu-0", "cpu-0").width == 1
    for _, lease in got:
        os.close(lease)


def test_two_who_want_everything_get_it_in_turns(tmp_path: Path) -> None:
    one, other = cpus(tmp_path, 2), cpus(tmp_path, 2)
    served: list[str] = []
    tries = 0
    while len(served) < 6:
        tries += 1
        assert tries < 1000, served
        one._asked = other._asked = 0.0  # the line is looked at anew
        for name, who in (("one", one), ("other", other)):
            if taken := who.acquire_all(2, {"sweep": name}):
                assert (one if who is other else other).acquire_all(2, {}) is None
                served.append(name)
                for _, lease in taken:
                    os.close(lease)
    assert served == ["one", "other"] * 3


def test_the_leases_of_all_live_as_long_as_the_tree_and_say_whose_they_are(tmp_path: Path) -> None:
    room, pool = Room(tmp_path), cpus(tmp_path / "locks", 2)
    try:
        taken = pool.acquire_all(2, {"sweep": "s-1"})
        assert taken is not None
        order = room.order(["sh", "-c", "echo ready; sleep 600"])
        attempt = room.launch(replace(order, leases=[*order.leases, *(lease for _, lease in taken)]))
        attempt.says("ready")
        assert all(
            (json.loads((tmp_path / "locks" / slot.id).read_text())["trial"], pool.holder(slot) is not None)
            == (1, True)
            for slot in pool.slots
        )
        attempt.deliver("kill")
        attempt.end()
        assert [pool.holder(slot) for slot in pool.slots] == [None, None]
    finally:
        room.close()


@pytest.mark.parametrize(
    ("answers", "metrics", "load"),
    [
        (
            {"a": {"utilisation": 0.9, "memory_used": 1e9}, "b": {"utilisation": 0.1, "memory_used": 2e9}},
            {"device_utilisation": 0.5, "device_memory": 3e9},
            0.9,
        ),
        ({"a": {"memory_used": 1e9}, "b": {}}, {"device_memory": 1e9}, None),
        ({}, {}, None),
    ],
)
def test_what_it_uses_is_that_of_all_its_devices(
    answers: dict[str, dict[str, float]], metrics: dict[str, float], load: float | None, tmp_path: Path
) -> None:
    gauge = Gauge(list, lambda: answers, lambda: 1.0)
    gauge.measure([Target((0, 1), tmp_path / "usage.jsonl", os.getpid(), ["a", "b"])])
    record = json.loads((tmp_path / "usage.jsonl").read_text())
    del record["metrics"]["memory"]
    assert record["metrics"] == metrics and len(record["devices"]) == 2
    assert gauge.latest[0, 1].device == load, "the busiest: one that waits for the others is no stall"
    if answers:
        answers.pop("b")
        gauge.measure([Target((0, 1), tmp_path / "usage.jsonl", os.getpid(), ["a", "b"])])
        assert not gauge.latest, "of one that keeps silent nobody knows"
