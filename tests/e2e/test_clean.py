"""`sweep clean`: what goes, what stays, and what is never touched."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for

from sweep.cli.clean import age, clean
from sweep.errors import StorageError, UsageError

SIZE = 50_000
# three checkpoints of a known size, the best one at step 1; the output says more than it has to
TRAIN = f"""
import sys, sweep
trial = sweep.current_trial()
for step in range(3):
    trial.report(step, acc=float(sys.argv[1]) - abs(step - 1))
    with trial.checkpoint(step) as directory:
        open(directory + "/model", "wb").write(b"x" * {SIZE})
print("o" * 999)
"""
WAITS = """
import os, sys, time, sweep
trial = sweep.current_trial()
with trial.checkpoint(0):
    pass
trial.report(0, acc=1.0)
until = time.time() + 60
while not os.path.exists("go") and time.time() < until:
    time.sleep(0.05)
"""


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def asked(project: Project) -> list[Any]:
    """What the commands that look at a sweep say."""
    words = (["status"], ["best"], ["list"], *(["why", str(number)] for number in range(3)))
    return [project.sweep(*one, "--json").json for one in words]


@pytest.fixture
def ended(project: Project) -> Project:
    project.write("train.py", TRAIN)
    project.run(checkpoints=3)
    return project


def test_a_dry_run_says_what_would_go_and_changes_nothing(ended: Project) -> None:
    before = tree(ended.path)
    done = ended.sweep("clean", "s", "--dry-run", "--json")
    assert done.code == 0, done.err
    said = done.json
    (one,) = said["sweeps"]
    assert said["dry_run"] and one["id"] == "s-1"
    assert (one["checkpoints"], one["logs"], one["rest"]) == (7 * SIZE, 3 * 1000, 0), "of nine, two are kept"
    assert said["freed"] == one["freed"] == 7 * SIZE + 3000
    assert "would free 345K; nothing was changed" in ended.sweep("clean", "s-1", "--dry-run").out
    purged = ended.sweep("clean", "s-1", "--dry-run", "--purge", "--json").json
    files = [path.lstat().st_size for path in ended.directory().path.rglob("*") if not path.is_dir()]
    assert purged["freed"] == sum(files)
    assert tree(ended.path) == before


def test_the_bulk_goes_and_the_story_stays(ended: Project) -> None:
    before, story = tree(ended.directory().path), asked(ended)
    told = ended.sweep("clean", "s-1", "--dry-run", "--json").json
    done = ended.sweep("clean", "s-1")
    assert done.code == 0 and "freed 345K" in done.out, done.err
    after = tree(ended.directory().path)
    best = story[0]["best"]["number"]
    kept = [f"trials/{best}/1/checkpoints/{step}" for step in (1, 2)]  # its best one, and what `best` names
    gone = {name for name in before if name.endswith(("/model", "/output.log"))} - {
        f"{name}/model" for name in kept
    }
    assert set(before) - set(after) == gone
    assert sum(before[name][0] for name in gone) == told["freed"]
    assert sorted(told["sweeps"][0]["kept"]) == [str(ended.directory().path / name) for name in kept]
    assert {name for name in after if after[name] != before.get(name)} == {
        *("controller.log", "controller.lock", "follower.lock")
    }
    assert "`sweep clean` removed 342K of checkpoints, 3K of output" in ended.log()
    for trial in story[0]["trials"]:
        if trial["number"] != best:
            trial["checkpoint"] = None  # what is gone is not named
    assert asked(ended) == story
    assert Path(ended.sweep("best", "--json").json["trials"][0]["checkpoint"], "model").stat().st_size == SIZE
    again = ended.sweep("clean", "s-1", "--json").json
    assert again["freed"] == 0 and ended.sweep("clean", "s-1").out.endswith("nothing to clean\n")


def test_a_cleaned_sweep_goes_on(ended: Project) -> None:
    ended.sweep("clean", "s-1", "--no-keep-best")
    assert not list(ended.path.rglob("model"))
    done = ended.sweep("resume", "s-1", "--trials", "4", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["COMPLETE"] == 4 and len(list(ended.path.rglob("model"))) == 3


def test_a_purge_leaves_nothing_of_it(ended: Project) -> None:
    ended.space()
    ended.sweep("run", "space.yaml")
    done = ended.sweep("clean", "s-1", "--purge", "--json")
    assert done.code == 0, done.err
    assert not ended.directory("s-1").path.exists() and ended.directory("s-2").path.exists()
    assert done.json["sweeps"][0]["rest"] > 0 and done.json["sweeps"][0]["kept"] == []
    assert [one["id"] for one in ended.sweep("list", "--json").json["sweeps"]] == ["s-2"]
    assert ended.sweep("clean", "s-1", "--purge").code == 3


def test_by_age(ended: Project) -> None:
    ended.run(name="t")
    untouched = tree(ended.directory("s-1").path)
    assert ended.sweep("clean", "--older-than", "1h").out == "nothing to clean\n"
    assert tree(ended.directory("s-1").path) == untouched
    done = ended.sweep("clean", "--older-than", "0s", "--json")
    assert [one["id"] for one in done.json["sweeps"]] == ["s-1", "t-1"] and done.json["skipped"] == []
    assert not list(ended.path.rglob("output.log"))
    assert ended.sweep("clean", "--older-than", "0s", "--json").json["sweeps"] == [], "nothing is left to free"


def test_a_sweep_that_has_not_ended_is_left_alone(project: Project) -> None:
    project.write("train.py", WAITS)
    project.space(trials=2)
    controller = project.sweep("run", "-d", "space.yaml", "--json").json["controller"]["pid"]
    wait_for(lambda: len(project.events("Reported")) == 2, "two trials")
    running = project.sweep("clean", "s-1", "--purge")
    assert running.code == 1 and "s-1 is running; `sweep stop s-1` ends it" in running.err
    os.kill(controller, signal.SIGKILL)
    wait_for(lambda: project.sweep("status", "--json").json["state"] == "INTERRUPTED", "its death")
    interrupted = project.sweep("clean", "s-1")
    assert interrupted.code == 2 and "has not ended" in interrupted.err and "sweep resume s-1" in interrupted.err
    by_age = project.sweep("clean", "--older-than", "0s", "--json").json
    assert by_age["sweeps"] == [] and [one["id"] for one in by_age["skipped"]] == ["s-1"]
    assert "left alone: s-1 has not ended" in project.sweep("clean", "--older-than", "0s", "--dry-run").out
    folders = [project.directory().attempt(number, 1) for number in (0, 1)]
    assert all(folder.output.exists() and (folder.checkpoints / "0").is_dir() for folder in folders)
    project.write("go", "")
    assert project.sweep("resume", "s-1").code == 0


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_while_mlflow_is_behind_its_files_stay(ended: Project, dry: tuple[str, ...]) -> None:
    before = tree(ended.directory().trials)
    with ended.directory().follower_lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = ended.sweep("clean", "s-1", *dry)
    assert done.code == 1 and "still being brought to MLflow" in done.err
    assert tree(ended.directory().trials) == before


def test_links_out_of_the_folder_are_not_followed(ended: Project) -> None:
    """Whatever a trial put in place of its files, and whatever path it reported."""
    outside = ended.path / "precious"
    for name in ("a", "b", "c/1/checkpoints/0"):
        (outside / name).mkdir(parents=True)
        (outside / name / "file").write_text("mine")
    (outside / "c/1/output.log").write_text("mine")
    best = ended.sweep("best", "--json").json["trials"][0]["number"]
    others = [number for number in range(3) if number != best]
    first, second = (ended.directory().attempt(number, 1) for number in others)
    shutil.rmtree(first.checkpoints)
    first.checkpoints.symlink_to(outside)
    (second.checkpoints / "9").symlink_to(outside / "a")
    (second.checkpoints / "1" / "deep").symlink_to(outside / "b")
    second.output.unlink()
    second.output.symlink_to(outside / "a" / "file")
    (ended.directory().trials / "7").symlink_to(outside / "c")
    lines = (
        ended.directory()
        .journal.read_text()
        .replace(f"trials/{others[1]}/1/checkpoints/2", "trials/../../../precious/a")
    )
    ended.directory().journal.write_text(lines)
    precious = tree(outside)
    done = ended.sweep("clean", "s-1", "--no-keep-best", "--json")
    assert done.code == 0, done.err
    assert done.json["freed"] == 6 * SIZE + 2000, "the links held nothing"
    assert tree(outside) == precious
    assert (
        not first.checkpoints.is_symlink() and not second.checkpoints.exists() and not second.output.is_symlink()
    )
    assert ended.sweep("clean", "s-1", "--purge").code == 0
    assert tree(outside) == precious and not ended.directory().path.exists()


def test_a_job_keeps_what_it_made(project: Project) -> None:
    project.write("job.py", TRAIN)
    project.sweep(
        "submit",
        "--devices",
        "cpu:1",
        "--",
        "python",
        "job.py",
        "1",
        env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )
    wait_for(lambda: project.sweep("list", "--json").json["sweeps"][0]["state"] == "FINISHED", "its end")
    for pid in project.processes():
        os.kill(pid, signal.SIGTERM)  # the follower, which has nowhere to send to
    wait_for(lambda: not project.processes(), "its follower's end")
    done = project.sweep("clean", "job", "--json")
    assert done.code == 0, done.err
    assert [Path(path).name for path in done.json["sweeps"][0]["kept"]] == ["2"]
    assert [path.parent.name for path in project.path.rglob("model")] == ["2"]


def test_what_cannot_be_removed_is_named(
    ended: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ended.path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match="checkpoints/0: Permission denied"):
        clean("s-1", None, keep_best=True, purge=True, dry_run=False, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["freed"] < SIZE and said["sweeps"][0]["checkpoints"] == 0
    monkeypatch.undo()
    assert ended.sweep("status").code == 0, "the journal goes last, so a purge can be done again"
    assert ended.sweep("clean", "s-1", "--purge").code == 0 and not ended.directory().path.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a sweep, an age or a size"),
        (("--keep-size", "much"), "a size such as 50MB"),
        (("s-1", "--archive", "--purge"), "--archive keeps all of it"),
        (("s-1", "--older-than", "30d"), "not both"),
        (("--older-than", "30"), "no duration"),
        (("--older-than", "a week"), "such as 30d"),
        (("s-1", "--purge", "--keep-best"), "--purge leaves nothing"),
    ],
)
def test_what_is_not_clear_is_not_done(project: Project, words: tuple[str, ...], says: str) -> None:
    done = project.sweep("clean", *words)
    assert done.code == 2 and says in done.err and not done.out


def test_ages() -> None:
    assert [age(text) for text in ("30d", "12h", "1.5m", "0s")] == [30 * 86400, 12 * 3600, 90, 0]
    for text in ("", "d", "-1d", "30 days"):
        with pytest.raises(UsageError):
            age(text)
