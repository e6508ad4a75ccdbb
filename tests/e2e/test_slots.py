"""Slots and time: nobody gets what somebody else holds, and limits hold."""

from __future__ import annotations

import json
import signal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for

from sweep.config.scalars import HIGHEST_PRIORITY
from sweep.rundir import locked

# writes down when it began and ended, on which slot, and what it was shown of the devices
TRAIN = """
    import json, os, time, sweep
    trial = sweep.current_trial()
    slot = json.load(open(trial.directory + "/attempt.json"))["slot"]
    begun = time.monotonic()
    for step in range(3):
        trial.report(step, acc=1)
        time.sleep(0.05)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open("turns", "a") as file:
        file.write(json.dumps([slot, begun, time.monotonic(), trial.sweep, shown]) + "\\n")
"""
GPUS = ("gpu uuid=GPU-aaaaaaaa-0 name=Fake_H100", "gpu uuid=GPU-bbbbbbbb-0 name=Fake_H100")
Turn = tuple[str, float, float, str, str]


def turns(project: Project) -> list[Turn]:
    return [tuple(json.loads(line)) for line in (project.path / "turns").read_text().splitlines()]


def at_once(found: list[Turn]) -> list[tuple[Turn, Turn]]:
    return [(one, other) for one, other in combinations(found, 2) if one[1] < other[2] and other[1] < one[2]]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_two_sweeps_never_hold_one_slot_at_once(project: Project, fake_nvml: Any, kind: str) -> None:
    fake_nvml.write(*GPUS)
    project.env.update(fake_nvml.env)
    project.write("train.py", TRAIN)
    project.space(trials=8, devices="cpu:2" if kind == "cpu" else "auto")
    both = [project.start("run", "space.yaml", "--json") for _ in range(2)]
    documents = [project.end(one).json for one in both]
    assert [one["counts"]["COMPLETE"] for one in documents] == [8, 8]
    found = turns(project)
    assert len(found) == 16
    assert all(one[0] != other[0] for one, other in at_once(found))
    assert {slot for slot, *_ in found} == (
        {"cpu-0", "cpu-1"} if kind == "cpu" else {"gpu-aaaaaaaa-0", "gpu-bbbbbbbb-0"}
    )
    for slot, *_, shown in found:
        assert shown == ("" if kind == "cpu" else slot.replace("gpu", "GPU"))
    for sweep in ("s-1", "s-2"):
        assert len([turn for turn in found if turn[3] == sweep]) == 8


def test_the_highest_priority_is_served_first_and_takes_nothing_away(project: Project) -> None:
    """One slot, three sweeps in line; the last to come moves to the front, by `sweep set`."""
    project.write("train.py", TRAIN)
    holder = project.start("exec", "--devices", "cpu:1", "--", "sleep", "60")
    project.wait_for(lambda: (project.locks / "cpu-0").exists() and locked(project.locks / "cpu-0"), "the holder")
    waiting = []
    for place, (name, priority) in enumerate((("first", 0), ("high", 5), ("last", -1)), start=1):
        project.space(name=name, trials=2, devices="cpu:1", priority=priority)
        waiting.append(project.start("run", "space.yaml", "--json"))
        project.wait_for(lambda place=place: tickets(project) == place, f"{name} to wait")
    assert project.sweep("set", "last", "priority=101").code == 2
    assert project.sweep("set", "last", "priority=9").code == 0
    project.wait_for(lambda: any(p.name.startswith("0991-") for p in project.locks.glob("waiting/*")), "its place")
    assert holder.poll() is None
    holder.terminate()
    assert project.end(holder).code == 128 + signal.SIGTERM
    assert [project.end(one).code for one in waiting] == [0, 0, 0]
    assert [turn[3] for turn in turns(project)] == ["last-1"] * 2 + ["high-1"] * 2 + ["first-1"] * 2


def test_jobs_and_commands_wait_by_their_priority_as_well(project: Project) -> None:
    holder = project.start("exec", "--devices", "cpu:1", "--", "sleep", "60")
    project.wait_for(lambda: (project.locks / "cpu-0").exists() and locked(project.locks / "cpu-0"), "the holder")
    say, started = ("--", "sh", "-c", "echo $0 >> order"), []
    cpu, quiet = ("--devices", "cpu:1"), ("--set", "mlflow=false")
    for place, words in enumerate(
        (
            ("submit", *cpu, *quiet, *say, "usual"),
            ("submit", *cpu, *quiet, "--priority", "5", *say, "higher"),
            ("exec", *cpu, "--priority", "9", *say, "highest"),
            ("exec", *cpu, "--priority", "-3", *say, "lowest"),
        ),
        start=1,
    ):
        started.append(project.start(*words))
        project.wait_for(lambda place=place: tickets(project) == place, f"{words[-1]} to wait")
    holder.terminate()
    project.end(holder)
    assert [project.end(one).code for one in started] == [0] * 4
    wait_for(lambda: not project.processes(), "the jobs to end")
    assert (project.path / "order").read_text().split() == ["highest", "higher", "usual", "lowest"]
    assert project.sweep("exec", "--priority", str(HIGHEST_PRIORITY + 1), "--", "true").code == 2
    assert project.sweep("exec", "--priority", str(HIGHEST_PRIORITY), *cpu, "--", "true").code == 0


def tickets(project: Project) -> int:
    return len(list((project.locks / "waiting").glob("[0-9]*")))


def test_a_sweep_waits_while_another_has_every_slot(project: Project) -> None:
    (project.path / "hold").touch()
    project.write("hold.py", "import os, time\nwhile os.path.exists('hold'): time.sleep(0.02)\nprint('acc 1')")
    project.space(command="python hold.py", report={"pattern": "acc (?P<acc>.*)"}, trials=2)
    first = project.start("run", "space.yaml", "--json")
    project.wait_for(lambda: len(project.events("AttemptStarted")) == 2, "the first sweep's trials")
    second = project.start("run", "space.yaml", "--json", "--set", "name=other", "--trials", "1")
    project.wait_for(lambda: project.events("TrialSampled", "other-1"), "the second sweep's configuration")
    assert not project.events("SlotOffered", "other-1")
    (project.path / "hold").unlink()
    for process in (first, second):
        assert project.end(process).code == 0
    assert project.events("SlotOffered", "other-1")[0]["at"] > project.events("AttemptEnded")[0]["at"]


def test_the_users_own_limit_on_slots(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.run(trials=4, slots=1, devices="cpu:3")
    assert len(turns(project)) == 4 and at_once(turns(project)) == []


def test_after_its_timeout_a_sweep_starts_nothing_more(project: Project) -> None:
    project.write("train.py", TRAIN)
    document = project.run(trials=None, timeout="0.8s")
    assert document["state"] == "FINISHED" and document["why"] == "its timeout of 0.8 s has passed"
    assert 2 <= document["counts"]["COMPLETE"] < 40 and document["counts"]["FAIL"] == 0
    (timeout,) = project.events("TimeUp")
    opened = project.events("SweepOpened")[0]["at"]
    assert 0.8 <= timeout["at"] - opened < 5
    assert all(one["at"] <= timeout["at"] for one in project.events("SlotOffered"))
    assert len(project.events("AttemptEnded")) == len(turns(project)), "those that ran have finished"


def test_a_gpu_that_is_not_there_is_named(project: Project, fake_nvml: Any) -> None:
    fake_nvml.write(*GPUS)
    project.env.update(fake_nvml.env)
    project.write("train.py", TRAIN)
    project.space(devices=[0, 7])
    done = project.sweep("run", "space.yaml")
    assert done.code == 2 and "GPU 7 is not there" in done.err and "GPU-bbbbbbbb-0" in done.err
    assert not Path(project.path, "sweeps").exists()


def test_a_gpu_whose_memory_does_not_come_back_is_quarantined_and_everybody_is_told(
    project: Project, fake_nvml: Any
) -> None:
    fake_nvml.write(*GPUS)
    project.env.update(fake_nvml.env)
    lost = f"{GPUS[0]} used=50000"
    project.write(
        "leak.py",
        "import os, time\ntime.sleep(0.5)\nwhile os.path.exists('hold'): time.sleep(0.02)\nprint('acc 1')",
    )
    (project.path / "hold").touch()
    project.space(command="python leak.py", report={"pattern": "acc (?P<acc>.*)"}, trials=4, devices=[0])
    sweep = project.start("run", "space.yaml", "--plain")
    project.wait_for(lambda: project.events("AttemptStarted"), "the first trial")
    fake_nvml.write(lost, GPUS[1])
    (project.path / "hold").unlink()
    project.wait_for(lambda: project.events("AttemptEnded"), "its end")
    # what the time limit would show in ten seconds: the word in the lock file is of a while ago
    lock = project.locks / "gpu-aaaaaaaa-0"

    def aged() -> bool:
        said = json.loads(lock.read_text() or "{}")
        if "held_back" in said:
            said["held_back"]["since"] -= 60
            lock.write_text(json.dumps(said))
        return "held_back" in said

    project.wait_for(aged, "the word in the lock file")
    told = project.wait_for(lambda: project.sweep("status", "--json").json["held_back"], "what status says")
    why = "50000 MiB of its memory are in use and have not come back since trial 0 of s-1"
    assert told[0]["slot"] == "gpu-aaaaaaaa-0" and told[0]["why"].startswith(why)
    assert f"gpu-aaaaaaaa-0 is not used: {why}" in project.sweep("status").out
    assert project.sweep("devices", "--json").json["devices"][0]["health"] == "quarantined"
    assert len(project.events("SlotOffered")) == 1
    fake_nvml.write(*GPUS)
    done = project.end(sweep)
    assert done.code == 0 and len(project.events("SlotOffered")) > 1
    assert f"GPU-aaaaaaaa-0 is not used: {why}" in project.log() and "is not held back any more" in project.log()
    assert f"is not used: {why}" in done.out, "and so says whoever watches"
