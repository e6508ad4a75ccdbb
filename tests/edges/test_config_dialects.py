"""W&B sweeps and NNI experiments run as they are, or say what has no equivalent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweep.config.load import load
from sweep.config.model import Categorical, Constant, Float, Int, Named, Parameter
from sweep.errors import ConfigError

WANDB: dict[str, Any] = {
    "program": "train.py",
    "method": "random",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "run_cap": 10,
    "parameters": {"lr": {"min": 0.1, "max": 0.5}},
}
NNI: dict[str, Any] = {
    "searchSpace": {"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}},
    "trialCommand": "python mnist.py",
    "maxTrialNumber": 10,
    "tuner": {"name": "TPE", "classArgs": {"optimize_mode": "minimize"}},
    "trainingService": {"platform": "local"},
}


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "file.yaml"
    path.write_text(json.dumps(document))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_a_wandb_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        """
program: train.py
name: My first sweep!
project: ocr
method: grid
metric:
  name: val_acc
  goal: maximize
early_terminate: {type: hyperband, min_iter: 3, eta: 2}
parameters:
  lr: {values: [0.1, 0.01]}
  epochs: {value: 20}
  augment: {values: [true, false]}
"""
    )
    config, warnings = load(path)
    assert config.name == "My-first-sweep"
    assert config.command == ["python", "train.py", "{args}"]
    assert (config.metric, config.direction) == (["val_acc"], ["maximize"])
    assert config.sampler == Named(name="grid")
    assert config.pruner == Named(name="successive_halving", options={"min_resource": 3, "reduction_factor": 2})
    assert config.mlflow.experiment == "ocr"
    assert config.space == {
        "lr": Categorical(choices=[0.1, 0.01]),
        "epochs": Constant(value=20),
        "augment": Categorical(choices=[True, False]),
    }
    assert [warning.split(": ")[1] for warning in warnings] == ["early_terminate"]


@pytest.mark.parametrize(
    ("spec", "parameter"),
    [
        ({"min": 1, "max": 5}, Int(low=1, high=5)),
        ({"min": 1, "max": 5.0}, Float(low=1, high=5)),
        ({"distribution": "uniform", "min": 1, "max": 5}, Float(low=1, high=5)),
        ({"distribution": "int_uniform", "min": 4.0, "max": 10.0}, Int(low=4, high=10)),
        ({"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1}, Float(low=1e-5, high=0.1, log=True)),
        ({"distribution": "inv_log_uniform_values", "min": 1, "max": 2}, Float(low=1, high=2, log=True)),
        (
            {"distribution": "log_uniform", "min": -1, "max": 2},
            Float(low=math.exp(-1), high=math.exp(2), log=True),
        ),
        ({"distribution": "inv_log_uniform", "min": -1, "max": 2}, Float(low=math.exp(-2), high=math.e, log=True)),
        ({"distribution": "q_uniform", "min": 9.5, "max": 250, "q": 8}, Int(low=8, high=248, step=8)),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, Float(low=0, high=1, step=0.25)),
        ({"distribution": "q_uniform", "min": 0.2, "max": 3.7}, Int(low=0, high=4)),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 1}, Int(low=1, high=64, log=True)),
        ({"distribution": "q_log_uniform", "min": 0, "max": 3}, Int(low=1, high=20, log=True)),
        (
            {"distribution": "categorical", "values": ["a", 2, True, None]},
            Categorical(choices=["a", 2, True, None]),
        ),
        ({"distribution": "constant", "value": [1, 2]}, Constant(value=[1, 2])),
    ],
)
def test_wandb_distributions(tmp_path: Path, spec: dict[str, Any], parameter: Parameter) -> None:
    parameters = {"x": spec, "other": {"values": [1, 2]}}
    assert load(written(tmp_path, {**WANDB, "parameters": parameters}))[0].space["x"] == parameter


def test_wandb_nested_parameters_are_flat(tmp_path: Path) -> None:
    nested = {
        "optimizer": {"parameters": {"lr": {"min": 0.1, "max": 0.2}, "more": {"parameters": {"x": {"value": 1}}}}}
    }
    config, warnings = load(written(tmp_path, {**WANDB, "parameters": nested}))
    assert list(config.space) == ["optimizer.lr", "optimizer.more.x"]
    assert "--optimizer." in warnings[0]


def test_wandb_commands(tmp_path: Path) -> None:
    macros = [
        "${env}",
        "${interpreter}",
        "-u",
        "${program}",
        "{json}",
        5,
        "${args_no_hyphens}",
        "${args_json_file}",
    ]
    parameters = {"a": {"values": [1, 2]}, "b.c": {"value": 1}}
    config, _ = load(written(tmp_path, {**WANDB, "command": macros, "parameters": parameters}))
    assert config.command is not None
    assert config.command[:5] == ["python", "-u", "train.py", "{{json}}", "5"]
    assert config.command[5:] == ["a={a}", "b.c={b.c}", "{params_file}"]
    config, _ = load(written(tmp_path, {**WANDB, "command": ["./run", "${args_no_boolean_flags}"]}))
    assert config.command == ["./run", "{flags}"]


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ({"min_iter": 4}, {"min_resource": 4, "reduction_factor": 3}),
        ({"max_iter": 27, "s": 2}, {"min_resource": 3, "reduction_factor": 3}),
        ({"max_iter": 27, "s": 9, "eta": 3.0}, {"min_resource": 1, "reduction_factor": 3}),
        ({"max_iter": 100, "s": 2, "eta": 4, "strict": True}, {"min_resource": 6, "reduction_factor": 4}),
    ],
)
def test_wandb_hyperband_is_successive_halving(
    tmp_path: Path, rule: dict[str, Any], options: dict[str, int]
) -> None:
    config, _ = load(written(tmp_path, {**WANDB, "early_terminate": {"type": "hyperband", **rule}}))
    assert config.pruner == Named(name="successive_halving", options=options)


def test_wandb_bayes_says_what_it_runs(tmp_path: Path) -> None:
    config, warnings = load(written(tmp_path, {**WANDB, "method": "bayes"}))
    assert config.sampler == Named(name="tpe")
    assert "TPE" in warnings[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "hyperopt"}, "method: found the text 'hyperopt'"),
        ({"method": ["grid"]}, "method: found a list of 1 item"),
        ({"method": "custom"}, "method: has no equivalent"),
        ({"job": "x"}, "job: has no equivalent"),
        ({"run_cap": 0}, "run_cap: found the number 0"),
        ({"runcap": 0}, "did you mean `run_cap`?"),
        ({"metric": {"name": "a", "goal": "max"}}, "metric.goal: found the text 'max'"),
        ({"metric": {"name": "a", "target": 1}}, "metric.target: has no equivalent"),
        ({"metric": {"goal": "minimize"}}, "metric: has no `name`"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate.type: found the text 'envelope'"),
        ({"early_terminate": {"type": "hyperband"}}, "neither `min_iter`, nor `max_iter` and `s`"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 2.5}}, "early_terminate.eta"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": False}}, "early_terminate.strict"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 1}}, "no iteration from 1 on"),
        ({"command": "python t.py"}, "command: found the text 'python t.py'; wanted is a list"),
        ({"command": ["${args_json}"]}, "command[0]: has no equivalent"),
        ({"command": ["x", "--key=${envvar:KEY}"]}, "command[1]: has no equivalent"),
        ({"command": ["${program}", "${arg}"]}, "did you mean `args`?"),
        ({"program": None}, "program: found null; wanted is the script to run"),
    ],
)
def test_wandb_mistakes(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    words = complaint(written(tmp_path, {**WANDB, **change}))
    assert said in words
    assert "mistakes:" not in words


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"distribution": "normal", "mu": 1}, "parameters.x.distribution: has no equivalent"),
        ({"distribution": "q_beta"}, "parameters.x.distribution: has no equivalent"),
        ({"values": [1, 2], "probabilities": [0.9, 0.1]}, "parameters.x.probabilities: has no equivalent"),
        ({"distribution": "unifrm", "min": 1, "max": 2}, "did you mean `uniform`?"),
        ({"distribution": [1], "min": 1, "max": 2}, "parameters.x.distribution: found a list of 1 item"),
        ({"distribution": "uniform", "min": 1}, "parameters.x.max: is missing"),
        (
            {"distribution": "q_log_uniform_values", "min": 1, "max": 2, "q": 2},
            "parameters.x.q: has no equivalent",
        ),
        ({"distribution": "q_uniform", "min": 1, "max": 2, "q": 0}, "parameters.x.q: 0 is not above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1e5}, "parameters.x: `min` and `max` are exponents"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "parameters.x.min: 0.0 is not above 0"),
        ({"min": 3, "max": 1}, "parameters.x.min: 3 is above the upper bound, 1"),
        ({"min": "1", "max": 2}, "parameters.x.min: found the text '1'; wanted is a number"),
        ({"values": [[1]]}, "parameters.x.values[0]: found a list of 1 item"),
        ({"min": 1, "max": 2, "step": 1}, "parameters.x.step: is no key of a W&B sweep here"),
        ({}, "parameters.x: has neither `value`"),
        (3, "parameters.x: found the number 3"),
    ],
)
def test_wandb_parameter_mistakes(tmp_path: Path, spec: object, said: str) -> None:
    words = complaint(written(tmp_path, {**WANDB, "parameters": {"x": spec}}))
    assert said in words
    assert "mistakes:" not in words


def test_a_file_of_sweeps_own_with_parameters_is_not_taken_for_wandb(tmp_path: Path) -> None:
    words = complaint(written(tmp_path, {"command": "t", "metric": "a", "parameters": {"lr": [1, 2]}}))
    assert "parameters: is no key here" in words
    assert "here it is called `space`" in words


def test_overrides_of_a_dialect_are_in_sweeps_own_grammar(tmp_path: Path) -> None:
    overrides = {"trials": 3, "devices": "cpu:2", "space.lr.high": 0.2}
    config, _ = load(written(tmp_path, WANDB), overrides)
    assert (config.trials, config.devices.count, config.space["lr"]) == (3, 2, Float(low=0.1, high=0.2))
    with pytest.raises(ConfigError, match=r"--set space.lr.high: space.lr.high: found the text 'x'"):
        load(written(tmp_path, WANDB), {"space.lr.high": "x"})


def test_an_nni_experiment(tmp_path: Path) -> None:
    (tmp_path / "search_space.json").write_text('{\n\t"lr": {"_type": "uniform", "_value": [0.1, 0.5]}\n}')
    path = tmp_path / "config.yml"
    path.write_text(
        """
experimentName: MNIST
searchSpaceFile: search_space.json
trialCommand: python mnist.py
trialCodeDirectory: .
trialGpuNumber: 2
trialConcurrency: 3
maxExperimentDuration: 0.5h
maxTrialNumber: 100
tuner: {name: GridSearch, classArgs: {optimize_mode: maximize}}
assessor: {name: Medianstop, classArgs: {start_step: 5}}
trainingService: {platform: local, gpuIndices: '0,2', maxTrialNumberPerGpu: 2, useActiveGpu: true}
"""
    )
    config, warnings = load(path)
    assert (config.name, config.metric, config.direction) == ("MNIST", ["default"], ["maximize"])
    assert (config.command, config.cwd) == (["python", "mnist.py"], str(tmp_path))
    assert (config.devices_per_trial, config.slots, config.timeout, config.trials) == (2, 3, 1800.0, 100)
    assert (config.devices.ids, config.slots_per_device) == (["0", "2"], 2)
    assert config.sampler == Named(name="grid")
    assert config.pruner == Named(name="median", options={"n_warmup_steps": 5})
    assert config.space == {"lr": Float(low=0.1, high=0.5)}
    assert [warning.split(": ")[1] for warning in warnings] == [
        "assessor",
        "trainingService.useActiveGpu",
        "trialCommand",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "parameter"),
    [
        ("choice", [2, "a", True], Categorical(choices=[2, "a", True])),
        ("randint", [0, 10], Int(low=0, high=9)),
        ("uniform", [0, 1], Float(low=0, high=1)),
        ("loguniform", [0.1, 1], Float(low=0.1, high=1, log=True)),
        ("quniform", [16, 128, 16], Int(low=16, high=128, step=16)),
        ("quniform", [0, 10, 2.5], Float(low=0, high=10, step=2.5)),
        ("quniform", [0.1, 0.3, 0.1], Float(low=0.1, high=0.3, step=0.1)),
        ("qloguniform", [1, 64, 1], Int(low=1, high=64, log=True)),
    ],
)
def test_nni_types(tmp_path: Path, kind: str, value: list[Any], parameter: Parameter) -> None:
    space = {"x": {"_type": kind, "_value": value}}
    assert load(written(tmp_path, {**NNI, "searchSpace": space}))[0].space["x"] == parameter


NESTED: dict[str, Any] = {
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "Empty"},
            {"_name": "Conv", "kernel": {"_type": "choice", "_value": [1, 3]}},
            {
                "_name": "Pool",
                "kind": {
                    "_type": "choice",
                    "_value": [
                        {"_name": "max", "size": {"_type": "randint", "_value": [1, 4]}},
                        {"_name": "mean"},
                    ],
                },
            },
        ],
    }
}


@pytest.mark.parametrize("form", ["alone", "in an experiment", "in a space.yaml"])
def test_nni_nested_choices_are_conditions(tmp_path: Path, form: str) -> None:
    rest = {"command": "python t.py {args}", "metric": "acc", "direction": "maximize", "trials": 5}
    if form == "alone":
        config, _ = load(written(tmp_path, NESTED), rest)
    elif form == "in an experiment":
        config, _ = load(written(tmp_path, {**NNI, "searchSpace": NESTED}))
    else:
        config, _ = load(written(tmp_path, {**rest, "space": {**NESTED, "own": [1, 2]}}))
        assert config.space["own"] == Categorical(choices=[1, 2])
    assert [config.space[name] for name in ("layer", "layer.kernel", "layer.kind", "layer.kind.size")] == [
        Categorical(choices=["Empty", "Conv", "Pool"]),
        Categorical(choices=[1, 3], when={"layer": ["Conv"]}),
        Categorical(choices=["max", "mean"], when={"layer": ["Pool"]}),
        Int(low=1, high=3, when={"layer.kind": ["max"]}),
    ]


def test_an_nni_space_alone_says_what_is_missing(tmp_path: Path) -> None:
    words = complaint(written(tmp_path, NESTED))
    assert "metric: is missing" in words
    assert "--set direction=maximize" in words
    assert "neither `command` nor `objective`" in words


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"_type": "normal", "_value": [0, 1]}, "searchSpace.x._type: has no equivalent"),
        ({"_type": "qlognormal", "_value": [0, 1, 1]}, "searchSpace.x._type: has no equivalent"),
        ({"_type": "unifrm", "_value": [0, 1]}, "did you mean `uniform`?"),
        ({"_type": ["uniform"], "_value": [0, 1]}, "searchSpace.x._type: found a list of 1 item"),
        ({"_type": "uniform"}, "searchSpace.x: wanted are both `_type` and `_value`"),
        ({"_type": "uniform", "_value": 3}, "searchSpace.x._value: found the number 3; wanted is a list"),
        (
            {"_type": "uniform", "_value": [0, "1"]},
            "searchSpace.x._value[1]: found the text '1'; wanted is a number",
        ),
        ({"_type": "uniform", "_value": [2, 1]}, "searchSpace.x._value[0]: 2.0 is above the upper bound"),
        ({"_type": "loguniform", "_value": [0, 1]}, "searchSpace.x._value[0]: 0.0 is not above 0"),
        ({"_type": "randint", "_value": [4]}, "`randint` takes [low, high]"),
        ({"_type": "randint", "_value": [4, 4]}, "holds no whole number: 4, the upper bound, is excluded"),
        ({"_type": "quniform", "_value": [2, 10, 5]}, "multiples of 5"),
        ({"_type": "quniform", "_value": [0, 1, 0]}, "searchSpace.x._value[2]: 0 is not above 0"),
        ({"_type": "qloguniform", "_value": [2, 16, 2]}, "searchSpace.x._value[2]: has no equivalent"),
        ({"_type": "choice", "_value": []}, "searchSpace.x._value: is an empty list"),
        ({"_type": "choice", "_value": [{"_name": "a"}, 3]}, "searchSpace.x._value: has no equivalent"),
        (
            {
                "_type": "choice",
                "_value": [{"_name": n, "z": {"_type": "uniform", "_value": [0, 1]}} for n in "ab"],
            },
            "two choices bring a parameter `x.z`",
        ),
    ],
)
def test_nni_parameter_mistakes(tmp_path: Path, spec: object, said: str) -> None:
    words = complaint(written(tmp_path, {**NNI, "searchSpace": {"x": spec}}))
    assert said in words
    assert "mistakes:" not in words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trialCommand": "cd x && python t.py"}, "trialCommand: has no equivalent"),
        ({"trialCommand": 3}, "trialCommand: found the number 3"),
        ({"maxTrialNumber": "x"}, "maxTrialNumber: found the text 'x'"),
        ({"maxTrialDuration": "1h"}, "maxTrialDuration: has no equivalent"),
        ({"trialGPUNumber": 1}, "did you mean `trialGpuNumber`?"),
        ({"useAnnotation": True}, "useAnnotation: has no equivalent"),
        ({"authorName": "x"}, "authorName: has no equivalent in sweep: it is version 1"),
        ({"tuner": {"name": "SMAC"}}, "tuner.name: has no equivalent in sweep: there is no tuner 'SMAC'"),
        ({"tuner": {"className": "my.Tuner"}}, "tuner.className: has no equivalent"),
        ({"tuner": {"name": "TPE", "classArgs": {"optimize_mode": "max"}}}, "tuner.classArgs.optimize_mode"),
        ({"assessor": {"name": "Curvefitting"}}, "there is no assessor 'Curvefitting'"),
        ({"trainingService": {"platform": "remote"}}, "trainingService.platform: has no equivalent"),
        ({"searchSpaceFile": "x.json"}, "searchSpaceFile: stands beside `searchSpace`"),
        ({"searchSpace": None, "searchSpaceFile": "nope.json"}, "nope.json: there is no such file"),
        ({"searchSpace": [1]}, "searchSpace: found a list of 1 item"),
    ],
)
def test_nni_mistakes(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert said in complaint(written(tmp_path, {**NNI, **change}))


def test_a_mistake_in_nnis_search_space_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(
        '{"a": {"_type": "uniform", "_value": [0, 1]},\n "b": {"_type": "normal", "_value": [0, 1]}}'
    )
    document = {key: value for key, value in NNI.items() if key != "searchSpace"}
    words = complaint(written(tmp_path, {**document, "searchSpaceFile": "s.json"}))
    assert f"{tmp_path}/s.json:2: searchSpaceFile.b._type: has no equivalent" in words


def test_nni_without_a_gpu_runs_on_the_cpu(tmp_path: Path) -> None:
    assert load(written(tmp_path, {**NNI, "trialGpuNumber": 0}))[0].devices.kind == "cpu"
