"""Trials on several devices at once: sweeps that want all of them, a job, a controller that dies."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for

from sweep.rundir import locked
from sweep.slots.cpu import cores

GPUS = {name: f"gpu uuid=GPU-{name} name=Fake_H200 total=100000" for name in "abcd"}
BOTH = "GPU-a,GPU-b"
# whoever computes locks a byte of each of its devices
TRAIN = """
    import fcntl, os, sys, time
    witness = os.open("witness", os.O_RDWR | os.O_CREAT)
    for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, ord(gpu[-1]))
    print(sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"], file=open("said", "a"))
    time.sleep(0.1)
    while os.path.exists("hold"):
        time.sleep(0.02)
    print("acc 1")
"""
PATTERN = {"pattern": "acc (?P<acc>.*)"}


@pytest.fixture(autouse=True)
def two_gpus(project: Project, fake_nvml: Any) -> Any:
    fake_nvml.write(GPUS["a"], GPUS["b"])
    project.env.update(fake_nvml.env)
    project.write("train.py", TRAIN)
    return fake_nvml


def space(project: Project, name: str, **keys: Any) -> str:
    file = project.space(
        **{"name": name, "command": f"python train.py {name}", "report": PATTERN, "devices": "auto", **keys}
    )
    return str(file.rename(project.path / f"{name}.yaml"))


def said(project: Project) -> list[str]:
    return (project.path / "said").read_text().splitlines()


def test_two_sweeps_that_each_want_everything_and_a_job_come_to_their_ends(project: Project) -> None:
    both = [project.start("run", space(project, name, devices_per_trial=2), "--json") for name in ("one", "two")]
    single = project.start("run", space(project, "single"), "--json")
    job = project.sweep("submit", "--devices", "2", "--name", "job", "--", "python", "train.py", "job")
    assert job.code == 0
    for process in (*both, single):
        done = project.end(process)
        assert done.code == 0, done.err
        assert {trial["state"] for trial in done.json["trials"]} == {"COMPLETE"}
    wait_for(lambda: not locked(project.directory("job-1").controller_lock), "the job")
    lines = said(project)
    assert {line for line in lines if not line.startswith("single")} == {
        f"{n} {BOTH}" for n in ("one", "two", "job")
    }
    assert len(lines) == 10
    attempt = json.loads(project.directory("job-1").attempt(0, 1).attempt.read_text())
    assert (attempt["slot"], attempt["device"]) == ("gpu-a+gpu-b", BOTH)
    assert attempt["env"]["OMP_NUM_THREADS"] == str(2 * max(1, cores() // 2))
    wait_for(lambda: not project.processes(), "the follower of the job")


def test_a_trial_on_two_devices_outlives_its_controller_and_gives_both_back(project: Project) -> None:
    (project.path / "hold").touch()
    file = space(project, "s", devices_per_trial=2, trials=2)
    process = project.start("run", file, "--json")
    project.wait_for(lambda: project.events("AttemptStarted"), "the trial")
    process.kill()
    process.wait()
    project.started.remove(process)
    told = project.sweep("devices", "--json").json["devices"]
    holders = [slot["holder"] for device in told for slot in device["slots"]]
    assert [(one["sweep"], one["trial"]) for one in holders] == [("s-1", 0)] * 2
    assert {device["health"] for device in told} == {"ok"}, "its processes are no strangers on either"
    resumed = project.start("resume", "--json")
    wait_for(lambda: len(project.events("ControllerStarted")) == 2, "the next controller")
    (project.path / "hold").unlink()
    done = project.end(resumed)
    assert done.code == 0, done.err
    assert [(len(t["attempts"]), t["attempts"][0]["slot"]) for t in done.json["trials"]] == [
        (1, "gpu-a+gpu-b")
    ] * 2
    assert not any(locked(project.locks / name) for name in ("gpu-a", "gpu-b"))


def test_other_pairs_are_made_of_what_is_free(project: Project, two_gpus: Any) -> None:
    """Three devices, pairs: whichever are free together make the next one."""
    two_gpus.write(*(GPUS[name] for name in "abc"))
    held = os.open(project.path / "held", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    blocker = project.start("exec", "--devices", "[0]", "--", "flock", "held", "true", pass_fds=[])
    wait_for(lambda: (project.locks / "gpu-a").exists() and locked(project.locks / "gpu-a"), "the first")
    process = project.start("run", space(project, "s", devices_per_trial=2, trials=30), "--json")
    project.wait_for(lambda: project.events("AttemptStarted"), "the trial")
    os.close(held)
    assert project.end(blocker).code == 0
    other = project.sweep("exec", "--devices", "[2]", "--", "true")
    assert other.code == 0
    project.sweep("set", "s-1", "trials=3")
    assert project.end(process).code == 0
    pairs = {event["slot"] for event in project.events("SlotOffered")}
    assert "gpu-b+gpu-c" in pairs and pairs <= {"gpu-b+gpu-c", "gpu-a+gpu-b", "gpu-a+gpu-c"}


def test_what_there_is_too_little_of_is_said_before_anything_begins(project: Project) -> None:
    file = space(project, "s", devices_per_trial=3)
    for words in (("run", file), ("check", file), ("submit", "--devices", "3", "--", "true")):
        done = project.sweep(*words)
        assert done.code == 2 and "3 devices at once wanted, but there are 2" in done.err
    assert not Path(project.path, "sweeps").exists()
    assert "at least one" in project.sweep("submit", "--devices", "0", "--", "true").err
