"""The follower on a SQLite store: what is in MLflow at the end, whatever happened on the way."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_kit import dump
from tracking_kit import START, Following, History, environ, followed

from sweep import rundir
from sweep.core import events as e


def client(project: Path) -> Any:
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def said(project: Path, id: str = "digits-1", experiment: str = "digits") -> dict[str, Any]:
    return dump(client(project), experiment, id)


def test_a_whole_sweep_is_in_mlflow(tmp_path: Path) -> None:
    history = History(
        tmp_path, trials=6, rules={"trials": 6, "retries": {"CRASHED": 1}}, mlflow={"register": "net"}
    )
    folder = history.directory
    rundir.write_json(folder.source, {"git": {"commit": "c0ffee", "diff": "- lr = 1\n+ lr = 2\n"}})
    history.trial(0, 0.90, output="epoch 1\n")
    history.start(1)
    history.report(1, 0, val_acc=0.2)
    history.add(e.PruneAdvised(history.tick(), 1, 1, 0))
    history.end(1, code=1, acknowledged="prune")
    history.start(2)
    history.end(2, code=3, cause="ValueError: no such layer", output="first try\n")
    history.trial(2, 0.95, output="second try\n")
    history.start(3)
    history.report(3, 0, val_acc=0.96)
    history.checkpoint(3, 0, "early")
    history.report(3, 1, val_acc=0.97)
    history.checkpoint(3, 1, "best")
    history.end(3)
    history.start(4)
    history.add(e.StopAsked(history.tick(), 4, False, "stopped by ada"))
    history.end(4, code=None, signal=15, signalled=True)
    history.start(5)
    history.end(5, code=1, cause="out of memory", hint="oom")
    log = followed(folder)

    told = said(tmp_path)
    parent = told.pop("digits-1")
    assert sorted(told) == [f"digits-1/{number}" for number in range(6)]
    assert {name: run["status"] for name, run in told.items()} == {
        "digits-1/0": "FINISHED",
        "digits-1/1": "FINISHED",
        "digits-1/2": "FINISHED",
        "digits-1/3": "FINISHED",
        "digits-1/4": "KILLED",
        "digits-1/5": "FAILED",
    }
    assert all(run["tags"]["mlflow.parentRunId"] == "<digits-1>" for run in told.values())
    first = told["digits-1/0"]
    assert first["params"] == {"lr": "0.1", "width": "0"}
    assert [value for _, _, value in first["metrics"]["val_acc"]] == ["0.88", "0.89", "0.9"]
    assert first["metrics"]["val_acc"][0][:2] == (0, round((START + 5) * 1000))
    assert first["tags"]["sweep.state"] == "COMPLETE"
    assert first["tags"]["sweep.value"] == "0.9"
    assert first["tags"]["sweep.slot"] == "cpu-0"
    assert first["tags"]["mlflow.source.git.commit"] == first["tags"]["sweep.git_commit"] == "c0ffee"
    assert first["tags"]["mlflow.source.name"] == "train.py"
    assert first["artifacts"] == ["output/attempt-1.log"]
    assert told["digits-1/1"]["tags"]["sweep.state"] == "PRUNED"
    assert told["digits-1/1"]["tags"]["sweep.why"] == "pruned at step 0"
    assert told["digits-1/2"]["tags"]["sweep.attempt"] == "2"
    assert told["digits-1/2"]["tags"]["sweep.outcome"] == "COMPLETED"
    assert told["digits-1/2"]["artifacts"] == ["output/attempt-1.log", "output/attempt-2.log"]
    assert told["digits-1/3"]["artifacts"] == ["checkpoint/model.pdparams"]
    assert told["digits-1/4"]["tags"]["sweep.outcome"] == "STOPPED"
    assert told["digits-1/5"]["tags"]["sweep.outcome"] == "OOM"
    assert "out of memory" in told["digits-1/5"]["tags"]["sweep.why"]

    assert parent["status"] == "FINISHED"
    assert parent["end"] == round(history.now * 1000)
    assert parent["params"]["metric"] == "val_acc"
    assert parent["params"]["best.width"] == "48"
    assert parent["tags"]["sweep.best_trial"] == "3"
    assert parent["tags"]["sweep.best_run_id"] == "<digits-1/3>"
    assert [value for _, _, value in parent["metrics"]["best.val_acc"]] == ["0.9", "0.95", "0.97"]
    assert parent["metrics"]["trials.complete"][0][2] == "3.0"
    assert "**val_acc 0.97**" in parent["tags"]["mlflow.note.content"]
    assert parent["artifacts"] == ["source.diff", "source.json", "space.yaml"]

    mlflow = client(tmp_path)
    (version,) = mlflow.search_model_versions("name = 'net'")
    assert version.tags["sweep.trial"] == "3"
    weights = Path(version.source.removeprefix("file://")) / "model.pdparams"
    assert weights.read_text() == "best"
    assert parent["tags"]["sweep.registered"] == "net/1"
    assert log.count("\n") == 1  # that it is registered, and nothing of MLflow's own chatter


def test_a_follower_killed_again_and_again_leaves_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for project in (one, other):
        history = History(project, trials=60, rules={"trials": 60, "retries": {"CRASHED": 1}})
        for number in range(60):
            if number % 7 == 3:
                history.start(number)
                history.end(number, code=1, cause=f"RuntimeError {number}")
            history.trial(number, 0.5 + number / 1000, reports=1, output=f"output of {number}\n")
    followed(rundir.SweepDir(one / "sweeps" / "digits-1"))
    dice = random.Random(4)
    kills = 0
    directory = rundir.SweepDir(other / "sweeps" / "digits-1")
    while True:
        with Following(directory) as following:
            following.process.join(dice.uniform(0.1, 0.4) * 1.25**kills)
            if following.process.exitcode is not None:
                assert following.process.exitcode == 0, following.log()
                break
        kills += 1
    assert kills >= 3
    assert said(other) == said(one)


def test_sending_metrics_twice_leaves_them_once(tmp_path: Path) -> None:
    history = History(tmp_path, trials=1, rules={"trials": 1})
    history.start(0)
    for at_step, value in enumerate([0.5, float("nan"), float("inf"), float("-inf"), 0.5]):
        history.report(0, at_step, val_acc=0.5, loss=value)
    history.end(0)
    followed(history.directory)
    before = said(tmp_path)
    history.directory.mlflow.unlink()
    followed(history.directory)
    assert said(tmp_path) == before
    losses = [value for _, _, value in before["digits-1/0"]["metrics"]["loss"]]
    assert losses == ["0.5", "nan", "1.7976931348623157e+308", "-1.7976931348623157e+308", "0.5"]


def test_followed_live_with_a_torn_tail_that_the_next_controller_cuts(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2})
    journal = history.directory.journal
    with Following(history.directory, line=True) as following:
        history.start(0)
        history.report(0, 0, val_acc=0.5)
        state = following.until(lambda state: state["cursor"] == journal.stat().st_size)
        run_id = state["runs"]["0"]
        mlflow = client(tmp_path)
        assert mlflow.get_run(run_id).data.metrics == {"val_acc": 0.5}
        assert mlflow.get_run(run_id).info.status == "RUNNING"

        whole = journal.read_bytes()
        torn = b'{"v":1,"seq":7,"event":"Reported","at":1763960009.0,"trial":0,"attempt":1,"step":1,"metr'
        journal.write_bytes(whole + torn)
        time.sleep(0.3)
        assert following.state()["cursor"] == len(whole)
        journal.write_bytes(whole)  # another controller cuts it off, and something else happens
        history.report(0, 1, val_acc=0.25)
        history.end(0)
        history.trial(1, 0.75)
        assert len(journal.read_bytes()) > len(whole + torn)
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
        assert following.log() == ""
    told = said(tmp_path)
    assert [value for _, _, value in told["digits-1/0"]["metrics"]["val_acc"]] == ["0.5", "0.25"]
    assert told["digits-1"]["status"] == "FINISHED"


def test_a_controller_that_vanishes_leaves_the_sweep_running_and_the_next_one_ends_it(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2})
    with Following(history.directory, line=True) as following:
        history.trial(0, 0.5)
        following.until(lambda state: "0" in state["runs"])
        following.close()  # kill -9 of the controller
        assert following.wait() == 0, following.log()
    told = said(tmp_path)
    assert told["digits-1"]["status"] == "RUNNING"
    assert told["digits-1"]["end"] is None
    assert told["digits-1/0"]["status"] == "FINISHED"

    history.add(e.ControllerStarted(history.tick(), 2, 2, "boot"))
    history.trial(1, 0.75)
    with Following(history.directory, line=True) as following:
        following.say(ending="FINISHED", why="")
        following.close()
        assert following.wait() == 0, following.log()
    told = said(tmp_path)
    assert len(told) == 3
    assert told["digits-1"]["status"] == "FINISHED"


def test_a_sweep_that_goes_on_after_its_end(tmp_path: Path) -> None:
    history = History(tmp_path, trials=1, rules={"trials": 1}, mlflow={"register": "net"})
    history.start(0)
    history.report(0, 0, val_acc=0.5)
    history.checkpoint(0, 0, "old")
    history.end(0)
    followed(history.directory)
    history.add(e.LimitsSet(history.tick(), trials=2))
    history.add(e.ResumeAsked(history.tick()))
    with Following(history.directory, line=True) as following:
        following.until(lambda state: state["lag"]["events"] == 0)
        assert said(tmp_path)["digits-1"]["status"] == "RUNNING"
        history.start(1)
        history.report(1, 0, val_acc=0.75)
        history.checkpoint(1, 0, "new")
        history.end(1)
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
        assert "best.lr" in following.log()  # a parameter that MLflow does not let change
    told = said(tmp_path)
    assert told["digits-1"]["tags"]["sweep.best_trial"] == "1"
    assert told["digits-1"]["status"] == "FINISHED"
    assert json.loads(told["digits-1"]["tags"]["sweep.best_params"])["width"] == 16
    assert len(client(tmp_path).search_model_versions("name = 'net'")) == 2


def test_the_follower_of_a_controller_that_is_gone_makes_way_for_the_next(tmp_path: Path) -> None:
    history = History(tmp_path, trials=1, rules={"trials": 1}, mlflow={"tracking_uri": "http://127.0.0.1:9"})
    with Following(history.directory, line=True) as old:
        assert "cannot be reached" in old.hear("error")
        lock = rundir.lock(history.directory.controller_lock, "the next controller")
        with Following(history.directory, line=True) as new:
            time.sleep(0.5)
            assert old.process.is_alive()
            old.close()
            assert old.wait(10) == 0, old.log()
            assert "cannot be reached" in new.hear("error")
        os.close(lock)


def test_what_mlflow_refuses_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    history = History(tmp_path, trials=3, rules={"trials": 3})
    history.start(0)
    with Following(history.directory, line=True) as following:
        gone = following.until(lambda state: "0" in state["runs"])["runs"]["0"]
        client(tmp_path).delete_run(gone)
        history.report(0, 0, val_acc=0.5)
        history.end(0)
        odd = {"map@0.5": 0.1, "map_0.5": 0.2, "../a": 0.3, "准确率": 0.4, "x" * 300: 0.5}
        history.sample(1, **{"long": "y" * 7000, "odd?": [1, "二"], "plain": 1})
        history.start(1)
        history.report(1, 0, val_acc=0.75, **odd)
        history.end(1)
        history.trial(2, 0.25)
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
        errors = following.state()["lag"]["errors"]
    assert any("deleted" in line for line in errors)
    told = said(tmp_path)
    assert set(told) == {"digits-1", "digits-1/1", "digits-1/2"}
    last = {key: points[0][2] for key, points in told["digits-1/1"]["metrics"].items()}
    assert last["map_0.5"] == "0.1"
    assert last["map_0.5_2"] == "0.2"
    assert last["__/a"] == "0.3"
    assert last["准确率"] == "0.4"
    assert last["x" * 250] == "0.5"
    params = told["digits-1/1"]["params"]
    assert len(params["long"]) == 6000 and params["long"].endswith("(cut: 7000 characters)")
    assert params["odd_"] == '[1, "二"]'


def test_a_full_disk_is_said_waited_out_and_costs_nothing(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2})
    history.start(0)
    with Following(history.directory, line=True) as following:
        following.until(lambda state: "0" in state["runs"])
        pid = following.process.pid
        full = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        history.report(0, 0, val_acc=0.5)
        assert "mlflow.db" in following.hear("error")
        history.report(0, 1, val_acc=0.75)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, full)
        assert following.hear("ok")
        history.end(0)
        history.trial(1, 0.25)
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
    assert [value for _, _, value in said(tmp_path)["digits-1/0"]["metrics"]["val_acc"]] == ["0.5", "0.75"]


def test_two_first_starts_at_once_share_a_new_store(tmp_path: Path) -> None:
    made = [
        History(tmp_path, f"digits-{number}", opened=START + number, trials=1, rules={"trials": 1})
        for number in (1, 2)
    ]
    for history in made:
        history.trial(0, 0.5)
    fresh = environ(XDG_CACHE_HOME=str(tmp_path / "cache"))
    both = [Following(history.directory, fresh) for history in made]
    for following in both:
        assert following.wait() == 0, following.log()
    assert set(said(tmp_path, "digits-1")) == {"digits-1", "digits-1/0"}
    assert set(said(tmp_path, "digits-2")) == {"digits-2", "digits-2/0"}
    default = client(tmp_path).get_experiment("0")
    assert default.artifact_location.endswith(f"{tmp_path}/mlruns/0")
    assert not list(tmp_path.glob(".mlflow*"))


def test_the_id_of_a_deleted_sweep_can_be_used_again(tmp_path: Path) -> None:
    for opened, value in ((START, 0.5), (START + 1000, 0.75)):
        history = History(tmp_path, trials=1, rules={"trials": 1}, opened=opened)
        history.trial(0, value)
        followed(history.directory)
        shutil.rmtree(history.directory.path)
    runs = client(tmp_path).search_runs(["1"], "tags.`sweep.trial` = '0'")
    assert sorted(run.data.metrics["val_acc"] for run in runs) == [0.5, 0.75]


def test_another_store_gets_everything(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2})
    history.trial(0, 0.5, output="words\n")
    followed(history.directory)
    assert said(tmp_path)["digits-1"]["status"] == "RUNNING"  # for trial 1 is still to come
    history.trial(1, 0.75)
    followed(history.directory, environ(MLFLOW_TRACKING_URI="sqlite:///other.db", MLFLOW_EXPERIMENT_NAME="new"))
    told = dump(MlflowClient(f"sqlite:///{tmp_path}/other.db"), "new", "digits-1")
    assert set(told) == {"digits-1", "digits-1/0", "digits-1/1"}
    assert told["digits-1/0"]["artifacts"] == ["output/attempt-1.log"]


def test_after_the_machine_went_down_everything_is_sent_again(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2})
    history.trial(0, 0.5)
    followed(history.directory)
    state = rundir.read_json(history.directory.mlflow)
    mlflow = client(tmp_path)
    mlflow.delete_tag(state["runs"]["0"], "sweep.state")  # a commit that the machine lost
    rundir.write_json(history.directory.mlflow, {**state, "boot_id": "an earlier one"})
    history.trial(1, 0.75)
    followed(history.directory)
    told = said(tmp_path)
    assert len(told) == 3
    assert told["digits-1/0"]["tags"]["sweep.state"] == "COMPLETE"


def test_usage_becomes_system_metrics_and_long_output_is_cut(tmp_path: Path) -> None:
    history = History(tmp_path, trials=1, rules={"trials": 1})
    history.start(0)
    folder = history.directory.attempt(0, 1)
    used = {"cpu": 1.0, "memory": 5e8, "device_utilisation": 0.9, "device_memory": 1e9}
    with folder.usage.open("w") as file:
        for second in (10, 15):
            file.write(json.dumps({"at": START + second, "metrics": used}) + "\n")
        several = [{"device_utilisation": 0.8}, {"device_utilisation": 1.0}]
        file.write(json.dumps({"at": START + 16, "metrics": used, "devices": several}) + "\n")
        file.write('{"at": 17')
    folder.output.write_bytes(b"begin\n" + b"x" * 6_000_000 + b"\nend\n")
    history.report(0, 0, val_acc=0.5)
    history.end(0)
    followed(history.directory)
    run = said(tmp_path)["digits-1/0"]
    rates = [run["metrics"][f"system/gpu_{place}_utilization_percentage"] for place in (0, 1)]
    assert [[value for _, _, value in one] for one in rates] == [["90.0", "90.0", "80.0"], ["100.0"]]
    assert run["metrics"]["system/system_memory_usage_megabytes"][0] == (7, round((START + 10) * 1000), "500.0")
    share = round(100 / (os.cpu_count() or 1), 2)
    assert run["metrics"]["system/cpu_utilization_percentage"][0][2] == repr(float(share))
    (sent,) = (tmp_path / "mlruns").rglob("attempt-1.log")
    text = sent.read_bytes()
    assert 2_000_000 < len(text) < 2_001_000
    assert text.startswith(b"begin\n") and text.endswith(b"\nend\n")
    assert b"are left out here" in text


def test_what_a_stalled_attempt_did_is_in_its_run(tmp_path: Path) -> None:
    history = History(tmp_path, trials=2, rules={"trials": 2, "stall_action": "retry", "retries": {"STALLED": 1}})
    history.start(0)
    history.report(0, 0, val_acc=0.5)
    folder = history.directory.attempt(0, 1).stall
    folder.mkdir()
    (folder / "stacks.txt").write_text("forward (train.py:9)")
    history.add(e.StallSeen(history.tick(), 0, 1, "hangs in forward (train.py:9)", "trials/0/1/stall"))
    history.end(0, None, signal=9, signalled=True)
    history.trial(0, 0.75)
    followed(history.directory)
    run = said(tmp_path)["digits-1/0"]
    assert run["artifacts"] == ["stall/attempt-1/stacks.txt"]
    assert run["tags"]["sweep.state"] == "COMPLETE" and run["tags"]["sweep.attempt"] == "2"


def test_a_deleted_experiment_is_said_and_waited_for(tmp_path: Path) -> None:
    history = History(tmp_path, trials=1, rules={"trials": 1})
    mlflow = client(tmp_path)
    deleted = mlflow.create_experiment("digits", artifact_location="mlflow-artifacts:/9")
    mlflow.delete_experiment(deleted)
    with Following(history.directory, line=True) as following:
        assert f"mlflow experiments restore -x {deleted}" in following.hear("error")
        mlflow.restore_experiment(deleted)
        assert following.hear("ok")
        history.trial(0, 0.5, output="words\n")
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
        assert "go through MLflow's server" in following.state()["lag"]["errors"][-1]
    runs = mlflow.search_runs([deleted])
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 2


def test_a_pareto_set_has_its_checkpoints_once_the_artifacts_can_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "elsewhere"
    blocked.write_text("a file, where a folder should be")
    client(tmp_path).create_experiment("digits", artifact_location=str(blocked))
    two = {"metric": ["val_acc", "size"], "direction": ["maximize", "minimize"]}
    history = History(tmp_path, trials=3, rules={"trials": 3}, mlflow={"register": "net"}, **two)
    for number, (accuracy, size) in enumerate([(0.9, 10.0), (0.5, 20.0), (0.7, 5.0)]):
        history.start(number)
        history.report(number, 0, val_acc=0.99, size=size)
        history.checkpoint(number, 0, "not the last")
        history.report(number, 1, val_acc=accuracy, size=size)
        history.checkpoint(number, 1, f"weights of {number}")
        history.end(number)
    with Following(history.directory, line=True) as following:
        following.say(ending="FINISHED", why="")
        assert f"cannot write {blocked}" in following.hear("error")
        blocked.unlink()
        assert following.wait() == 0, following.log()
        (refused,) = following.state()["lag"]["errors"]
    assert "nothing registered: 2 trials are best" in refused
    told = said(tmp_path)
    assert [told[f"digits-1/{n}"]["artifacts"] for n in range(3)] == [
        ["checkpoint/model.pdparams"],
        [],
        ["checkpoint/model.pdparams"],
    ]
    assert told["digits-1/0"]["tags"]["sweep.checkpoint"] == "trials/0/1/checkpoints/1"
    assert (
        "2 trials that no other one beats in everything: 0, 2" in told["digits-1"]["tags"]["mlflow.note.content"]
    )


def test_no_artifacts_where_none_are_wanted(tmp_path: Path) -> None:
    history = History(
        tmp_path, trials=1, rules={"trials": 1}, mlflow={"artifacts": False, "tags": {"team": "ocr"}}
    )
    history.trial(0, 0.5, output="words\n")
    followed(history.directory)
    told = said(tmp_path)
    assert told["digits-1/0"]["artifacts"] == told["digits-1"]["artifacts"] == []
    assert told["digits-1/0"]["tags"]["team"] == told["digits-1"]["tags"]["team"] == "ocr"


def test_as_a_command_it_ends_when_the_folder_goes(tmp_path: Path) -> None:
    directory = History(tmp_path, trials=1, rules={"trials": 1}).directory
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.tracking", str(directory.path), "--fd", str(theirs.fileno())],
        env=environ(),
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
    )
    theirs.close()
    deadline = time.monotonic() + 30
    while not directory.mlflow.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    shutil.rmtree(directory.path)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"Traceback" not in output, output.decode()
    ours.close()


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
