"""Whole sweeps whose MLflow server is down, fails or hangs: no trial minds, and in the end all is there once."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from e2e_kit import Project, alive, wait_for
from mlflow import MlflowClient
from mlflow_kit import Proxy, Server, dump, free_port

from sweep import journal

TRAIN = """
    import os, sys, time, sweep
    trial, x = sweep.current_trial(), float(sys.argv[1])
    for step in range(3):
        trial.report(step, acc=x + step, loss=1 / (step + 1))
        with trial.checkpoint(step) as folder:
            open(f"{folder}/weights", "w").write(str(step))
    print("trained with", x)
    while os.environ["SWEEP_TRIAL"] in ("2", "3") and not os.path.exists("go"):
        time.sleep(0.02)
"""
WAITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}


def lag(project: Project) -> dict[str, Any]:
    found = project.sweep("status", "--json").json["mlflow"]["lag"]
    return found or {"error": None, "complete": False, "followed": False}


def follower(project: Project) -> int:
    return int(json.loads(project.directory().mlflow.read_text())["pid"])


def assert_all_of_it_is_in_mlflow(project: Project, server: Server, experiment: str) -> None:
    """Compares what the server knows with the journal: runs, points, parameters, ends, files; each once."""
    sweep = journal.replay(project.directory().journal)
    told = dump(MlflowClient(server.url), experiment, sweep.id)  # asserts that no run is there twice
    assert set(told) == {sweep.id, *(f"{sweep.id}/{number}" for number in sweep.trials)}
    assert told[sweep.id]["status"] == "FINISHED"
    assert told[sweep.id]["tags"]["sweep.best_trial"] == str(sweep.best)
    reported: dict[int, dict[str, list[tuple[int, int, str]]]] = {number: {} for number in sweep.trials}
    for event in project.events("Reported"):
        for key, value in event["metrics"].items():
            point = (event["step"], round(event["at"] * 1000), repr(value))
            reported[event["trial"]].setdefault(key, []).append(point)
    for number, trial in sweep.trials.items():
        run = told[f"{sweep.id}/{number}"]
        points = {key: found for key, found in run["metrics"].items() if not key.startswith("system/")}
        assert points == {key: sorted(found) for key, found in reported[number].items()}, number
        assert run["params"] == {key: str(value) for key, value in trial.params.items()}
        assert (run["status"], run["tags"]["sweep.state"]) == ("FINISHED", "COMPLETE")
        assert run["tags"]["mlflow.parentRunId"] == f"<{sweep.id}>"
        best = ["checkpoint/weights"] if number == sweep.best else []
        assert run["artifacts"] == [*best, "output/attempt-1.log"]
    assert told[sweep.id]["artifacts"] == ["source.json", "space.yaml"]


def test_a_server_that_is_down_all_through(project: Project, mlflow_server: Server) -> None:
    port = free_port()
    project.write("train.py", TRAIN)
    project.write("go", "")
    project.space(trials=5, mlflow={"tracking_uri": f"http://127.0.0.1:{port}", "experiment": "down"})
    done = project.sweep("run", "--plain", "space.yaml", env=WAITS)
    assert done.code == 0, done.err
    missing = f"{len(project.events())} events not in MLflow yet"
    assert f"{missing}: the MLflow store http://127.0.0.1:{port} cannot be reached" in done.out
    assert project.directory().follower_log.read_text().count("cannot be reached") == 1
    said = lag(project)
    assert said["followed"] and not said["complete"] and said["events"] == len(project.events())
    assert project.sweep("status", "--json").json["counts"]["COMPLETE"] == 5

    os.kill(follower(project), signal.SIGKILL)
    wait_for(lambda: not lag(project)["followed"], "the follower's death")
    assert "nobody sends them" in (told := project.sweep("status").out) and "`sweep sync s-1` does" in told
    refused = project.sweep("sync", env=WAITS)  # starts another
    assert refused.code == 1 and missing in refused.err and "in the background for a day" in refused.err
    assert lag(project)["followed"]

    proxy = Proxy(port, mlflow_server.port)
    assert "MLflow has all of it" in project.sweep("sync").out
    wait_for(lambda: not lag(project)["followed"], "the follower's end")
    proxy.close()
    assert_all_of_it_is_in_mlflow(project, mlflow_server, "down")
    assert "not in MLflow" not in project.sweep("status").out


def test_a_server_that_fails_hangs_and_is_slow_while_everybody_is_killed(
    project: Project, mlflow_server: Server
) -> None:
    proxy = Proxy(0, mlflow_server.port)
    project.write("train.py", TRAIN)
    project.space(trials=6, mlflow={"tracking_uri": proxy.uri, "experiment": "ill"})
    controller = project.start("run", "--plain", "space.yaml", env=WAITS, stdout=None, stderr=None)
    try:
        wait_for(lambda: project.directory().mlflow.exists() and lag(project).get("events") == 0, "the first two")
        proxy.mode = lambda path: "500"
        wait_for(lambda: len(project.events("AttemptStarted")) == 4, "two that are held up")
        wait_for(lambda: "error 500" in project.log(), "the failure to be said")
        os.kill(follower(project), signal.SIGKILL)
        controller.kill()
        controller.wait()
        project.started.remove(controller)
        proxy.mode = lambda path: "hang"
        (project.path / "go").touch()
        done = project.sweep("resume", "--json", env=WAITS)
        assert done.json["counts"]["COMPLETE"] == 6
        assert "does not answer in time" in done.json["mlflow"]["lag"]["error"]
        proxy.mode = lambda path: "slow"
        proxy.late.set()
        assert "MLflow has all of it" in project.sweep("sync").out
        wait_for(lambda: not alive(follower(project)), "the follower's end")
    finally:
        proxy.close()
    assert_all_of_it_is_in_mlflow(project, mlflow_server, "ill")
    said = [line.split(": ", 1)[1] for line in project.log().splitlines() if "MLflow:" in line]
    assert len(said) == len(set(said)) <= 4, said
