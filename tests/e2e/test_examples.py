"""The examples do what their search spaces say: the very commands that a sweep would run, without the sweep.

What a checkpoint promises is tested to the last bit: a continued training reports what an unbroken one did.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import opened

from sweep import rundir
from sweep.config.command import render
from sweep.config.load import load
from sweep.config.model import SweepConfig
from sweep.config.space import in_order, is_active
from sweep.launch.output import OutputReader
from sweep.slots.cpu import cores

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the examples in it, so that what they leave behind is not left in the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def space(name: str) -> SweepConfig:
    config, warnings = load(ROOT / "search_spaces" / f"{name}.yaml")
    assert warnings == []
    return config


def configuration(config: SweepConfig, **wanted: Any) -> dict[str, Any]:
    """What is wanted where it is active, else the first choice or the low end."""
    chosen: dict[str, Any] = {}
    for name in in_order(config.space):
        parameter = config.space[name]
        if is_active(parameter, chosen):
            given = parameter.model_dump()
            first = given["choices"][0] if "choices" in given else given.get("low", given.get("value"))
            chosen[name] = wanted.get(name, first)
    return {name: chosen[name] for name in config.space if name in chosen}


def run(config: SweepConfig, params: dict[str, Any], project: Path, **env: str) -> Path:
    """Runs the space's command as a trial is run; returns its output."""
    assert config.command is not None
    python, *words = render(config.command, params, {})
    assert python == "python"
    return execute(words, project, **env)


def execute(words: list[str], project: Path, **env: str) -> Path:
    output = project / "output.log"
    with output.open("wb") as file:
        subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=120,
        )
    return output


def train(config: SweepConfig, params: dict[str, Any], project: Path, attempt: int) -> list[dict[str, Any]]:
    """One attempt at trial 0; returns the lines that it reported, without their times."""
    folder = rundir.SweepDir(project / "sweeps/digits-1").attempt(0, attempt)
    folder.path.mkdir(parents=True)
    output = run(
        config,
        params,
        project,
        SWEEP_ID="digits-1",
        SWEEP_TRIAL="0",
        SWEEP_ATTEMPT=str(attempt),
        SWEEP_ATTEMPT_DIR=str(folder.path),
    )
    assert folder.reports.exists(), output.read_text()
    lines = [json.loads(line) for line in folder.reports.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "at"} for line in lines]


@pytest.mark.parametrize(
    "wanted",
    [
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "cosine"},
        {"optimizer": "adam", "weight_decay": 0.01, "dropout": 0.5, "depth": 2},
    ],
    ids=["sgd", "adam"],
)
def test_a_checkpoint_continues_the_training_exactly(wanted: dict[str, Any], project: Path) -> None:
    config = space("digits")
    params = configuration(config, lr=0.01, epochs=3, **wanted)
    assert wanted.items() <= params.items()
    assert ("nesterov" in params) == (params["optimizer"] == "sgd")

    whole = train(config, params, project, attempt=1)
    checkpoints = project / "sweeps/digits-1/trials/0/1/checkpoints"
    assert [line["step"] for line in whole if "metrics" in line] == [1, 2, 3]
    assert sorted(path.name for path in checkpoints.iterdir()) == ["1", "2", "3"]
    assert whole[-2]["metrics"]["val_acc"] > whole[0]["metrics"]["val_acc"]

    for lost in ("2", "3"):
        shutil.rmtree(checkpoints / lost)
    continued = train(config, params, project, attempt=2)
    assert [line for line in continued if "metrics" in line] == [line for line in whole if line.get("step", 0) > 1]


def test_the_objective_trains_the_same_network(project: Path) -> None:
    words = [
        "-m",
        "sweep.launch.objective",
        "examples.digits.objective:train",
        "--params",
        '{"epochs": 1, "width": 8}',
    ]
    *epochs, result = execute(words, project).read_text().splitlines()
    accuracy = json.loads(result)["value"]
    assert f"val_acc {accuracy:.4f}" in epochs[-1]
    assert accuracy > 0.3


@pytest.mark.parametrize("name", ["plain", "plain_json"])
def test_what_a_plain_script_prints_is_read(name: str, project: Path) -> None:
    config = space(name)
    output = run(config, configuration(config, lr=0.01, hidden=32), project)
    reports = OutputReader(str(output), config.report.mode, config.report.patterns).read(last=True)
    assert [step for step, _ in reports] == list(range(1, 11)), output.read_text()
    assert {*config.metric, "loss"} <= set(reports[-1][1])
    assert reports[-1][1]["acc"] > 0.9


def test_a_script_that_logs_to_mlflow_fills_the_run_it_is_given(project: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{project}/mlflow.db"
    client = MlflowClient(uri)
    given = client.create_run(client.create_experiment("e", artifact_location=str(project))).info.run_id

    config = space("mlflow_own")
    params = configuration(config, lr=0.01, hidden=32)
    output = run(config, params, project, MLFLOW_TRACKING_URI=uri, MLFLOW_RUN_ID=given)
    found = client.get_metric_history(given, config.metric[0])
    assert [metric.step for metric in found] == list(range(1, 11)), output.read_text()
    assert found[-1].value > 0.9
    assert client.get_run(given).data.params["lr"] == str(params["lr"])


@pytest.mark.skipif(cores() < 2 or shutil.which("nvidia-smi") is not None, reason="it wants two shares of the CPU")
def test_a_trial_of_two_processes_learns_together_and_ends_together(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        (project.path / "examples").symlink_to(ROOT / "examples")
        limits = ["trials=1", "mlflow=false", "space.epochs=1000000", "pruner={name: threshold, lower: 2.0}"]
        words = [word for limit in limits for word in ("--set", limit)]
        done = project.sweep("run", "examples/distributed/space.yaml", *words, "--json")
        (trial,) = done.json["trials"]
        output = project.output(0, name="distributed-1")
        assert (trial["state"], trial["attempts"][0]["slot"]) == ("PRUNED", "cpu-0+cpu-1"), output
        exit_ = json.loads(project.directory("distributed-1").attempt(0, 1).exit.read_text())
        assert (exit_["code"], exit_["signalled"]) == (0, False), "nobody had to be told twice"
        first = float(output.partition("val_acc ")[2].split()[0])
        assert 0.3 < first < 1
