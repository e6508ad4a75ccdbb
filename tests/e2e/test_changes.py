"""A file that is edited while its sweep lies there without a controller: what `run` and `resume` make of it."""

from __future__ import annotations

import os
import signal
from typing import Any

from e2e_kit import Project, wait_for

from sweep import journal

TRAIN = """
import os, sys, time, sweep
trial = sweep.current_trial()
x = float(sys.argv[1])
trial.report(0, acc=-(x - 0.2) ** 2)
until = time.time() + 60
while not os.path.exists("go") and time.time() < until:
    time.sleep(0.05)
print(os.environ.get("GREETING"), flush=True)
"""
X = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


def interrupted(project: Project) -> dict[str, Any]:
    """A sweep with two trials that train on after their controller was killed."""
    project.write("train.py", TRAIN)
    project.space(trials=20, space=X, seed=1)
    said = project.sweep("run", "-d", "space.yaml", "--json").json
    wait_for(lambda: len(project.events("Reported")) == 2, "two trials")
    os.kill(said["controller"]["pid"], signal.SIGKILL)
    wait_for(lambda: project.sweep("status", "--json").json["state"] == "INTERRUPTED", "its death")
    return said


def test_run_takes_the_interrupted_sweep_up_with_what_changed(project: Project) -> None:
    interrupted(project)
    project.space(trials=20, space=X, seed=1, metric="loss")
    refused = project.sweep("run", "space.yaml")
    assert refused.code == 2 and "space.yaml:4: metric: acc -> loss: " in refused.err
    assert "--new" in refused.err and "--frozen" in refused.err
    assert len(project.events("ControllerStarted")) == 1, "nothing was begun"

    narrow = {"x": {"type": "float", "low": 0.0, "high": 0.5}}
    file = project.space(trials=5, space=narrow, seed=1, env={"GREETING": "hello"})
    project.write("go", "")
    done = project.sweep("run", "space.yaml", "--json")
    assert done.code == 0, done.err
    for line in (
        "s-1 was interrupted and goes on (`sweep run --new space.yaml` begins another)",
        "trials: 20 -> 5 (taken)",
        "space.x: float 0.0 .. 1.0 -> float 0.0 .. 0.5 (taken, for configurations from now on)",
        "env.GREETING: added (taken, for trials that start from now on)",
    ):
        assert line in done.err.splitlines()
    assert (done.json["id"], done.json["state"], done.json["counts"]["COMPLETE"]) == ("s-1", "FINISHED", 5)
    assert [project.output(number) for number in (0, 4)] == ["None\n", "hello\n"]
    before = len([event for event in project.events("TrialSampled") if event["seq"] < _change(project)["seq"]])
    assert all(trial["params"]["x"] <= 0.5 for trial in done.json["trials"][before:])
    directory = project.directory()
    assert directory.copy(1).read_text() == file.read_text() != directory.space.read_text()
    assert _change(project)["rules"] == {"trials": 5}
    best = project.sweep("best", "--json").json["trials"][0]
    assert ("GREETING=hello" in best["command"]) == (best["number"] >= 2), "as the file was when it ran"
    assert journal.replay(directory.journal).config["env"] == {"GREETING": "hello"}

    again = project.sweep("run", "-d", "space.yaml", "--json").json
    assert again["id"] == "s-2", "the first has ended"
    wait_for(lambda: project.sweep("status", "s-2", "--json").json["state"] == "FINISHED", "its end")


def _change(project: Project) -> dict[str, Any]:
    (change,) = project.events("ConfigChanged")
    return change


def test_resume_may_leave_the_file_alone_and_run_may_begin_anew(project: Project) -> None:
    interrupted(project)
    project.space(trials=2, space={"x": [0.1, 0.2]}, seed=1)
    refused = project.sweep("resume", "-d")
    assert refused.code == 2 and "space.x.type: float 0.0 .. 1.0 -> [0.1, 0.2]: Optuna cannot" in refused.err
    project.write("go", "")
    anew = project.sweep("run", "--new", "space.yaml", "--json")
    assert (anew.json["id"], anew.json["counts"]["COMPLETE"]) == ("s-2", 2)
    frozen = project.sweep("resume", "s-1", "--frozen", "--trials", "3", "--json")
    assert frozen.code == 0, frozen.err
    assert (frozen.json["id"], frozen.json["counts"]["COMPLETE"]) == ("s-1", 3)
    assert not project.events("ConfigChanged")


def test_an_ended_sweep_is_extended_by_its_file_in_the_background(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.write("go", "")
    project.run(trials=2, space=X, env={"TOKEN": "hush"})
    project.space(trials=4, space=X, env={"TOKEN": "hush hush"})
    done = project.sweep("resume", "-d")
    assert done.code == 0 and "trials: 2 -> 4 (taken)" in done.err and "hush" not in done.err
    wait_for(lambda: project.sweep("status", "--json").json["counts"]["COMPLETE"] == 4, "two more")
    wait_for(lambda: project.sweep("status", "--json").json["state"] == "FINISHED", "its end")
    assert "the file was changed: trials: 2 -> 4 (taken)" in project.log()


def test_a_running_sweep_keeps_its_file(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(trials=2, space=X)
    project.sweep("run", "-d", "space.yaml")
    wait_for(lambda: len(project.events("Reported")) == 2, "two trials")
    project.space(trials=9, space=X)
    assert "does not take over while it runs" in project.sweep("resume", "--trials", "3").err
    project.write("go", "")
    wait_for(lambda: project.sweep("status", "--json").json["state"] == "FINISHED", "its end")
    assert project.sweep("status", "--json").json["counts"]["COMPLETE"] == 3
