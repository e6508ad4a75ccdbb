"""Reports that the supervisor finds in a script's output."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_kit import Room, wait_for

from sweep.launch.bounded import CHUNK
from sweep.launch.output import LONGEST_LINE, OutputReader

Found = list[tuple[int, dict[str, float]]]


class Output:
    """An output.log that grows."""

    def __init__(self, path: Path, mode: str, *patterns: str) -> None:
        self._path = path / "output.log"
        self._reader = OutputReader(str(self._path), mode, [*patterns])

    def __call__(self, text: str | bytes, last: bool = False) -> Found:
        with self._path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return self._reader.read(last)


EPOCH = r"epoch (?P<step>\d+).*acc (?P<val_acc>[\d.]+|nan)"


def test_only_whole_lines_count_and_each_once(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", EPOCH)
    assert OutputReader(str(tmp_path / "not there yet"), "pattern", [EPOCH]).read() == []
    assert output("hello\nepoch 1 acc 0.5\nepoch 2 ac") == [(1, {"val_acc": 0.5})]
    assert output("") == []
    assert output("c 0.6") == []
    assert output("25\n") == [(2, {"val_acc": 0.625})]
    assert output("epoch 3 acc 0.7") == []
    assert output("", last=True) == [(3, {"val_acc": 0.7})]
    assert output("", last=True) == []


def test_progress_bars_that_return_to_the_start_of_their_line(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", EPOCH)
    assert output("\repoch 1 acc 0.1\repoch 1 acc 0.2\r\n\x1b[32mepoch 2 acc 0.3\x1b[0m\r") == [
        (1, {"val_acc": 0.1}),
        (1, {"val_acc": 0.2}),
        (2, {"val_acc": 0.3}),
    ]


@pytest.mark.parametrize("cut", range(1, 8))
def test_letters_cut_in_the_middle(tmp_path: Path, cut: int) -> None:
    output = Output(tmp_path, "pattern", r"轮次 (?P<step>\d+) 精度 (?P<acc>[\d.]+)")
    line = "轮次 3 精度 0.5\n".encode()
    assert output(line[:cut]) == [] and output(line[cut:] + b"\xff\xfe\n") == [(3, {"acc": 0.5})]


def test_patterns_without_a_step_count_their_matches(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", r"acc (?P<acc>\S+)", r"loss (?P<loss>\S+)")
    assert output("acc 0.5\nloss 2\nacc 0.6\nloss 1\nacc 0.7\n") == [
        (0, {"acc": 0.5}),
        (0, {"loss": 2.0}),
        (1, {"acc": 0.6}),
        (1, {"loss": 1.0}),
        (2, {"acc": 0.7}),
    ]


def test_where_one_pattern_has_the_step_the_others_belong_to_it(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", r"epoch (?P<step>\d+)(?: acc (?P<acc>\S+))?", r"val (?P<val>\S+)")
    assert output("val 0.1\nepoch 4\nval 0.2\nepoch 5 acc 0.9\nval nan\n")[:-1] == [
        (4, {"val": 0.2}),
        (5, {"acc": 0.9}),
    ]


def test_a_step_may_have_a_line_of_its_own(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", r"Epoch (?P<step>\d+)/", r"val (?P<val>\S+)")
    assert output("Epoch 1/9\nval 0.1\nEpoch 2/9\nval 0.2\n") == [(1, {"val": 0.1}), (2, {"val": 0.2})]


def test_what_is_no_number_is_no_report(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", r"(?P<step>\S+) (?P<acc>\S+) (?P<loss>\S+)")
    assert output("1 high 0.5\n2 high low\n2.0 0.25 inf\nx 0.5 0.5\n2.5 1 1\n") == [
        (1, {"loss": 0.5}),
        (2, {"acc": 0.25, "loss": float("inf")}),
        (2, {"acc": 0.5, "loss": 0.5}),  # without a step of its own: the last one's
        (2, {"acc": 1.0, "loss": 1.0}),
    ]


def test_json_lines_with_and_without_steps(tmp_path: Path) -> None:
    output = Output(tmp_path, "json")
    assert output(
        '{"acc": 0.5}\n{"step": 7, "acc": 0.6, "lr": 1e-3, "name": "x", "ok": true, "list": [1]}\n'
        '12:00 INFO {"acc": NaN}\n{"acc": 1} trailing\n[1]\n{broken\n{"name": "only"}\n{"step": "8", "acc": 2}\n'
    )[:2] == [(0, {"acc": 0.5}), (7, {"acc": 0.6, "lr": 1e-3})]
    assert output('{"step": 3, "acc": 0}\n{"acc": 0.1}\n') == [(3, {"acc": 0.0}), (4, {"acc": 0.1})]


def test_json_that_no_parser_likes_is_no_reason_to_stop_reading(tmp_path: Path) -> None:
    output = Output(tmp_path, "json")
    nested = '{"acc": ' + "[" * 50_000
    assert output(f'{nested}\n{{"acc": {10**400}}}\n{{"acc": 1}}\n') == [(0, {"acc": math.inf}), (1, {"acc": 1.0})]


def test_more_than_is_read_at_once_and_a_line_without_end(tmp_path: Path) -> None:
    output = Output(tmp_path, "pattern", EPOCH)
    filler = "x" * 99 + "\n"
    assert output(filler * (CHUNK // 50) + "epoch 1 acc 0.5\n" + filler) == [(1, {"val_acc": 0.5})]
    assert output("y" * (3 * LONGEST_LINE)) == []
    assert output("\nepoch 2 acc 0.6\n") == [(2, {"val_acc": 0.6})]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def test_the_supervisor_writes_them_down_as_they_come_and_the_last_one_too(room: Room) -> None:
    os.mkfifo(room.project / "fifo")
    script = "echo epoch 1 acc 0.5; read line < fifo; printf 'epoch 2 acc nan'"
    attempt = room.start("sh", "-c", script, report={"mode": "pattern", "patterns": [EPOCH]})
    reports = attempt.paths.reports
    wait_for(lambda: reports.exists() and reports.read_text(), "the first report")
    (room.project / "fifo").write_text("go\n")
    assert attempt.end()["code"] == 0
    found = [json.loads(line) for line in reports.read_text().splitlines()]
    assert [(one["step"], one["metrics"]) for one in found] == [(1, {"val_acc": 0.5}), (2, {"val_acc": "NaN"})]
    assert found[0]["at"] < found[1]["at"]
