"""What a sweep's folder holds, what stays free, and logs that are begun anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.config.disk import Disk, Logs
from sweep.config.parameters import Model
from sweep.disk import DiskWatch, measure, said, usual_reserve
from sweep.rundir import SweepDir, roll

GB = 1_000_000_000


def test_a_measurement_counts_blocks_and_knows_each_whole_checkpoint(tmp_path: Path) -> None:
    directory = SweepDir(tmp_path / "s-1")
    checkpoints = directory.attempt(3, 1).checkpoints
    for name in ("5", ".6.123"):
        (checkpoints / name / "part").mkdir(parents=True)
        (checkpoints / name / "part/model").write_bytes(b"x" * 100_000)
    with (directory.path / "holes").open("wb") as file:
        file.truncate(GB)
    (directory.path / "loop").symlink_to(directory.path)
    found = measure(directory)
    assert list(found.checkpoints) == ["trials/3/1/checkpoints/5"]
    assert 100_000 <= found.checkpoints["trials/3/1/checkpoints/5"] < 150_000
    assert 200_000 <= found.total < 300_000
    assert measure(SweepDir(tmp_path / "nowhere")).total == 0


def test_the_reserve_suits_the_disk() -> None:
    sizes = (80 << 20, 5 * GB, 20 * GB, 100 * GB, 10_000 * GB)
    assert [usual_reserve(size) for size in sizes] == [8 << 20, GB // 2, GB, 2 * GB, 5 * GB]


def test_gone_is_what_is_not_there(tmp_path: Path) -> None:
    directory = SweepDir(tmp_path / "s-1")
    watch = DiskWatch(directory, Disk(), lambda: 0.0)
    assert watch.gone()
    directory.path.mkdir()
    directory.journal.touch()
    assert not watch.gone()


def test_a_log_goes_on_from_nothing_for_everybody_who_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    with log.open("ab", buffering=0) as one, log.open("ab", buffering=0) as other:
        one.write(b"1" * 60)
        roll(log, 100)
        assert log.stat().st_size == 60
        other.write(b"2" * 60)
        roll(log, 100)
        one.write(b"3")
        other.write(b"4")
    assert log.read_bytes() == b"34"
    assert (tmp_path / "controller.log.1").read_bytes() == b"1" * 60 + b"2" * 60
    assert len(os.listdir(tmp_path)) == 2  # noqa: PTH208


@pytest.mark.parametrize(
    ("model", "given", "wanted"),
    [
        (Disk, "200GB", {"budget": 200 * GB, "reserve": None}),
        (Disk, {"reserve": "1.5GiB"}, {"budget": None, "reserve": 3 << 29}),
        (Disk, 5000, {"budget": 5000, "reserve": None}),
        (Logs, "5MB", {"keep": 5_000_000}),
    ],
)
def test_sizes_are_read_as_they_are_said(model: type[Model], given: object, wanted: dict[str, object]) -> None:
    assert model.model_validate(given).model_dump() == wanted
    assert model.model_validate(wanted).model_dump() == wanted, "the journal keeps the dump"


def test_sizes_are_said_in_the_units_of_the_file() -> None:
    sizes = (12, 8 << 20, 1500 * GB, 999 * GB)
    assert [said(size) for size in sizes] == ["12 bytes", "8.39 MB", "1.5 TB", "999 GB"]
