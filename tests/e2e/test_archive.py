"""`sweep clean --archive`: a sweep as one file, and back; how many are cleaned until the rest is small enough."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
from e2e_kit import Project

TRAIN = """
import sweep
trial = sweep.current_trial()
trial.report(0, acc=1.0)
with trial.checkpoint(0) as folder:
    open(folder + "/model", "wb").write(bytes(300_000))
"""


@pytest.fixture
def ended(project: Project) -> Project:
    project.write("train.py", TRAIN)
    project.run(trials=1)
    return project


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_archived_sweep_is_one_file_and_comes_back_whole(ended: Project) -> None:
    folder = ended.directory().path
    (folder / "trials/0/1/a link").symlink_to("/etc/passwd")
    before, status = tree(folder), ended.sweep("status", "s-1", "--json").json
    dry = ended.sweep("clean", "s-1", "--archive", "--dry-run")
    assert "nothing was changed" in dry.out and tree(folder) == before and names(folder.parent) == ["s-1"]
    done = ended.sweep("clean", "s-1", "--archive", "--json").json
    archive = folder.parent / "archived/s-1.tar.gz"
    assert done["sweeps"][0]["archive"] == str(archive) and done["freed"] > 250_000
    assert names(folder.parent) == ["archived"] and names(archive.parent) == ["s-1.tar.gz"]
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert tar.getmember("s-1/trials/0/1/a link").issym()
    assert ended.sweep("list", "--json").json == {
        "sweeps": [],
        "archived": [{"id": "s-1", "path": str(archive)}],
    }
    assert f"s-1 is archived: {archive}" in ended.sweep("list").out
    missing = ended.sweep("status", "s-1")
    assert missing.code == 3 and "s-1 is archived" in missing.err
    back = missing.err.partition("have it back: ")[2].strip()
    ended.run(trials=1)
    assert ended.directory("s-2").journal.exists(), "the archived one keeps its number"
    subprocess.run(back, shell=True, cwd=ended.path, check=True)
    after = tree(folder)
    assert {name: after[name] for name in before if name != "controller.lock"} == {
        name: before[name] for name in before if name != "controller.lock"
    }
    assert ended.sweep("status", "s-1", "--json").json == status


def test_where_it_cannot_be_written_nothing_is_removed(ended: Project) -> None:
    folder = ended.directory().path
    before = tree(folder)
    (folder.parent / "archived").write_text("in the way")
    done = ended.sweep("clean", "s-1", "--archive")
    assert done.code == 1 and "cannot archive s-1" in done.err and "nothing of it was removed" in done.err
    assert tree(folder).keys() >= before.keys()


def test_the_oldest_go_until_the_rest_is_small_enough(ended: Project) -> None:
    for _ in range(2):
        ended.run(trials=1)
    dry = ended.sweep("clean", "--keep-size", "800KB", "--no-keep-best", "--dry-run", "--json").json
    assert [one["id"] for one in dry["sweeps"]] == ["s-1"]
    assert ended.sweep("clean", "--keep-size", "10MB", "--archive").out == "nothing to clean\n"
    done = ended.sweep("clean", "--keep-size", "500KB", "--archive", "--json").json
    assert [one["id"] for one in done["sweeps"]] == ["s-1", "s-2"] and done["skipped"] == []
    assert [one["id"] for one in ended.sweep("list", "--json").json["sweeps"]] == ["s-3"]
