"""A sweep from another terminal: started behind, looked at, changed, ended; with and without a controller."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for

# reports 20 times a second until `go` lies in the project's folder
TRAIN = """
import os, sys, time, sweep
trial = sweep.current_trial()
with open("started", "a") as log:
    log.write(f"{trial.number}\\n")
until = time.time() + 60
step = 0
while True:
    trial.report(step, acc=float(sys.argv[1]) + step)
    step += 1
    if time.time() > until or os.path.exists("go"):
        break
    time.sleep(0.05)
print("ends at step", step, flush=True)
"""


@pytest.fixture
def background(project: Project) -> Callable[..., dict[str, Any]]:
    project.write("train.py", TRAIN)

    def start(**keys: Any) -> dict[str, Any]:
        project.space(**keys)
        done = project.sweep("run", "-d", "space.yaml", "--json")
        assert done.code == 0, done.err
        return done.json

    return start


def document(project: Project, *words: str) -> dict[str, Any]:
    done = project.sweep("status", *words, "--json")
    assert done.code == 0, done.err
    return done.json


def reporting(project: Project, count: int) -> Callable[[], bool]:
    """Whether so many trials have said something."""
    return lambda: len({event["trial"] for event in project.events("Reported")}) >= count


def test_it_returns_at_once_and_goes_on_without_its_terminal(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    began = time.monotonic()
    said = background(trials=4)
    assert time.monotonic() - began < 10
    assert set(said) == {"id", "directory", "controller"} and said["id"] == "s-1"
    pid = said["controller"]["pid"]
    assert os.getsid(pid) == pid, "a session of its own: no terminal can take it along"
    os.kill(pid, signal.SIGHUP)
    wait_for(reporting(project, 2), "two trials")
    now = document(project)
    assert now["state"] == "RUNNING" and now["controller"] == {"pid": pid, "alive": True}
    assert now["counts"]["RUNNING"] == 2
    project.write("go", "")
    wait_for(lambda: document(project)["state"] == "FINISHED", "its end")
    assert document(project)["counts"]["COMPLETE"] == 4


def test_a_mistake_is_said_before_it_detaches(project: Project) -> None:
    project.space(command="python nowhere.py {x}")
    done = project.sweep("run", "-d", "space.yaml")
    assert done.code == 2 and "nowhere.py" in done.err
    assert not (project.path / "sweeps").exists()


def test_stop_ends_the_whole_tree_and_waits_for_it(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    background(trials=6)
    wait_for(reporting(project, 2), "two trials")
    done = project.sweep("stop", "--json")
    assert done.code == 0, done.err
    ended = done.json
    assert ended["state"] == "FAILED" and ended["counts"]["RUNNING"] == 0
    assert {trial["outcome"] for trial in ended["trials"] if trial["attempts"]} == {"STOPPED"}
    assert not project.processes("SWEEP_ID=s-1")
    again = project.sweep("stop", "s")
    assert again.code == 2 and "ended already" in again.err


def test_one_trial_is_stopped_and_the_rest_goes_on(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    background(trials=3)
    wait_for(reporting(project, 2), "two trials")
    assert project.sweep("stop", "--trial", "0", "--now").code == 0
    now = document(project)
    assert now["trials"][0]["state"] == "FAIL" and now["trials"][0]["outcome"] == "STOPPED"
    wait_for(reporting(project, 3), "the third trial, on the slot that is free")
    assert project.sweep("stop", "--trial", "9").code == 3
    project.write("go", "")
    wait_for(lambda: document(project)["state"] == "FINISHED", "its end")


def test_pause_set_enqueue_resume(project: Project, background: Callable[..., dict[str, Any]]) -> None:
    background(trials=50, slots=1)
    wait_for(reporting(project, 1), "a trial")
    assert project.sweep("pause").code == 0
    assert document(project)["state"] == "PAUSED"
    assert project.sweep("enqueue", "s", "x=0.125").code == 0
    assert project.sweep("set", "s", "trials=4", "slots=2").code == 0
    wrong = project.sweep("enqueue", "s", "y=1")
    assert wrong.code == 2 and "y" in wrong.err and "x" in wrong.err
    assert project.sweep("set", "s", "colour=red").code == 2
    assert project.sweep("pause").code == 2, "it is paused already"
    time.sleep(0.5)
    assert len(project.path.joinpath("started").read_text().split()) == 1
    project.write("go", "")
    wait_for(lambda: document(project)["counts"]["COMPLETE"] == 1, "the one that ran")
    assert document(project)["state"] == "PAUSED"
    resumed = project.sweep("resume", "--json")
    assert resumed.code == 0 and resumed.json["id"] == "s-1", "one document, as the other orders have"
    wait_for(lambda: document(project)["state"] == "FINISHED", "its end")
    ended = document(project)
    assert ended["counts"]["COMPLETE"] == 4
    assert 0.125 in [trial["params"]["x"] for trial in ended["trials"]]


def test_without_a_controller_orders_wait_and_stop_acts(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    pid = background(trials=50)["controller"]["pid"]
    wait_for(reporting(project, 2), "two trials")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: document(project)["state"] == "INTERRUPTED", "the kernel to free its lock")
    assert "sweep resume s-1" in project.sweep("status").out
    said = project.sweep("set", "s", "trials=3")
    assert said.code == 0 and "sweep resume s-1" in said.out
    assert len(project.processes("SWEEP_ID=s-1")) >= 2, "they train on"
    assert project.sweep("stop").code == 0
    assert not project.processes("SWEEP_ID=s-1")
    ended = document(project)
    assert ended["state"] == "FAILED" and ended["counts"]["RUNNING"] == 0
    limits = project.events("LimitsSet")
    assert [one["trials"] for one in limits] == [3], "the order that had waited was carried out, once"


def test_an_ended_sweep_is_extended_and_its_failures_run_again(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    project.write("train.py", "import sys, sweep\nsweep.current_trial().report(0, acc=float(sys.argv[1]))\n")
    document_ = project.run(trials=3)
    assert document_["counts"]["COMPLETE"] == 3
    done = project.sweep("resume", "--trials", "5", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["COMPLETE"] == 5 and done.json["id"] == "s-1"
    assert project.sweep("resume", "--failed").code == 1, "there are none"
    assert project.sweep("stop", "--trial", "1").code == 2, "it has ended"
    assert project.sweep("stop", "--trial", "9").code == 3, "there never was one"


def test_failed_trials_run_again_with_the_same_parameters(project: Project) -> None:
    project.write(
        "train.py",
        """
        import os, sys, sweep
        assert os.path.exists("mended") or sweep.current_trial().number != 1
        sweep.current_trial().report(0, acc=float(sys.argv[1]))
        """,
    )
    first = project.run(trials=3)
    assert first["counts"]["FAIL"] == 1
    project.write("mended", "")
    done = project.sweep("resume", "--failed", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"] == {**first["counts"], "COMPLETE": 3}
    assert done.json["trials"][3]["params"] == first["trials"][1]["params"]


def test_logs_grow_until_the_trial_has_ended(project: Project, background: Callable[..., dict[str, Any]]) -> None:
    background(trials=1)
    wait_for(reporting(project, 1), "a trial")
    follower = project.start("logs", "0", "-f")
    time.sleep(0.5)
    assert follower.poll() is None
    project.write("go", "")
    done = project.end(follower)
    assert done.code == 0 and "ends at step" in done.out
    wait_for(lambda: document(project)["state"] == "FINISHED", "its end")
    assert project.sweep("logs", "s", "0", "-n", "1").out == done.out.splitlines(keepends=True)[-1]
    told = project.sweep("logs", "--json", "0").json
    assert {key: told[key] for key in ("id", "trial", "attempt")} == {"id": "s-1", "trial": 0, "attempt": 1}
    assert told["lines"] == done.out.splitlines() and Path(told["path"]).is_file()
    assert "trial 0 complete" in project.sweep("logs").out, "of the controller"
    assert project.sweep("logs", "s", "7").code == 3


def test_attach_shows_what_happens_and_stops_nothing(
    project: Project, background: Callable[..., dict[str, Any]]
) -> None:
    background(trials=2)
    wait_for(reporting(project, 2), "two trials")
    first = project.start("attach", "--plain")
    time.sleep(3.0)  # until it looks on: nothing tells that
    first.send_signal(signal.SIGINT)
    assert "goes on" in project.end(first).out
    second = project.start("attach", "--plain")
    time.sleep(3.0)
    project.write("go", "")
    done = project.end(second)
    assert done.code == 0 and "trial 1 complete" in done.out and "s-1 finished" in done.out
    assert project.sweep("attach", "--json").json["state"] == "FINISHED"


def test_why_tells_the_story_of_a_trial(project: Project) -> None:
    project.write(
        "train.py",
        """
        import sys, time, sweep
        trial = sweep.current_trial()
        if trial.number == 1:
            raise ValueError("no such luck")
        for step in range(100):
            trial.report(step, acc=-1.0 if trial.number == 2 and step > 2 else 1.0)
            time.sleep(0.05 if trial.number == 2 else 0)
        """,
    )
    project.run(trials=3, pruner={"name": "threshold", "lower": 0.0})
    assert "COMPLETE" in project.sweep("why", "0").out
    assert "ValueError: no such luck" in project.sweep("why", "s-1", "1").out
    assert "the pruner gave it up at step 3 (acc -1)" in project.sweep("why", "2").out
    told = project.sweep("why", "2", "--json").json
    assert told["trial"] == 2 and all(set(one) == {"at", "text"} for one in told["events"])
    assert project.sweep("why", "9").code == 3
    assert project.sweep("why").code == 2


def test_why_counts_the_reports_of_each_attempt(project: Project) -> None:
    project.write(
        "train.py",
        """
        import sweep
        trial = sweep.current_trial()
        for step in range(2):
            trial.report(step, acc=1)
        raise ValueError
        """,
    )
    project.run(1, trials=1, retry={"times": 1, "on": ["crashed"], "backoff": 0})
    told = project.sweep("why", "0").out
    assert told.count("ended CRASHED after 2 reports") == 2


def test_jobs_run_one_after_another_in_the_order_of_their_submission(project: Project) -> None:
    project.write(
        "job.py",
        """
        import sys, time
        with open("order", "a") as log:
            log.write(sys.argv[1])
        time.sleep(0.3)
        with open("order", "a") as log:
            log.write(sys.argv[1].upper())
        print("said by", sys.argv[1:])
        """,
    )
    for name in "abcd":
        done = project.sweep(
            "submit", "--devices", "cpu:1", "--json", "--", "python", "job.py", name, "{x}", "a b"
        )
        assert done.code == 0, done.err
    assert done.json["id"] == "job-4"

    def states() -> list[str]:
        return [one["state"] for one in project.sweep("list", "--json").json["sweeps"]]

    wait_for(lambda: states() == ["FINISHED"] * 4, "four jobs")
    assert Path(project.path, "order").read_text() == "aAbBcCdD"
    assert project.sweep("logs", "job-2", "0").out == "said by ['b', '{x}', 'a b']\n"
    job = document(project, "job-2")
    assert job["counts"]["COMPLETE"] == 1 and job["best"] is None
    wait_for(lambda: not project.processes(), "MLflow's followers", 60)


def test_a_job_takes_keys_of_space_yaml(project: Project) -> None:
    words = ("--json", "--set", "mlflow=false", "--set", "env.WHO=me", "--set", "trial_timeout=0.5", "--name", "7")
    done = project.sweep("submit", *words, "--", "sh", "-c", "echo $WHO; exec sleep 60")
    assert done.json["id"] == "7-1", done.err
    wait_for(lambda: document(project)["state"] == "FAILED", "its end")
    assert document(project)["trials"][0]["outcome"] == "TIMED_OUT" and project.output(0, name="7-1") == "me\n"
    wrong = project.sweep("submit", "--devices", "foo", "--", "true")
    assert wrong.code == 2 and "found the text 'foo'" in wrong.err and "Traceback" not in wrong.err


def test_a_job_that_fails_says_so(project: Project) -> None:
    assert project.sweep("submit", "--", "nosuchprogram").code == 2
    assert project.sweep("submit").code == 2
    done = project.sweep("submit", "--json", "--", "python", "-c", "raise SystemExit(3)")
    wait_for(lambda: document(project)["state"] == "FAILED", "its end")
    assert "exit code 3" in document(project)["trials"][0]["why"]
    assert json.loads(done.out)["controller"]["pid"]
    wait_for(lambda: not project.processes(), "MLflow's follower", 60)
