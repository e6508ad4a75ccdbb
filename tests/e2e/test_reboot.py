"""The machine restarts: all that ran is gone, and the numbers of its processes belong to others by then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for

from sweep.launch.process import boot_id, start_time
from sweep.rundir import locked

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# the first attempt makes two whole checkpoints, and never ends its third
TRAIN = """
    import os, time, sweep
    trial = sweep.current_trial()
    start = trial.resume()
    with open("starts", "a") as file:
        file.write(f"{trial.number} {trial.attempt} {start and os.path.basename(start)}\\n")
    for step in range(int(os.path.basename(start)) + 1 if start else 0, 4):
        trial.report(step, acc=step)
        with trial.checkpoint(step) as directory:
            open(f"{directory}/model", "w").write(str(step))
            while step == 2 and os.path.exists("hold"):
                time.sleep(0.02)
"""


@pytest.fixture
def other_boot(tmp_path: Path) -> list[str]:
    """Words before a command for which, and for all that it starts, the machine has been restarted."""
    file = tmp_path / "boot_id"
    file.write_text("11111111-2222-4333-8444-555555555555\n")
    script = f'mount --bind "$1" {BOOT_ID} && shift && exec "$@"'
    for options in ("-m", "-Urm"):
        words = ["unshare", options, "sh", "-c", script, "sh", str(file)]
        seen = subprocess.run([*words, "cat", BOOT_ID], capture_output=True, text=True)
        if seen.stdout == file.read_text():
            return words
    pytest.skip(f"this needs a mount namespace of its own: {seen.stderr.strip()}")


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Any signal ends it."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def cut_off(project: Project) -> Project:
    """Two trials in the middle of a checkpoint, when everything ended at once."""
    project.write("train.py", TRAIN)
    (project.path / "hold").touch()
    project.space(trials=3)
    process = project.start("run", "space.yaml")
    project.wait_for(lambda: len(project.events("Checkpointed")) == 4, "two checkpoints each")
    project.wait_for(
        lambda: len(list(project.directory().trials.glob("*/1/checkpoints/*2*"))) == 2, "half a third"
    )
    for _ in range(2):  # again, for what was on its way
        for pid in project.processes():
            os.kill(pid, signal.SIGKILL)
    project.end(process)
    wait_for(lambda: not project.processes(), "the end of all")
    (project.path / "hold").unlink()
    return project


def as_told(project: Project) -> None:
    """The journal has all that happened."""


def without_answers(project: Project) -> None:
    """The last that the crash left of the journal is from before the supervisors were known."""
    journal = project.directory().journal
    lines = journal.read_bytes().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if b'"event":"AttemptStarted"' in line)
    journal.write_bytes(b"".join(lines[:first]))


def rename(project: Project, pid: int, started: int) -> None:
    """Has the sweep know its supervisors by this number and this time."""

    def changed(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "pid": pid, "start_time": started}

    for path in project.directory().trials.glob("*/*/attempt.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, "supervisor": changed(facts["supervisor"])}))
    events = [changed(one) if one["event"] == "AttemptStarted" else one for one in project.events()]
    project.directory().journal.write_text("".join(f"{json.dumps(one)}\n" for one in events))


def went_on(project: Project, document: dict[str, Any]) -> None:
    """Who ran was lost and tried again from what was whole; the third began where it had not been."""
    trials = document["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    outcomes = [[attempt["outcome"] for attempt in trial["attempts"]] for trial in trials]
    assert outcomes == [["LOST", "COMPLETED"]] * 2 + [["COMPLETED"]]
    starts = sorted((project.path / "starts").read_text().splitlines())
    assert starts == ["0 1 None", "0 2 1", "1 1 None", "1 2 1", "2 1 None"]
    assert not [path for path in project.locks.iterdir() if path.is_file() and locked(path)]


@pytest.mark.parametrize("left", [as_told, without_answers])
def test_after_a_reboot_trials_go_on_from_their_last_whole_checkpoint(
    cut_off: Project, other_boot: list[str], stranger: subprocess.Popen[bytes], left: Callable[[Project], None]
) -> None:
    """Even a process with their number that began at the same tick is another one in another boot."""
    left(cut_off)
    rename(cut_off, stranger.pid, start_time(stranger.pid) or 0)
    done = cut_off.end(cut_off.start("resume", "--json", through=other_boot))
    assert done.code == 0, done.err
    went_on(cut_off, done.json)
    assert stranger.poll() is None
    boots = [one["boot_id"] for one in cut_off.events("AttemptStarted")]
    assert boots == [boot_id()] * 2 + ["11111111-2222-4333-8444-555555555555"] * 3


@pytest.mark.parametrize("left", [as_told, without_answers])
def test_a_process_that_has_the_number_of_a_dead_one_is_left_alone(
    cut_off: Project, stranger: subprocess.Popen[bytes], left: Callable[[Project], None]
) -> None:
    left(cut_off)
    rename(cut_off, stranger.pid, (start_time(stranger.pid) or 0) - 1)
    done = cut_off.sweep("resume", "--json")
    assert done.code == 0, done.err
    went_on(cut_off, done.json)
    assert stranger.poll() is None


def test_nor_is_it_stopped_with_the_sweep(cut_off: Project, stranger: subprocess.Popen[bytes]) -> None:
    rename(cut_off, stranger.pid, (start_time(stranger.pid) or 0) - 1)
    done = cut_off.sweep("stop", "--now", "--json")
    assert done.code == 0, done.err
    assert done.json["state"] == "FAILED" and done.json["counts"]["FAIL"] == 2
    assert stranger.poll() is None
