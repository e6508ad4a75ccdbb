"""Output that is kept within a size, while it is written and afterwards."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_kit import Room, wait_for

from sweep.launch.bounded import BoundedOutput, gap, read_on
from sweep.launch.output import OutputReader

MB = 1_000_000


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


class Growing:
    """An output.log that a command writes; look() does not wait until the next look is due."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.path = folder / "output.log"
        self._command = self.path.open("ab", buffering=0)
        self.bounded = BoundedOutput(str(self.path), keep)
        self.lines = 0

    def write(self, count: int) -> None:
        text = b"".join(b"line %09d\n" % number for number in range(self.lines, self.lines + count // 15))
        self.lines += count // 15
        self._command.write(text)

    def look(self) -> None:
        self.bounded._due = 0.0
        self.bounded.look()

    @property
    def taken(self) -> int:
        return self.path.stat().st_blocks * 512

    def numbers(self) -> list[list[int]]:
        """The runs of lines that can be read, a gap between two of them."""
        found: list[list[int]] = [[]]
        for line in read_all(self.path).splitlines():
            if b"left out" in line:
                found.append([])
            elif len(line) == 14 and line.startswith(b"line "):
                found[-1].append(int(line[5:]))
        return found


def read_all(path: Path) -> bytes:
    found, offset = b"", 0
    with path.open("rb") as file:
        while True:
            left_out, data = read_on(file.fileno(), offset)
            if not data:
                return found
            found += (gap(left_out) if left_out else b"") + data
            offset += left_out + len(data)


@pytest.fixture(params=["holes", "no holes"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that can make holes, and on one that cannot."""
    if request.param == "holes":
        yield tmp_path
        return
    (tmp_path / "ramfs").mkdir()
    done = subprocess.run(["mount", "-t", "ramfs", "none", str(tmp_path / "ramfs")], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield tmp_path / "ramfs"
    subprocess.run(["umount", "-l", str(tmp_path / "ramfs")], check=True)


def test_its_beginning_and_its_newest_part_stay(place: Path) -> None:
    output = Growing(place, 2 * MB)
    for _ in range(12):
        output.write(MB // 2)
        output.look()
        assert output.taken <= 2 * MB + MB // 2
    head, tail = output.numbers()
    assert head == list(range(len(head))) and len(head) > 20_000
    assert tail == list(range(tail[0], output.lines)) and len(tail) > 20_000
    output.bounded.finish()
    text = output.path.read_bytes()
    assert b"\0" not in text and text.count(b"MB left out") == 1 and len(text) <= 2 * MB
    assert output.numbers() == [head, tail]


def test_short_output_is_left_as_it_is(tmp_path: Path) -> None:
    output = Growing(tmp_path, 2 * MB)
    output.write(MB)
    output.look()
    output.bounded.finish()
    assert output.numbers() == [list(range(output.lines))]


def test_a_silent_command_wakes_nobody_and_is_heard_at_once(room: Room) -> None:
    room.keep = MB
    attempt = room.script("""
        import os, time
        folder = os.environ["SWEEP_ATTEMPT_DIR"]
        while not os.path.exists(folder + "/speak"):
            time.sleep(0.01)
        os.write(1, b"x" * 8_000_000)
        time.sleep(600)
    """)
    status = Path(f"/proc/{attempt.supervisor}/status")

    def sleeps() -> bool:
        before = status.read_text()
        time.sleep(1.2)
        return status.read_text().split("voluntary")[1] == before.split("voluntary")[1]

    wait_for(sleeps, "a supervisor that nothing wakes")
    (attempt.paths.path / "speak").touch()
    wait_for(lambda: attempt.paths.output.stat().st_size == 8 * MB, "the output")
    wait_for(lambda: attempt.paths.output.stat().st_blocks * 512 <= MB, "room on the disk")
    attempt.deliver("kill")
    attempt.end()
    assert b"left out" in attempt.paths.output.read_bytes()


def test_reports_are_read_around_what_is_left_out(tmp_path: Path) -> None:
    output = Growing(tmp_path, 2 * MB)
    reader = OutputReader(str(output.path), "pattern", [r"acc (?P<acc>\d+)"])
    head = 2 * MB // 4 // 65536 * 65536
    output._command.write(b"acc 1\n" + b"-" * (head - 13) + b"\nacc 12")
    assert reader.read() == [(0, {"acc": 1.0})]
    output._command.write(b"345\n")
    output.write(4 * MB)
    output.look()
    output._command.write(b"acc 3\n")
    assert reader.read() == [(1, {"acc": 3.0})], "half a number is none"
