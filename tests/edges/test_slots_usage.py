"""What attempts use of the machine, measured on real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.slots import usage
from sweep.slots.usage import Gauge, Target

WORKS = """
import os, sys, time
if os.fork() == 0:
    held = bytearray(50 << 20)
    os.write(os.open(os.devnull, os.O_WRONLY), bytes(12345))
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass
    print("done", flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    """A shell that stands for the supervisor, whose grandchild works for a while."""
    process = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -c '{WORKS}'; true"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)
    process.communicate()


def test_a_tree_is_measured_as_a_whole_and_nothing_else(tmp_path: Path, tree: subprocess.Popen[str]) -> None:
    target = Target((3, 1), tmp_path / "usage.jsonl", tree.pid, ["cpu-0"])
    gauge = Gauge(list, dict, lambda: 5.0)
    gauge.measure([target])
    assert gauge.latest[3, 1].cores is None, "two measurements tell how fast"
    assert tree.stdout is not None and tree.stdout.readline() == "done\n"
    gauge.measure([target])
    load = gauge.latest[3, 1]
    assert load.cores is not None and load.cores > 0.05 and load.written > 12345 and load.device is None
    first, second = [json.loads(line) for line in target.path.read_text().splitlines()]
    assert set(first["metrics"]) == {"memory"} and second["at"] == 5.0
    assert 50e6 < second["metrics"]["memory"] < 200e6
    time.sleep(0.2)
    gauge.measure([target])
    assert gauge.latest[3, 1].cores is not None and gauge.latest[3, 1].cores < 0.2


def test_where_less_cpu_was_used_than_before_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([10.0, 4.0, 4.0])
    monkeypatch.setattr(usage, "_usage", lambda roots: {7: (next(used), 0.0, 0)})
    gauge = Gauge(list, dict, time.time)
    seen = []
    for _ in range(3):
        gauge.measure([Target((0, 1), tmp_path / "usage.jsonl", 7, ["cpu-0"])])
        seen.append(gauge.latest[0, 1].cores)
    assert seen == [None, None, 0.0]


def test_a_device_that_keeps_silent_is_not_an_idle_one(tmp_path: Path) -> None:
    answers = iter([{"GPU-1": {"utilisation": 0.5}}, {}, {"GPU-1": {"memory_used": 1e9}}])
    measure: Callable[[], dict[str, dict[str, float]]] = lambda: next(answers)  # noqa: E731
    gauge = Gauge(list, measure, time.time)
    targets = [
        Target((0, 1), tmp_path / "a", 1 << 30, ["GPU-1"]),
        Target((1, 1), tmp_path / "b", 1 << 30, ["cpu-0"]),
    ]
    gauge.measure(targets)
    assert gauge.latest[0, 1].device == 0.5
    gauge.measure(targets)
    assert set(gauge.latest) == {(1, 1)}, "unknown, while the CPU has no utilisation to tell"
    gauge.measure(targets)
    assert gauge.latest[0, 1].device is None, "an instance of MIG tells its memory alone"


@pytest.mark.parametrize(("patience", "every"), [(None, 5.0), (600.0, 5.0), (4.0, 1.0), (0.1, 0.5)])
def test_a_short_patience_is_measured_more_often(patience: float | None, every: float) -> None:
    assert Gauge(list, dict, time.time, patience)._every == every
