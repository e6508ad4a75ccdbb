"""Limits of one attempt: kept by the kernel, of either kind, and by the supervisor where no group can be made."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launch_kit import Attempt, Room, wait_for

from sweep.launch import limits
from sweep.launch.limits import Group, Place, kept_by_kernel, own_group, places
from sweep.launch.watch import Watch, end_orphans

MB = 1_000_000
LARGE = """
    import os, sys, time
    if sys.argv[1] == "child":
        if os.fork():
            time.sleep(600)
    held = [bytearray(b"x") * 10_000_000 for _ in range(40)]
    time.sleep(600)
    """


KERNEL = [
    f"cgroup v{own.version}" for own in [own_group("memory")] if own and kept_by_kernel(["memory", "processes"])
]


@pytest.fixture(params=[*KERNEL, "its supervisor"])
def way(request: pytest.FixtureRequest) -> str:
    """Those that there are on this machine."""
    return str(request.param)


@pytest.fixture
def room(tmp_path: Path, way: str) -> Iterator[Room]:
    """Where its supervisor is to look, the nursery imports a module that takes the groups away."""
    (tmp_path / "no_groups.py").write_text("from sweep.launch import limits\nlimits.places = lambda *_: {}\n")
    one = Room(tmp_path, *(["no_groups"] if way == "its supervisor" else []))
    yield one
    one.close()


def groups(attempt: Attempt) -> list[Path]:
    """Those that were made for it and are still there."""
    folders = {place.folder for place in places(["memory", "pids"]).values()}
    return [found for folder in folders for found in Path(folder).glob(f"sweep-{attempt.supervisor}-*")]


def run(room: Room, text: str, *argv: str, **most: int) -> Attempt:
    (room.project / "script.py").write_text(textwrap.dedent(text))
    return room.launch(replace(room.order([sys.executable, "script.py", *argv]), limits=most))


def said(attempt: Attempt) -> Any:
    return Watch(1, 1, attempt.paths, None).end(0.0)


@pytest.mark.parametrize("who", ["itself", "child"])
def test_an_attempt_that_goes_over_its_memory_ends_as_a_whole(room: Room, way: str, who: str) -> None:
    attempt = run(room, LARGE, who, memory=150 * MB)
    facts = attempt.end()
    assert (facts["signal"], facts["signalled"], groups(attempt)) == (signal.SIGKILL, False, [])
    assert (facts["limits"]["by"], facts["limits"]["over"], facts["limits"]["memory"]) == (way, "memory", 150 * MB)
    end = said(attempt)
    assert (end.cause, end.hint) == ("it went over its limit of 150 MB of memory", "oom")
    assert end.peak["memory"] == facts["limits"]["peak"] > 140 * MB
    if way != "its supervisor":
        assert facts["limits"]["peak"] <= 150 * MB


def test_too_many_processes(room: Room, way: str) -> None:
    bomb = """
        import os, time
        for _ in range(60):
            try:
                if os.fork() == 0:
                    break
            except BlockingIOError:
                pass
        time.sleep(600)
        """
    attempt = run(room, bomb, processes=30)
    facts = attempt.end()
    assert (facts["signal"], facts["signalled"], facts["limits"]["over"]) == (signal.SIGKILL, False, "processes")
    end = said(attempt)
    assert (end.cause, end.hint, end.peak) == ("it went over its limit of 30 processes and threads", "limit", {})


def test_an_attempt_that_keeps_within_its_limits(room: Room, way: str) -> None:
    """What processes share is in the memory of the attempt once."""
    shares = """
        import os, time
        held, first = bytearray(b"x") * 60_000_000, os.getpid()
        for _ in range(3):
            if os.getpid() == first and os.fork() == 0:
                time.sleep(1)
        if os.getpid() == first:
            for _ in range(3):
                os.wait()
        """
    attempt = run(room, shares, memory=150 * MB, processes=30)
    facts = attempt.end()
    assert (facts["code"], facts["limits"]["over"]) == (0, "")
    assert facts["limits"]["peak"] > 55 * MB
    assert not groups(attempt)


def test_no_limit_makes_no_group(room: Room) -> None:
    assert "limits" not in run(room, "pass").end()


def test_the_group_of_a_supervisor_that_was_killed_goes_all_the_same(room: Room, way: str) -> None:
    attempt = run(room, "import time\nprint('here', flush=True)\ntime.sleep(600)", memory=150 * MB)
    attempt.says("here")
    assert bool(groups(attempt)) == (way in KERNEL)
    os.kill(attempt.supervisor, signal.SIGKILL)
    wait_for(lambda: attempt.facts["pid"] not in room.left(), "its end")
    end_orphans(attempt.paths)
    assert not groups(attempt)


# ---- where groups can be made, on trees of files ---------------------------------------------------------------


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree(root: Path, own: str, **files: str) -> Path:
    """A machine with v2 alone. own: the group of this process. files: below the mount."""
    mounted = root / "sys/fs/cgroup"
    write(root, **{"proc/self/cgroup": f"0::{own}\n"})
    (mounted / own.lstrip("/")).mkdir(parents=True, exist_ok=True)
    folders = [mounted, *(folder for folder in mounted.rglob("*") if folder.is_dir())]
    for folder in folders:
        write(folder, **{"cgroup.controllers": "cpu memory pids\n", "cgroup.procs": "", "memory.max": "max\n"})
    write(mounted, **files)
    return mounted


SCOPE = "/user.slice/user-7.slice/user@7.service/app.slice/run-1.scope"
APP = SCOPE.removesuffix("/run-1.scope").lstrip("/")
HANDS_ON = {f"{APP}/cgroup.subtree_control": "memory pids\n"}


def test_v2_a_sibling_in_the_nearest_group_that_hands_controllers_on(tmp_path: Path) -> None:
    mounted = tree(tmp_path, SCOPE, **HANDS_ON)
    both = places(["memory", "pids"], str(tmp_path))
    assert {place.folder for place in both.values()} == {str(mounted / APP)} and both["memory"].version == 2
    write(mounted, **{f"{APP}/cgroup.subtree_control": "memory\n"})
    assert not kept_by_kernel(["memory", "processes"], str(tmp_path))
    assert kept_by_kernel(["memory"], str(tmp_path))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="nobody hands memory on, as in a container"),
        pytest.param(
            {**HANDS_ON, f"{SCOPE[1:]}/memory.max": "1000\n"}, id="it would escape from a limit of memory"
        ),
        pytest.param({**HANDS_ON, f"{SCOPE[1:]}/cpu.max": "200000 100000\n"}, id="of the CPU"),
        pytest.param({**HANDS_ON, f"{SCOPE[1:]}/cpuset.cpus": "0-3\n"}, id="of the cores"),
    ],
)
def test_v2_no_place(tmp_path: Path, files: dict[str, str]) -> None:
    tree(tmp_path, SCOPE, **files)
    assert places(["memory"], str(tmp_path)) == {}


def test_v2_beside_v1_that_has_the_memory(tmp_path: Path) -> None:
    mounted = tmp_path / "sys/fs/cgroup"
    write(tmp_path, **{"proc/self/cgroup": "4:memory:/docker/a1\n0::/\n"})
    write(mounted, **{"unified/cgroup.controllers": "pids\n", "unified/cgroup.subtree_control": "pids\n"})
    write(mounted, **{"unified/cgroup.procs": "", "memory/memory.limit_in_bytes": "1\n"})
    found = places(["memory", "pids"], str(tmp_path))
    assert found["memory"] == Place(1, str(mounted / "memory"), str(mounted / "memory")), "the path is the host's"
    assert (found["pids"].version, found["pids"].folder) == (2, str(mounted / "unified"))


def test_no_hierarchy_at_all(tmp_path: Path) -> None:
    assert own_group("memory", str(tmp_path)) is None and places(["memory"], str(tmp_path)) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_group_that_may_not_be_written_to(tmp_path: Path) -> None:
    tree(tmp_path, "/", **{"cgroup.subtree_control": "memory\n"})
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    assert places(["memory"], str(tmp_path))
    os.setresuid(65534, 65534, 0)
    try:
        assert not places(["memory"], str(tmp_path))
    finally:
        os.setresuid(0, 0, 0)


def test_what_is_written_and_read_in_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = tree(tmp_path, SCOPE, **HANDS_ON)
    files = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cgroup.procs")
    real = os.mkdir

    def make(path: str, mode: int = 0o777) -> None:
        real(path, mode)
        write(Path(path), **dict.fromkeys(files, ""))

    monkeypatch.setattr(limits.os, "mkdir", make)
    group = Group({"memory": 150 * MB, "processes": 30}, places(["memory", "pids"], str(tmp_path)), 4711)
    [folder] = (mounted / APP).glob("sweep-*")
    assert [(folder / name).read_text() for name in files] == [str(150 * MB), "0", "1", "30", "4711"]
    write(
        folder,
        **{"memory.events": "max 12\noom 0\noom_kill 0\n", "memory.peak": "1234\n", "pids.events": "max 0\n"},
    )
    group.look()
    assert (group.over, group.peak, group.by) == ("", 1234, "cgroup v2")
    write(folder, **{"memory.events": "max 12\noom 1\noom_kill 3\n"})
    group.look()
    assert group.over == "memory"
