"""The main job, whole: real Paddle training over two slots, then what a person finds in MLflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, opened

ROOT = Path(__file__).parents[2]
pytest.importorskip("paddle", reason="needs paddlepaddle")
SETTINGS = {
    "trials": 6,
    "space.epochs": 4,
    "space.width": "{type: int, low: 16, high: 32, step: 8}",
    "devices": "cpu:2",
    "seed": 3,
    "pruner": "{name: median, n_startup_trials: 2, n_warmup_steps: 1}",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with opened(tmp_path_factory.mktemp("digits")) as project:
        for folder in ("examples", "search_spaces"):
            shutil.copytree(ROOT / folder, project.path / folder)
        yield project


@pytest.fixture(scope="module")
def swept(project: Project) -> dict[str, Any]:
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    done = project.sweep("run", "search_spaces/digits.yaml", "--json", *words)
    assert done.code == 0, done.err
    return done.json


@pytest.fixture(scope="module")
def runs(swept: dict[str, Any]) -> dict[str, Any]:
    """trial number -> its MLflow run, and "parent"."""
    from mlflow import MlflowClient

    client = MlflowClient(swept["mlflow"]["tracking_uri"])
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parent = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent[0].info.run_id]
    assert len(parent) == 1 and len(children) == SETTINGS["trials"] == len(found) - 1
    return {"parent": parent[0], **{run.data.tags["sweep.trial"]: run for run in children}, "client": client}


def test_every_trial_has_learnt_and_left_a_checkpoint(swept: dict[str, Any]) -> None:
    assert swept["state"] == "FINISHED" and sum(swept["counts"].values()) == 6
    assert swept["counts"]["FAIL"] == 0 and swept["counts"]["COMPLETE"] >= 2
    assert swept["best"]["values"][0] > 0.9
    assert Path(swept["best"]["checkpoint"]).is_dir()


def test_the_store_is_the_one_that_a_bare_ui_shows(project: Project, swept: dict[str, Any]) -> None:
    assert swept["mlflow"]["tracking_uri"] == f"sqlite:///{project.path}/mlflow.db"


def test_each_run_holds_its_trial(swept: dict[str, Any], runs: dict[str, Any]) -> None:
    for trial in swept["trials"]:
        run = runs[str(trial["number"])]
        assert run.data.params == {name: str(value) for name, value in trial["params"].items()}
        assert run.info.run_id == trial["mlflow_run_id"]
        assert run.info.status == "FINISHED"
        tags = run.data.tags
        assert (tags["sweep.state"], tags["sweep.outcome"]) == (trial["state"], trial["outcome"])
        assert tags["sweep.device"] == trial["attempts"][-1]["device"]
        history = runs["client"].get_metric_history(run.info.run_id, "val_acc")
        said = reports(trial)
        assert [(point.step, point.value) for point in history] == [
            (line["step"], line["metrics"]["val_acc"]) for line in said
        ]
        assert all(abs(point.timestamp - line["at"] * 1000) < 2 for point, line in zip(history, said, strict=True))


def reports(trial: dict[str, Any]) -> list[dict[str, Any]]:
    lines = Path(trial["attempts"][-1]["directory"], "reports.jsonl").read_text().splitlines()
    return [record for line in lines if "metrics" in (record := json.loads(line))]


def test_output_checkpoint_and_system_metrics_are_there(swept: dict[str, Any], runs: dict[str, Any]) -> None:
    client = runs["client"]
    for number in range(6):
        run = runs[str(number)]
        assert names(client, run, "output") == {"output/attempt-1.log"}
        assert any(key.startswith("system/") for key in run.data.metrics)
    best = runs[str(swept["best"]["number"])]
    assert any(name.endswith(".pdparams") for name in names(client, best, "checkpoint"))
    parent = runs["parent"]
    assert {"space.yaml", "source.json"} <= names(client, parent, None)
    assert parent.data.tags["sweep.best_trial"] == str(swept["best"]["number"])
    assert parent.info.status == "FINISHED"


def names(client: Any, run: Any, folder: str | None) -> set[str]:
    return {file.path for file in client.list_artifacts(run.info.run_id, folder)}


def test_the_command_of_the_best_trial_finds_the_same_again(project: Project, swept: dict[str, Any]) -> None:
    import subprocess

    (trial,) = project.sweep("best", "--json").json["trials"]
    line, env = ["bash", "-c", trial["command"]], {**project.env, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=project.path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert f"{trial['values'][0]:.4f}" in done.stdout


def test_what_may_be_a_secret_stays_in_the_folder(project: Project) -> None:
    project.write("train.py", "import sweep\nsweep.current_trial().report(0, acc=1)\n")
    document = project.run(
        trials=1, mlflow=True, env={"API_KEY": "hunter2", "COLOUR": "blue"}, on_finish="true http://me:pw9@host/"
    )
    copy = (Path(document["directory"]) / "space.yaml").read_text()
    assert "hunter2" in copy and "me:pw9" in copy
    [sent] = (project.path / "mlruns").glob(f"*/{document['mlflow']['run_id']}/artifacts/space.yaml")
    assert sent.read_text() == copy.replace("hunter2", "***").replace("me:pw9", "***")
