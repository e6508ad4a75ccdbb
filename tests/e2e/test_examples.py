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
    program, *words = render(config.command, params, {})
    return execute(words, project, sys.executable if program == "python" else program, **env)


def execute(words: list[str], project: Path, program: str = sys.executable, **env: str) -> Path:
    output = project / "output.log"
    with output.open("wb") as file:
        subprocess.run(
            [program, *words],
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
    folder = rundir.SweepDir(project / "sweeps/s-1").attempt(0, attempt)
    folder.path.mkdir(parents=True)
    output = run(
        config,
        params,
        project,
        SWEEP_ID="s-1",
        SWEEP_TRIAL="0",
        SWEEP_ATTEMPT=str(attempt),
        SWEEP_ATTEMPT_DIR=str(folder.path),
        SWEEP_CACHE_DIR=str(project / "cache"),
    )
    assert folder.reports.exists(), output.read_text()
    lines = [json.loads(line) for line in folder.reports.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "at"} for line in lines]


@pytest.mark.parametrize(
    ("name", "wanted", "more"),
    [
        ("digits", {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "cosine"}, {}),
        ("digits", {"optimizer": "adam", "weight_decay": 0.01, "dropout": 0.5, "depth": 2}, {}),
        ("ocr_rec", {"optimizer": "adamw", "weight_decay": 0.01, "dropout": 0.2}, {"lines": 128}),
    ],
    ids=lambda value: value.get("optimizer", "") if isinstance(value, dict) else value,
)
def test_a_checkpoint_continues_the_training_exactly(
    name: str, wanted: dict[str, Any], more: dict[str, Any], project: Path
) -> None:
    """more: options that the space leaves alone."""
    config = space(name)
    params = configuration(config, lr=0.01, epochs=3, **wanted)
    assert wanted.items() <= params.items()
    assert ("momentum" in params) == (params["optimizer"] in ("sgd", "momentum"))
    params |= more

    whole = train(config, params, project, attempt=1)
    checkpoints = project / "sweeps/s-1/trials/0/1/checkpoints"
    assert [line["step"] for line in whole if "metrics" in line] == [1, 2, 3]
    assert sorted(path.name for path in checkpoints.iterdir()) == ["1", "2", "3"]
    assert whole[-2]["metrics"]["loss"] < whole[0]["metrics"]["loss"]

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


@pytest.mark.parametrize(("encoder", "setting"), [("cnn", "kernel"), ("gru", "layers")])
def test_the_text_classifier_goes_on_where_it_was(encoder: str, setting: str, project: Path) -> None:
    config = space("chinese_text_cls")
    params = configuration(config, encoder=encoder, lr=0.01, epochs=1) | {"reviews": 100}
    assert setting in params
    (first, checkpoint) = train(config, params, project, attempt=1)
    assert (first["step"], checkpoint["checkpoint"]) == (1, 1)
    assert set(first["metrics"]) == {"loss", "acc", "val_loss", "val_acc"}
    (second, _) = train(config, params | {"epochs": 2}, project, attempt=2)
    assert second["step"] == 2
    assert second["metrics"]["loss"] < first["metrics"]["loss"]


def test_the_shell_script_learns(project: Path) -> None:
    config = space("shell")
    output = run(config, configuration(config, lr=0.3, momentum=0.5), project)
    reports = OutputReader(str(output), config.report.mode, config.report.patterns).read(last=True)
    assert [step for step, _ in reports] == list(range(1, 41)), output.read_text()
    assert reports[-1][1]["error"] < reports[0][1]["error"] / 100


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


# as PP-OCRv5's recogniser logs it, a line for each kind, with the progress bar between them
PADDLEOCR = """\
[2026/01/07 22:20:01] ppocr INFO: During the training process, after the 0th iteration, an evaluation is run every 500 iterations
[2026/01/07 22:20:09] ppocr INFO: epoch: [1/20], global_step: 490, lr: 0.000498, acc: 0.250000, norm_edit_dis: 0.840160, CTCLoss: 5.926858, NRTRLoss: 0.830906, loss: 6.759720, avg_reader_cost: 0.56574 s, avg_batch_cost: 1.43820 s, avg_samples: 24.0, ips: 16.46658 samples/s, eta: 5:42:09, max_mem_reserved: 5140 MB, max_mem_allocated: 4339 MB
[2026/01/07 22:20:15] ppocr INFO: epoch: [1/20], global_step: 500, lr: 0.000499, acc: 0.312500, norm_edit_dis: 0.851164, CTCLoss: 5.274724, NRTRLoss: 0.827389, loss: 6.100280, avg_reader_cost: 0.58174 s, avg_batch_cost: 1.41012 s, avg_samples: 24.0, ips: 17.01983 samples/s, eta: 5:41:55, max_mem_reserved: 5140 MB, max_mem_allocated: 4339 MB
eval model::   0%|          | 0/16 [00:00<?, ?it/s]\reval model:: 100%|##########| 16/16 [00:07<00:00,  2.04it/s]
[2026/01/07 22:20:23] ppocr INFO: cur metric, acc: 0.05779889147725971, norm_edit_dis: 0.8111458502008816, fps: 1609.9560880669972
[2026/01/07 22:20:24] ppocr INFO: save best model is to ./output/best_accuracy
[2026/01/07 22:20:24] ppocr INFO: best metric, acc: 0.05779889147725971, is_float16: False, norm_edit_dis: 0.8111458502008816, fps: 1609.9560880669972, best_epoch: 1
"""  # noqa: E501


def test_what_paddleocr_logs_is_read(tmp_path: Path) -> None:
    config = space("paddleocr_rec")
    (tmp_path / "output.log").write_text(PADDLEOCR)
    reader = OutputReader(str(tmp_path / "output.log"), config.report.mode, config.report.patterns)
    assert reader.read() == [
        (490, {"lr": 0.000498, "loss": 6.75972}),
        (500, {"lr": 0.000499, "loss": 6.10028}),
        (500, {"val_acc": 0.05779889147725971, "val_norm_edit_dis": 0.8111458502008816}),
    ]


def test_paddleocr_takes_the_options_for_numbers() -> None:
    """As its ArgsParser reads them: split once, the value by PyYAML, which takes 5e-05 for text."""
    import yaml

    config = space("paddleocr_rec")
    assert config.command is not None
    words = render(config.command, configuration(config), {"attempt_dir": "/tmp/sweeps/s-1/trials/0/1"})
    options = dict(word.split("=") for word in words[words.index("-o") + 1 :])
    read = {key: yaml.safe_load(value) for key, value in options.items()}
    assert read["Optimizer.lr.learning_rate"] == 5e-5
    assert read["Optimizer.regularizer.factor"] == 1e-6
    assert read["Global.eval_batch_step"] == [0, 500]
    assert read["Train.sampler.first_bs"] == read["Train.loader.batch_size_per_card"] == 64


SMALL = {  # what makes a sweep of it one of seconds
    "ocr_rec": ["trials=2", "space.lines=64", "space.epochs=2"],
    "chinese_text_cls": ["trials=2", "space.reviews=100", "space.epochs=1"],
    "shell": ["trials=4"],
    "paddleocr_rec": ["trials=2"],
}


@pytest.mark.parametrize("name", SMALL)
def test_the_search_space_is_swept(name: str, tmp_path: Path) -> None:
    """With PaddleOCR there is only what the file says of it: a stand-in that logs as its trainer does."""
    with opened(tmp_path) as project:
        for folder in ("examples", "search_spaces"):
            (project.path / folder).symlink_to(ROOT / folder)
        project.write("tools/train.py", f"print({PADDLEOCR!r})")
        assert project.sweep("check", f"search_spaces/{name}.yaml", "--json").code == 0
        words = [word for limit in ["mlflow=false", "devices=cpu:2", *SMALL[name]] for word in ("--set", limit)]
        done = project.sweep("run", f"search_spaces/{name}.yaml", *words, "--json")
        assert done.code == 0, done.err
        assert done.json["counts"]["COMPLETE"] == len(done.json["trials"]) > 1, done.json["counts"]
        assert done.json["best"]["values"][0] is not None


@pytest.mark.skipif(cores() < 2 or shutil.which("nvidia-smi") is not None, reason="it wants two shares of the CPU")
def test_a_trial_of_two_processes_learns_together_and_ends_together(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        (project.path / "examples").symlink_to(ROOT / "examples")
        limits = [
            "trials=1",
            "mlflow=false",
            "space.lr=0.01",
            "space.width=64",
            "space.epochs=1000000",
            "pruner={name: threshold, lower: 2.0}",
        ]
        words = [word for limit in limits for word in ("--set", limit)]
        done = project.sweep("run", "examples/distributed/space.yaml", *words, "--json")
        (trial,) = done.json["trials"]
        output = project.output(0, name="distributed-1")
        assert (trial["state"], trial["attempts"][0]["slot"]) == ("PRUNED", "cpu-0+cpu-1"), output
        exit_ = json.loads(project.directory("distributed-1").attempt(0, 1).exit.read_text())
        assert (exit_["code"], exit_["signalled"]) == (0, False), "nobody had to be told twice"
        first = float(output.partition("val_acc ")[2].split()[0])
        assert 0.3 < first < 1
