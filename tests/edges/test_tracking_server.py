"""The follower and a real MLflow server, which is down, slow, or fails, behind a small proxy."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_kit import Proxy, Server, dump, free_port
from tracking_kit import START, Following, History, environ

from sweep import rundir
from sweep.core import events as e


@pytest.fixture
def proxy(mlflow_server: Server) -> Iterator[Proxy]:
    made = Proxy(0, mlflow_server.port)
    yield made
    made.close()


def test_through_outages_nothing_is_lost_or_said_twice(tmp_path: Path, mlflow_server: Server) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    history = History(
        tmp_path,
        "out-1",
        opened=START + 1,
        name="out",
        trials=3,
        rules={"trials": 3},
        mlflow={"register": "out-net"},
    )
    with Following(history.directory, environ(MLFLOW_TRACKING_URI=uri), line=True) as following:
        assert "cannot be reached (Connection refused)" in following.hear("error")
        history.trial(0, 0.5, output="words\n")
        time.sleep(1.0)
        lag = following.until(lambda state: state["lag"]["events"] >= history.seq)["lag"]
        assert lag["error"] and lag["since"] < time.time()
        proxy = Proxy(port, mlflow_server.port)
        assert following.hear("ok")

        history.start(1)
        following.until(lambda state: state["lag"]["events"] == 0 and "1" in state["runs"])
        proxy.mode = lambda path: "500"
        history.report(1, 0, val_acc=float("nan"), loss=float("inf"))
        assert "answers with error 500" in following.hear("error")
        history.report(1, 1, val_acc=0.75, loss=float("-inf"))
        history.checkpoint(1, 1, "best")
        proxy.mode = lambda path: "500" if "artifacts" in path else "ok"  # only the artifacts' half is down
        assert following.hear("ok")
        history.end(1, output="more words\n")
        history.trial(2, 0.25)
        assert "artifact" not in following.log()
        assert "answers with error 500" in following.hear("error")
        following.until(lambda state: state["lag"]["events"] == 0 and state["owed"] == [[1, 1], [2, 1]])
        proxy.mode = lambda path: "drop"
        following.say(ending="FINISHED", why="all trials are done")
        following.close()
        time.sleep(0.5)
        proxy.mode = lambda path: "ok"
        assert following.wait() == 0, following.log()
        said = [line.split("  ", 1)[1] for line in following.log().splitlines()]
        assert all(one != other for one, other in pairwise(said)), said
        assert "Traceback" not in following.log()
        proxy.close()

    client = MlflowClient(mlflow_server.url)
    told = dump(client, "out", "out-1")
    assert set(told) == {"out-1", "out-1/0", "out-1/1", "out-1/2"}
    assert {run["status"] for run in told.values()} == {"FINISHED"}
    assert [value for _, _, value in told["out-1/1"]["metrics"]["val_acc"]] == ["nan", "0.75"]
    assert [value for _, _, value in told["out-1/1"]["metrics"]["loss"]] == [
        "1.7976931348623157e+308",
        "-1.7976931348623157e+308",
    ]
    assert told["out-1/0"]["artifacts"] == ["output/attempt-1.log"]
    assert told["out-1/1"]["artifacts"] == ["checkpoint/model.pdparams", "output/attempt-1.log"]
    assert told["out-1"]["artifacts"] == ["space.yaml"]
    assert told["out-1"]["tags"]["sweep.why"] == "all trials are done"
    (version,) = client.search_model_versions("name = 'out-net'")
    assert version.status == "READY" and version.source.endswith("/artifacts/checkpoint")


@pytest.mark.parametrize("way", ["mute", "late"])
def test_a_run_that_was_created_without_an_answer_is_not_created_again(
    tmp_path: Path, proxy: Proxy, way: str
) -> None:
    """mute: done, but the answer is lost. late: done only after the follower has looked for it and tried again."""
    name = f"lost-{way}"
    left = [3]

    def mode(path: str) -> str:
        if path.endswith("runs/create") and left[0]:
            left[0] -= 1
            return way
        return "ok"

    proxy.mode = mode
    opened = START + (2 if way == "mute" else 3)
    history = History(tmp_path, f"{name}-1", opened=opened, name=name, trials=3, rules={"trials": 3})
    for number in range(3):
        history.trial(number, 0.5 + number / 10)
    env = environ(MLFLOW_TRACKING_URI=proxy.uri, MLFLOW_HTTP_REQUEST_TIMEOUT="1")
    with Following(history.directory, env, line=True) as following:
        if way == "late":
            following.until(lambda state: len(state["runs"]) == 3)
            proxy.late.set()
            direct = MlflowClient(proxy.uri)
            found = direct.search_experiments(filter_string=f"name = '{name}'")
            while len(direct.search_runs([found[0].experiment_id])) < 4 + 3:
                time.sleep(0.05)
        following.say(ending="FINISHED", why="")
        assert following.wait() == 0, following.log()
    assert left == [0]
    told = dump(MlflowClient(proxy.uri), name, f"{name}-1")  # asserts that no run is there twice
    assert set(told) == {f"{name}-1", *(f"{name}-1/{number}" for number in range(3))}
    assert told[f"{name}-1/2"]["metrics"]["val_acc"][-1][2] == "0.7"


def test_a_trial_that_logs_to_mlflow_by_itself(tmp_path: Path, proxy: Proxy) -> None:
    history = History(
        tmp_path, "own-1", opened=START + 4, name="own", trials=1, rules={"trials": 1}, report={"mode": "mlflow"}
    )
    directory = history.directory
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind(str(directory.doorbell))
    bell.settimeout(20)
    with Following(directory, environ(MLFLOW_TRACKING_URI=proxy.uri), line=True) as following:
        history.sample(0, lr=0.1, width=64)
        following.say(make_run=0)
        number, run_id = following.hear("run")
        assert number == 0
        trial = MlflowClient(proxy.uri)
        following.until(lambda state: state["lag"]["events"] == 0)
        assert trial.get_run(run_id).info.status == "SCHEDULED"
        history.add(e.RunLinked(history.tick(), 0, run_id))
        history.start(0)
        reports = directory.attempt(0, 1).reports
        trial.update_run(run_id, "RUNNING")
        trial.log_param(run_id, "lr", "1e-1")  # not quite what we would write
        trial.log_metric(run_id, "val_acc", 0.5, step=1)
        assert bell.recv(100) == b"0/1"
        assert '"step": 1' in reports.read_text() and '"val_acc": 0.5' in reports.read_text()
        trial.log_metric(run_id, "val_acc", 0.75, step=2)
        trial.set_terminated(run_id, "FINISHED")
        following.say(collect=[0, 1])
        assert following.hear("collected") == [0, 1]
        lines = reports.read_text().splitlines()
        assert len(lines) == 2 and '"step": 2' in lines[1]
        for step, value in ((1, 0.5), (2, 0.75)):
            history.report(0, step, val_acc=value)
        history.end(0, code=1, cause="it fell at the last hurdle")
        following.say(ending="FAILED", why="no trial completed")
        assert following.wait() == 0, following.log()
    bell.close()
    told = dump(trial, "own", "own-1")
    run = told["own-1/0"]
    assert run["status"] == "FAILED"
    assert run["params"] == {"lr": "1e-1", "width": "64"}
    assert [value for _, _, value in run["metrics"]["val_acc"]] == ["0.5", "0.75"]
    assert told["own-1"]["status"] == "FAILED"
    assert rundir.read_json(directory.mlflow)["lag"]["errors"] == []


def test_a_server_that_wants_a_password(tmp_path: Path) -> None:
    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    door = ThreadingHTTPServer(("127.0.0.1", 0), Closed)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    uri = f"http://me:secret@127.0.0.1:{door.server_port}"
    history = History(tmp_path, trials=1, rules={"trials": 1})
    with Following(history.directory, environ(MLFLOW_TRACKING_URI=uri), line=True) as following:
        assert "refuses the credentials" in following.hear("error")
        following.until(lambda state: state["lag"]["error"])
        assert "secret" not in following.log() + history.directory.mlflow.read_text()
    door.shutdown()
    door.server_close()


def test_the_ui_shows_what_was_written_straight_into_the_database(mlflow_server: Server) -> None:
    history = History(
        mlflow_server.project, "local-1", opened=START + 5, name="local", trials=1, rules={"trials": 1}
    )
    history.trial(0, 0.5, output="seen from outside\n")
    with Following(history.directory) as following:
        assert following.wait() == 0, following.log()
        run_id = following.state()["runs"]["0"]
    url = f"{mlflow_server.url}/get-artifact?path=output/attempt-1.log&run_uuid={run_id}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"seen from outside\n"
    assert set(dump(MlflowClient(mlflow_server.url), "local", "local-1")) == {"local-1", "local-1/0"}
