"""What is kept of an attempt that hangs, and what its end says of memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.launch import stacks
from sweep.launch.process import facts
from sweep.launch.watch import Watch
from sweep.rundir import AttemptDir

DUMP = """\
Process 77: python train.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 80 (idle): "loader"
    get (/data/train.py:3)
Thread 77 (idle): "MainThread"
    {inner}
    forward (/data/net/model.py:9)
    <module> (/data/train.py:20)

Thread 81 (idle)
    poll (/data/other.py:1)
"""
WAITS = "Condition.wait (/usr/lib/python3.11/threading.py:327)"


@pytest.mark.parametrize(
    ("inner", "place"),
    [
        (WAITS, "Condition.wait (threading.py:327), called by forward (model.py:9)"),
        (
            "step (/venv/lib/python3.11/site-packages/torch/optim.py:1)",
            "step (optim.py:1), called by forward (model.py:9)",
        ),
        ("step (/data/net/layers.py:4)", "step (layers.py:4)"),
        ("import_ (<frozen importlib>:4)", "import_ (<frozen importlib>:4), called by forward (model.py:9)"),
    ],
)
def test_where_it_hangs_is_its_main_threads_innermost_line_and_the_users(inner: str, place: str) -> None:
    assert stacks._where([DUMP.format(inner=inner), DUMP.format(inner="of a child (/x.py:1)")]) == place


@pytest.mark.parametrize(
    "dumps", [[], [""], ["Process 77: python\nPython v3.11\n"], ["Process 7: x\nThread 7 (idle)\n"]]
)
def test_what_is_not_known_is_not_said(dumps: list[str]) -> None:
    assert stacks._where(dumps) == ""


def test_the_evidence_is_that_of_the_last_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = AttemptDir(tmp_path)
    paths.output.write_text("first\n" + "x" * 99 + "\n" + "y" * (stacks._TAIL - 1) + "\n")
    child = subprocess.Popen(
        [sys.executable, "-c", "print(input())"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        folder, _ = stacks.gather(paths, os.getpid())
        assert folder == paths.stall and str(child.pid) in (folder / "processes.txt").read_text()
        assert (folder / "output.txt").read_text() == "y" * (stacks._TAIL - 1) + "\n", "whole lines"
        assert (folder / "usage.jsonl").read_bytes() == b""
        paths.output.write_text("|" * 2 * stacks._TAIL)
        assert (stacks.gather(paths, os.getpid())[0] / "output.txt").stat().st_size >= stacks._TAIL
        assert stacks.known(paths) == (folder / "stacks.txt").exists()
        (folder / "stacks.txt").write_text("of before")
        monkeypatch.setattr(stacks, "_stacks", lambda pid: "")
        stacks.gather(paths, os.getpid())
        assert not stacks.known(paths), "then its end has to tell"
    finally:
        child.communicate(b"end\n")
    assert facts(child.pid) == f"{child.pid}  gone"


def ended(folder: Path, output: str = "", now: float = 1000.0, **how: Any) -> Any:
    facts = {"code": 1, "signal": None, "signalled": False, "error": None, "started": 100.0, "ended": 400.0}
    (folder / "exit.json").write_text(json.dumps({**facts, "max_rss": 3e9, "cpu_seconds": 1.0, **how}))
    (folder / "output.log").write_text(output)
    return Watch(0, 1, AttemptDir(folder), None).end(now)


def test_an_end_has_the_time_at_which_it_was_not_at_which_it_was_found(tmp_path: Path) -> None:
    assert ended(tmp_path).at == 400.0
    assert ended(tmp_path, now=300.0).at == 300.0, "a clock that was set back"


@pytest.mark.parametrize(
    ("how", "output", "hint"),
    [
        ({"code": None, "signal": 9}, "", "oom"),
        ({"code": 1}, "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.", "oom"),
        ({"code": 1}, "ValueError: no such file", ""),  # the kernel killed somebody of another trial
        ({"code": None, "signal": 11}, "", ""),
    ],
)
def test_the_kernel_killed_this_one_if_something_of_it_was_killed(
    tmp_path: Path, how: dict[str, Any], output: str, hint: str
) -> None:
    assert ended(tmp_path, output, oom_killed=True, **how).hint == hint
    assert ended(tmp_path, output, oom_killed=False, **how).hint == ""


def test_a_group_of_its_own_knows_whether_it_went_over(tmp_path: Path) -> None:
    limits = {"memory": 4e9, "by": "cgroup v2", "over": "memory", "peak": 3.99e9}
    over = ended(tmp_path, "Killed", code=137, limits=limits)
    assert (over.cause, over.hint) == ("it went over its limit of 4.0 GB of memory", "oom")
    assert over.peak == {"memory": 3.99e9}, "max_rss counts what others hold as well"
    below = ended(tmp_path, "Killed", code=137, limits={**limits, "peak": 2e9})
    assert (below.cause, below.hint) == ("the kernel killed it for want of memory", "oom")
    assert ended(tmp_path, code=0, limits=limits).hint == "", "who ends well has not failed"
    within = ended(tmp_path, "ValueError: 1", limits={**limits, "over": ""})
    assert (within.cause, within.hint) == ("ValueError: 1", "")


def test_the_peak_is_the_most_that_was_ever_seen(tmp_path: Path) -> None:
    lines = [{"memory": 4e9, "device_memory": 7e9}, {"memory": 5e9, "device_memory": 6e9}, {"memory": 1e9}]
    text = "".join(json.dumps({"at": 1.0, "metrics": line}) + "\n" for line in lines)
    (tmp_path / "usage.jsonl").write_text(text + '{"at": ')
    assert ended(tmp_path, "MemoryError").peak == {"memory": 5e9, "device_memory": 7e9}
    assert ended(tmp_path, "ValueError").peak == {}
