"""What a sweep takes of the disk: output without end, a budget for checkpoints, a folder that is taken away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_kit import Project, alive, opened

KEEP = 4_000_000


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with opened(tmp_path) as project:
        yield project


FLOOD = """
    import os, sweep, time
    trial = sweep.current_trial()
    os.write(1, b"the first line\\n")
    if trial.number == 0:
        noise = os.urandom(1 << 20)
        for _ in range(200):
            os.write(1, noise)
            time.sleep(0.002)
        os.write(1, b"\\nthe last line\\n")
    trial.report(0, acc=1.0)
"""


def test_output_without_end_is_bounded_while_it_is_written(project: Project) -> None:
    project.write("train.py", FLOOD)
    project.space(trials=2, devices="cpu:1", logs="4MB")
    process = project.start("run", "space.yaml", "--json")
    output = project.directory().attempt(0, 1).output
    most = length = 0
    while process.poll() is None:
        try:
            found = output.stat()
        except OSError:
            continue
        most, length = max(most, found.st_blocks * 512), max(length, found.st_size)
    done = project.end(process)
    assert done.code == 0 and [one["outcome"] for one in done.json["trials"]] == ["COMPLETED"] * 2, done.err
    assert length > 40 * KEEP, "nothing was taken out of the command's way"
    assert most < 10 * KEEP  # a busy machine may let the supervisor wait while the command writes on
    text = output.read_bytes()
    assert len(text) <= KEEP and text.startswith(b"the first line\n") and text.endswith(b"\nthe last line\n")
    assert text.count(b" MB left out \xe2\x80\xa6\n") == 1
    assert project.sweep("logs", "0", "-n", "1").out == "the last line\n"


def test_logs_of_a_running_trial_step_over_what_is_left_out(project: Project) -> None:
    project.write(
        "train.py",
        """
        import os, time
        for number in range(200_000):
            os.write(1, b"line %07d of the output\\n" % number)
        while not os.path.exists("end"):
            time.sleep(0.01)
        """,
    )
    project.space(trials=1, logs="1MB", fail_fast=0)
    process = project.start("run", "space.yaml", "--json")
    output = project.directory().attempt(0, 1).output
    whole = 200_000 * len("line 0000000 of the output\n")
    project.wait_for(lambda: output.exists() and output.stat().st_size == whole, "the output")
    project.wait_for(lambda: output.stat().st_blocks * 512 <= 1_000_000, "room")
    shown = project.sweep("logs", "0").out
    assert "\0" not in shown and shown.count("left out") == 1 and len(shown) <= 1_000_000
    assert shown.startswith("line 0000000 ") and shown.endswith("line 0199999 of the output\n")
    assert project.sweep("logs", "0", "-n", "2").out.split()[1::5] == ["0199998", "0199999"]
    (project.path / "end").touch()
    project.end(process)


def test_checkpoints_that_lose_make_room_for_the_budget(project: Project) -> None:
    project.write(
        "train.py",
        """
        import os, sweep, time
        trial = sweep.current_trial()
        trial.report(1, acc=trial.params["x"])
        with trial.checkpoint(1) as folder:
            open(folder + "/model", "wb").write(os.urandom(3_000_000))
        while trial.number == 2 and "CheckpointDropped" not in open("sweeps/s-1/journal.jsonl").read():
            time.sleep(0.1)
        """,
    )
    xs = [0.9, 0.1, 0.5, 0.2]
    document = project.run(
        devices="cpu:1", trials=4, enqueue=[{"x": x} for x in xs], disk={"budget": "7MB", "reserve": 0}
    )
    dropped = project.events("CheckpointDropped")
    assert [one["trial"] for one in dropped] == [1], "neither the best one nor the one that runs"
    assert "MB of the 7 MB" in dropped[0]["why"]
    assert document["best"]["number"] == 0 and document["best"]["checkpoint"]
    assert document["trials"][1]["checkpoint"] is None
    assert not (project.directory().path / dropped[0]["directory"]).exists()
    assert "was removed" in project.sweep("why", "1").out


def test_launches_wait_where_nothing_may_go(project: Project) -> None:
    project.write(
        "train.py",
        """
        import os, sweep, time
        trial = sweep.current_trial()
        trial.report(1, acc=trial.params["x"])
        if trial.number == 0:
            open(trial.directory + "/large", "wb").write(os.urandom(3_000_000))
            while "LaunchesHeld" not in open("sweeps/s-1/journal.jsonl").read():
                time.sleep(0.1)
        """,
    )
    project.space(devices="cpu:1", trials=2, disk="1MB")
    process = project.start("run", "space.yaml", "--json")
    project.wait_for(lambda: project.events("AttemptEnded"), "the first trial")
    status = json.loads(project.sweep("status", "--json").out)
    assert "no checkpoint is left that may go" in status["hold"]
    assert status["hold"] in " ".join(project.sweep("status").out.split())
    assert status["hold"] in project.sweep("why", "1").out
    (project.directory().attempt(0, 1).path / "large").unlink()
    done = project.end(process)
    assert done.code == 0 and done.json["counts"]["COMPLETE"] == 2 and done.json["hold"] == ""
    started = [one["seq"] for one in project.events("AttemptStarted")]
    holds = [one["seq"] for one in project.events("LaunchesHeld")]
    assert len(holds) == 2 and started[0] < holds[0] < holds[1] < started[1]


def test_a_sweep_whose_folder_is_taken_away_ends_with_a_word_and_its_trials_do_not(project: Project) -> None:
    project.write(
        "train.py",
        """
        import os, sweep, time
        trial = sweep.current_trial()
        for step in range(5000):
            trial.report(step, acc=0.5)
            time.sleep(0.01)
            if os.path.exists("end"):
                break
        open(f"ended-{trial.number}", "w")
        """,
    )
    project.space(trials=10, mlflow=None)
    process = project.start("run", "space.yaml")
    project.wait_for(lambda: len({one["trial"] for one in project.events("Reported")}) == 2, "two trials")
    shutil.rmtree(project.path / "sweeps", ignore_errors=True)
    shutil.rmtree(project.path / "sweeps", ignore_errors=True)  # whatever was written meanwhile
    done = project.end(process)
    assert done.code == 1 and "Traceback" not in done.err
    assert f"the folder of s-1 was deleted or moved: {project.path}/sweeps/s-1" in done.err
    pids = [int(pid) for pid in done.err.rpartition("kill ")[2].split()]
    assert len(pids) == 2 and all(map(alive, pids)), "they train on"
    (project.path / "end").touch()
    project.wait_for(lambda: (project.path / "ended-0").exists() and (project.path / "ended-1").exists(), "ends")
    project.wait_for(lambda: not any(map(alive, pids)), "their supervisors' end")
    devices = json.loads(project.sweep("devices", "--json").out)["devices"]
    assert all(slot["holder"] is None for device in devices for slot in device["slots"])
    assert not (project.path / "sweeps").exists()
    assert not (project.path / "ended-2").exists()
