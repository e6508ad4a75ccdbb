"""space.yaml -> SweepConfig: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.config.load import load
from sweep.config.model import Categorical, Constant, Float, Int, SweepConfig
from sweep.config.reading import assignments
from sweep.errors import ConfigError

BASE = {
    "command": "python train.py --lr {lr}",
    "metric": "val_acc",
    "direction": "maximize",
    "trials": "5",
    "space": "\n  lr: {type: float, low: 1e-4, high: 1e-1, log: true}",
}
SIGNS = ["report", "output", "checkpoint", "device", "cpu"]
ANY = {"kind": "auto", "count": None, "ids": None, "free_memory": None, "yields": "no"}


def file(folder: Path, text: str = "", **keys: str) -> Path:
    """The base file with some keys replaced (or taken out by "-"), and text behind it."""
    lines = [f"{key}: {value}" for key, value in {**BASE, **keys}.items() if value != "-"]
    path = folder / "space.yaml"
    path.write_text("\n".join(lines) + "\n" + text, encoding="utf-8")
    return path


def complaint(path: Path, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_file_of_the_design(tmp_path: Path) -> None:
    path = tmp_path / "ocr.yaml"
    path.write_text(
        """
name: ocr-rec
command: python train.py --lr {lr} --width {width} --opt {optimizer} --momentum {momentum} --epochs {epochs}
metric: val_acc            # a name, or a list for several objectives
direction: maximize        # or a list
space:
  lr:        {type: float, low: 1.0e-4, high: 1.0e-1, log: true}
  width:     {type: int, low: 16, high: 128, step: 16}
  optimizer: [sgd, adam]
  momentum:  {type: float, low: 0.0, high: 0.99, when: {optimizer: sgd}}
  epochs: 20
trials: 50
"""
    )
    config, warnings = load(path)
    assert warnings == []
    assert config.space == {
        "lr": Float(low=1e-4, high=1e-1, log=True),
        "width": Int(low=16, high=128, step=16),
        "optimizer": Categorical(choices=["sgd", "adam"]),
        "momentum": Float(low=0.0, high=0.99, when={"optimizer": ["sgd"]}),
        "epochs": Constant(value=20),
    }
    assert (config.name, config.metric, config.direction, config.trials) == (
        "ocr-rec",
        ["val_acc"],
        ["maximize"],
        50,
    )
    assert config.command is not None
    assert config.command[:4] == ["python", "train.py", "--lr", "{lr}"]


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("timeout: 90s", "timeout", 90.0),
        ("timeout: 1.5h", "timeout", 5400.0),
        ("timeout: 2d", "timeout", 172800.0),
        ("timeout: 30", "timeout", 30.0),
        ("grace: 0", "grace", 0.0),
        ("devices: auto", "devices", ANY),
        ("devices: cpu:4", "devices", {**ANY, "kind": "cpu", "count": 4}),
        ("devices: gpu:2", "devices", {**ANY, "kind": "gpu", "count": 2}),
        ("devices: [0, 2]", "devices", {**ANY, "kind": "gpu", "ids": ["0", "2"]}),
        ("devices: {free_memory: 0.8}", "devices", {**ANY, "free_memory": 0.8}),
        ("devices: {yield: checkpoint}", "devices", {**ANY, "yields": "checkpoint"}),
        ("devices: {kind: npu, yield: no}", "devices", {**ANY, "kind": "npu"}),
        ("devices: xpu:2", "devices", {**ANY, "kind": "xpu", "count": 2}),
        ("devices: [NPU-0000-C1-00-0]", "devices", {**ANY, "kind": "npu", "ids": ["NPU-0000-C1-00-0"]}),
        ("devices: {ids: [0, GPU-8f], free_memory: 0.5}", "devices",
         {**ANY, "kind": "gpu", "ids": ["0", "GPU-8f"], "free_memory": 0.5}),
        ("devices: GPU-8f1e-77", "devices", {**ANY, "kind": "gpu", "ids": ["GPU-8f1e-77"]}),
        ("retry: 2", "retry", {"times": 2, "on": ["crashed", "oom"], "backoff": 0.0}),
        (
            "retry: {times: 1, on: [timed_out], backoff: 1m}",
            "retry",
            {"times": 1, "on": ["timed_out"], "backoff": 60.0},
        ),
        ("retry: {times: 1, on: []}", "retry", {"times": 1, "on": ["crashed", "oom"], "backoff": 0.0}),
        ("stall: false", "stall", {"enabled": False, "after": None, "signs": SIGNS, "action": "prune"}),
        ("stall: 30m", "stall", {"enabled": True, "after": 1800.0, "signs": SIGNS, "action": "prune"}),
        ("stall: retry", "stall", {"enabled": True, "after": None, "signs": SIGNS, "action": "retry"}),
        ("stall: {signs: [cpu]}", "stall", {"enabled": True, "after": None, "signs": ["cpu"], "action": "prune"}),
        ("budget: 40", "budget", {"gpu_hours": 40.0}),
        (
            "failures: [{pattern: NCCL, action: retry}]",
            "failures",
            [{"pattern": "NCCL", "outcome": None, "action": "retry"}],
        ),
        ("fail_fast: false", "fail_fast", 0),
        ("fail_fast: 7", "fail_fast", 7),
        ("slots_per_device: auto", "slots_per_device", "auto"),
        ("checkpoints: 3", "checkpoints", {"keep": 3}),
        ("report: json", "report", {"mode": "json", "patterns": []}),
        (
            r"report: {pattern: 'acc (?P<val_acc>\S+)'}",
            "report",
            {"mode": "pattern", "patterns": [r"acc (?P<val_acc>\S+)"]},
        ),
        ("sampler: random", "sampler", {"name": "random", "options": {}}),
        (
            "pruner: {name: patient, patience: 3, wrapped_pruner: {name: median}}",
            "pruner",
            {"name": "patient", "options": {"patience": 3, "wrapped_pruner": {"name": "median"}}},
        ),
        ("env: {OMP_NUM_THREADS: 4, FLAG: true, RATIO: 0.5, ON: on}", "env",
         {"OMP_NUM_THREADS": "4", "FLAG": "true", "RATIO": "0.5", "ON": "on"}),
        ("warm: paddle", "warm", ["paddle"]),
        ("seed: null", "seed", None),
        ("enqueue: [{lr: 0.01}]", "enqueue", [{"lr": 0.01}]),
    ],
)  # fmt: skip
def test_short_forms(tmp_path: Path, line: str, key: str, expected: object) -> None:
    config, _ = load(file(tmp_path, line))
    assert config.model_dump(mode="json")[key] == expected


@pytest.mark.parametrize(
    ("value", "enabled", "uri"),
    [
        ("false", False, None),
        ("http://mlflow:5000", True, "http://mlflow:5000"),
        ("{tracking_uri: sqlite:///x.db, register: ocr}", True, "sqlite:///x.db"),
    ],
)
def test_mlflow(tmp_path: Path, value: str, enabled: bool, uri: str | None) -> None:
    mlflow = load(file(tmp_path, mlflow=value))[0].mlflow
    assert (mlflow.enabled, mlflow.tracking_uri) == (enabled, uri)


def test_the_dump_is_read_back_as_the_same_config(tmp_path: Path) -> None:
    text = "devices: [0]\nretry: 1\nmlflow: {register: m}\nsampler: {name: tpe, seed: 1}\nreport: json"
    space = "{lr: 0.1, o: [2, true, '1', null, 1.5], m: {type: int, low: 1, high: 9, when: {o: ['1', true]}}}"
    config, _ = load(file(tmp_path, text, space=space))
    assert SweepConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config
    assert [type(choice) for choice in config.space["o"].choices] == [int, bool, str, type(None), float]  # type: ignore[union-attr]


def test_yaml_1_2_words_stay_words_and_exponents_are_numbers(tmp_path: Path) -> None:
    space = "{lr: 1e-4, flag: [on, off, yes], when_: 2026-01-31, octal: 010}"
    config, _ = load(file(tmp_path, space=space, trials="1"))
    assert config.space["lr"] == Constant(value=1e-4)
    assert config.space["flag"] == Categorical(choices=["on", "off", "yes"])
    assert config.space["when_"] == Constant(value="2026-01-31")
    assert config.space["octal"] == Constant(value=10)


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    space = "\n  lr: &range {type: float, low: 0.1, high: 1.0}\n  wd: {<<: *range, high: 0.5}\n  m: *range"
    config, _ = load(file(tmp_path, space=space))
    assert config.space["wd"] == Float(low=0.1, high=0.5)
    assert config.space["m"] == config.space["lr"]


def test_the_name_is_the_files_made_safe(tmp_path: Path) -> None:
    path = file(tmp_path).rename(tmp_path / "my space (2).yaml")
    assert load(path)[0].name == "my-space-2"


# what is wrong, and what the error has to say; the base file has six lines, text comes from line 7 on
MISTAKES = [
    ("trails: 5", ["space.yaml:7: trails: is no key here", "did you mean `trials`?"]),
    ("goal: max", ["goal", "here it is called `direction`"]),
    ("image: paddle:3.3", ["image: is not in this version yet"]),
    ("stall: {after: soon}", ["stall.after: found the text 'soon'; wanted are seconds"]),
    ("stall: {signs: []}", ["stall.signs: names no sign of life"]),
    ("stall: {signs: [gpu]}", ["stall.signs[0]: found the text 'gpu'"]),
    ("failures: [{pattern: '(', action: stop}]", ["failures[0].pattern: is no regular expression"]),
    ("failures: [{pattern: NCCL}]", ["failures[0]: has neither `outcome` nor `action`"]),
    ("budget: {hours: 4}", ["budget.hours: is no key here", "gpu_hours"]),
    ("budget: -1", ["budget: found the number -1; wanted is above 0"]),
    ("on_nan: stop", ["on_nan: found the text 'stop'"]),
    ("duplicates: drop", ["duplicates: found the text 'drop'"]),
    ("fail_rate: 2", ["fail_rate: found the number 2; wanted is below 1"]),
    ("image: x", ["image: is not in this version yet"]),
    ("trials: 5", ["trials: stands here, and again in line 7"]),
    ("timeout: soon", ["timeout: found the text 'soon'", "90s, 15m, 2h, 1d"]),
    ("timeout: 0", ["timeout: found the number 0; wanted is above 0"]),
    ("seed: 1.5", ["seed: found the number 1.5; wanted is a whole number"]),
    ("seed: '1'", ["seed: found the text '1'", "write it without quotes"]),
    ("slots: true", ["slots: found true; wanted is a whole number"]),
    ("slots_per_device: auot", ["found the text 'auot'; wanted is a whole number of at least 1, or `auto`"]),
    ("slots_per_device: 0", ["slots_per_device: found the number 0"]),
    ("slots_per_device: auto\ndevices_per_trial: 2", ["`auto` is not for trials on several devices"]),
    ("priority: 101", ["priority: found the number 101; wanted is at most 100"]),
    ("name: a/b", ["name: found the text 'a/b'", "such as `a-b`"]),
    ("name: ..", ["name: found the text '..'"]),
    ("devices: gpus", ["devices: found the text 'gpus'", "`gpu:2`", "`[0, 2]`"]),
    ("devices: [0, 0]", ["devices", "a device twice"]),
    ("devices: {free_memory: 90}", ["devices.free_memory"]),
    ("devices: {yield: now}", ["devices.yield"]),
    ("devices: {ids: [0, -1]}", ["devices.ids[1]"]),
    ("devices: [0, -1]", ["devices[1]: found the number -1"]),
    ("retry: {times: 1, on: [crash]}", ["retry.on[0]: found the text 'crash'", "did you mean `crashed`?"]),
    ("fail_fast: true", ["fail_fast: found true"]),
    ("mlflow: {uri: x}", ["mlflow.uri: is no key here", "here it is called `tracking_uri`"]),
    ("mlflow: {tracking_url: x}", ["mlflow.tracking_url", "did you mean `tracking_uri`?"]),
    ("pruner: {name: threshold, lower: -.inf}", ["pruner", "wanted are finite numbers"]),
    ("sampler: {seed: 1}", ["sampler: has `seed` but no `name`"]),
    ("objective: a:b", ["objective: stands beside `command`"]),
    ("report: xml", ["report", "'xml'", "`pattern`"]),
    ("report: {pattern: '('}", ["report.pattern: is no regular expression"]),
    (r"report: {pattern: ['(?P<val_acc>x)', '(\d)']}", ["report.pattern[1]: has no named group"]),
    (r"report: {pattern: '(?P<step>\d)'}", ["report.pattern: finds only a step, but not the metric `val_acc`"]),
    ("report: {pattern: '(?P<acc>x)(?P<step>1)'}", ["report.pattern: finds `acc`, but not the metric `val_acc`"]),
    ("report: {pattern: '(?P<val_acc>x)', mode: json}", ["report.mode: is no key beside `pattern`"]),
    ("env: {A: [1]}", ["env.A: found a list of 1 item"]),
    ("enqueue: [{lr: 0.01}, {lr: 5}]", ["enqueue[1].lr: `lr` lies in 0.0001 .. 0.1, 5 does not"]),
    ("enqueue: [{rl: 0.01}]", ["enqueue[0].rl: is no parameter", "did you mean `lr`?"]),
    ("1: x", ["key is `1`; keys are words", "'1'"]),
    ("? [a]\n: x", ["the key is a list or a mapping"]),
    ("log: !!python/object:os.system x", ["space.yaml:7: log: has the tag `!!python/object:os.system`"]),
    ('log: "\\0"', ["log: holds a NUL character"]),
    ('log: "\\ud800"', ["log: holds half of a surrogate pair"]),
    ("log: 0x" + "f" * 5000, ["log: is a whole number of more than 64 bits"]),
    ("log: !!int x", ["log: 'x' is no int"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text[:30] for text, _ in MISTAKES])
def test_mistakes_at_the_top(tmp_path: Path, text: str, said: list[str]) -> None:
    words = complaint(file(tmp_path, text))
    assert [part for part in said if part not in words] == [], words


PARAMETERS = [
    ("{low: 1, high: 2}", ["space.x: has `low`, `high` but no `type`", "`type: float` or `type: int`"]),
    ("{choices: [1]}", ["no `type`", "write the list alone"]),
    ("{}", ["space.x: has nothing but no `type`"]),
    ("{type: integer, low: 1}", ["space.x.type: found the text 'integer'", "did you mean `int`?"]),
    ("{type: float, low: 1}", ["space.x.high: is missing"]),
    ("{type: float, min: 1, max: 2}", ["space.x.min", "here it is called `low`", "here it is called `high`"]),
    ("{type: float, low: 1, high: 2, setp: 1}", ["space.x.setp: is no key here", "did you mean `step`?"]),
    ("{type: float, low: '1', high: 2}", ["space.x.low: found the text '1'; wanted is a number"]),
    ("{type: float, low: .nan, high: .inf}", ["space.x.low: found nan; wanted is a finite", "space.x.high"]),
    ("{type: float, low: 2, high: 1}", ["space.x.low: 2.0 is above the upper bound, 1.0"]),
    ("{type: float, low: 0, high: 1, log: true}", ["space.x.low: 0.0 is not above 0"]),
    ("{type: float, low: 1, high: 2, log: true, step: 1}", ["space.x.step: `step` and `log` cannot go together"]),
    ("{type: float, low: 1, high: 2, step: 0}", ["space.x.step: 0.0 is not above 0"]),
    ("{type: float, low: -1e308, high: 1e308}", ["too wide"]),
    ("{type: float, low: 0, high: 1, step: 1e-30}", ["too small a step"]),
    ("{type: int, low: 1.5, high: 2}", ["space.x.low: found the number 1.5; wanted is a whole number"]),
    ("{type: int, low: true, high: 2}", ["space.x.low: found true"]),
    ("{type: int, low: 0, high: 2, log: true}", ["space.x.low: 0 is not 1 or more"]),
    ("{type: int, low: 1, high: 4, log: true, step: 2}", ["space.x.step"]),
    ("{type: int, low: 1, high: 1e17}", ["space.x.high", "at most 9007199254740992"]),
    ("{type: int, low: 1, high: 2, log: 1}", ["space.x.log: found the number 1; wanted is true or false"]),
    ("[]", ["space.x: is an empty list"]),
    ("[sgd, adam, sgd]", ["space.x[2]: 'sgd' is among the choices already"]),
    ("[1, 1.0]", ["space.x[1]: 1.0 is among the choices already"]),
    ("[1, true]", ["space.x[1]: true and 1 are one choice to Python, and", "make them text: 'true' and '1'"]),
    ("{type: categorical, choices: [false, 0.0]}", ["space.x.choices[1]: 0.0 and false are one choice"]),
    ("[[1]]", ["space.x[0]: found a list of 1 item"]),
    ("[.inf]", ["space.x[0]: found inf"]),
    (".nan", ["space.x: found nan"]),
    ("{type: categorical, choices: sgd}", ["space.x.choices: found the text 'sgd'; wanted is a list"]),
    ("{type: constant}", ["space.x.value: is missing"]),
    ("{type: int, low: 1, high: 2, when: sgd}", ["space.x.when: found the text 'sgd'; wanted are conditions"]),
    ("{type: int, low: 1, high: 2, when: {opt: []}}", ["space.x.when.opt: is an empty list"]),
    ("{type: int, low: 1, high: 2, when: {otp: sgd}}", ["space.x.when.otp: `otp` is no parameter", "mean `opt`?"]),
    ("{type: int, low: 1, high: 2, when: {opt: adm}}", ["space.x.when.opt: never holds", "did you mean `adam`?"]),
    ("{type: int, low: 1, high: 2, when: {opt: [sgd, 1]}}", ["space.x.when.opt[1]: never holds"]),
    ("{type: int, low: 1, high: 2, when: {depth: 12}}", ["never holds: `depth` lies in 1 .. 9, 12 does not"]),
    ("{type: int, low: 1, high: 2, when: {depth: 4}}", ["goes from 1 in steps of 2, past 4"]),
    ("{type: int, low: 1, high: 2, when: {x: 1}}", ["`x` cannot depend on itself"]),
    ("{type: int, low: 1, high: 2, when: {ring: 1}}", ["depends on itself: ring -> x -> ring"]),
    ("{type: constant, value: 1, when: {epochs: 21}}", ["never holds: `epochs` is always 20"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "said"), PARAMETERS, ids=[spec[:40] for spec, _ in PARAMETERS])
def test_mistakes_in_a_parameter(tmp_path: Path, spec: str, said: list[str]) -> None:
    ring = "{type: int, low: 1, high: 2, when: {x: 1}}" if "ring" in spec else "3"
    space = (
        f"\n  opt: [sgd, adam]\n  depth: {{type: int, low: 1, high: 10, step: 2}}\n  epochs: 20\n  ring: {ring}"
    )
    words = complaint(file(tmp_path, space=f"{space}\n  x: {spec}", command="python t.py {args}"))
    assert [part for part in said if part not in words] == [], words
    assert "space.yaml:10: space.x" in words or "space.yaml:9: space.ring" in words


@pytest.mark.parametrize("name", ["l r", "1lr", "{lr}", "trial", "args", "''", "lr:x"])
def test_names_that_cannot_stand_in_braces(tmp_path: Path, name: str) -> None:
    assert name.strip("'") in complaint(file(tmp_path, space=f"{{'{name.strip(chr(39))}': 1, lr: [1, 2]}}"))


@pytest.mark.parametrize("name", ["学习率", "learning-rate", "optimizer.lr", "_x1"])
def test_names_that_can(tmp_path: Path, name: str) -> None:
    config, warnings = load(file(tmp_path, space=f"{{{name}: [1, 2]}}", command=f"'./t {{{name}}}'"))
    assert (list(config.space), warnings) == ([name], [])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"metric": "-"}, ["metric: is missing", "metric: val_acc"]),
        ({"direction": "-"}, ["direction: is missing", "`maximize` or `minimize`"]),
        ({"direction": "max"}, ["direction: found the text 'max'", "did you mean `maximize`?"]),
        ({"direction": "[maximize, minimize]"}, ["direction: has 2 for 1 metric"]),
        ({"metric": "[a, a]", "direction": "[minimize, minimize]"}, ["metric[1]: `a` stands here twice"]),
        ({"metric": "[]", "direction": "[]"}, ["metric: names no metric"]),
        ({"metric": "step"}, ["'step', which cannot name a metric"]),
        ({"metric": "[a, b]", "direction": "[minimize, minimize]", "pruner": "median"}, ["pruner: cannot prune"]),
        ({"command": "-"}, ["neither `command` nor `objective`"]),
        ({"command": "-", "objective": "train"}, ["objective: found the text 'train'; wanted is module:function"]),
        ({"command": "python t.py 'x"}, ["command: a quote is never closed"]),
        ({"command": "''"}, ["command: holds no words"]),
        ({"command": "python t.py {rl}"}, ["command: `{rl}` is no parameter", "did you mean `lr`?"]),
        ({"space": "-"}, ["space: is missing"]),
        ({"space": "{}", "command": "python t.py"}, ["space: holds nothing to search", "trials: 1"]),
        ({"space": "{lr: 0.1}"}, ["space: holds nothing to search"]),
        ({"space": "[lr]"}, ["space: found a list of 1 item; wanted is keys with values"]),
        ({"trials": "0"}, ["trials: found the number 0; wanted is at least 1"]),
    ],
)
def test_mistakes_between_keys(tmp_path: Path, keys: dict[str, str], said: list[str]) -> None:
    words = complaint(file(tmp_path, **keys))
    assert [part for part in said if part not in words] == [], words
    assert " mistakes:" not in words, words


def test_a_single_constant_trial_is_fine(tmp_path: Path) -> None:
    assert load(file(tmp_path, space="{lr: 0.1}", trials="1"))[0].space == {"lr": Constant(value=0.1)}


def test_every_mistake_is_told_in_one_error_in_the_order_of_the_file(tmp_path: Path) -> None:
    space = (
        "\n  lr: {type: float, low: 1, high: x}"
        "\n  m: {type: float, low: 0, high: .inf, when: {otp: sgd}}"
        "\n  opt: [sgd, sgd]"
    )
    words = complaint(
        file(tmp_path, "trails: 3\npruner: 5", space=space, direction="up", command="t {rl} {lr:.2f}")
    )
    told = [line.strip().split(": ")[:2] for line in words.splitlines() if line.startswith("  " + str(tmp_path))]
    assert [(int(place.rpartition(":")[2]), key) for place, key in told] == [
        (1, "command"),
        (3, "direction"),
        (6, "space.lr.high"),
        (7, "space.m.high"),
        (7, "space.m.when.otp"),
        (8, "space.opt[1]"),
        (9, "trails"),
        (10, "pruner"),
    ]
    assert "8 mistakes" in words


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"trials": "-"}, "no `trials` and no `timeout`"),
        ({"space": "{lr: {type: int, low: 16, high: 120, step: 16}}"}, "the highest value will be 112"),
        ({"space": "{lr: {type: float, low: 0, high: 1, step: 0.3}}"}, "the highest value will be 0.9"),
        ({"space": "{lr: [1, 2], wd: [1, 2]}"}, "`wd` is not in the command"),
        ({"command": "python t.py {lr} '&&' x"}, "`&&` is handed to the program as it is"),
        (
            {"space": "{lr: {type: float, low: 0, high: 1}, b: {type: constant, value: 1, when: {lr: 0.5}}}"}
            | {"command": "t {args}"},
            "`lr` is real",
        ),
    ],
)  # fmt: skip
def test_warnings(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    _, warnings = load(file(tmp_path, **keys))
    assert len(warnings) == 1
    assert said in warnings[0]


@pytest.mark.parametrize("end", ["timeout: 1h", "sampler: grid"])
def test_no_warning_for_a_sweep_that_ends(tmp_path: Path, end: str) -> None:
    assert load(file(tmp_path, end, trials="-", space="{lr: [1, 2]}"))[1] == []


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"null", "is empty"),
        (b"- a\n- b", ":1: holds a list of 2 items at the top"),
        (b"just words", "holds 'just words' at the top"),
        (b"a: 1\nb: \xc4\xe3", ":2: is not UTF-8 text (byte 0xc4)"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
        (b"a: 1\nb:\n\t- c", ":3:1: is not YAML here"),
        (b"a: [1, 2", ":1:9: is not YAML here"),
        (b'a: "\\d"', "use single quotes"),
        (b"a: b: c", "put a text that holds `: ` in quotes"),
        (b"a: 1\n---\nb: 2", "expected a single document"),
        (b"[" * 1000, "is nested deeper than 32 levels"),
        (b"a: " + b"[" * 40 + b"]" * 40, "is nested deeper than 32 levels"),
        (b"a: &a [*a]", "is nested deeper than 32 levels"),
        (b"a: &a\n  <<: *a", "is nested deeper than 32 levels"),
        (b"#" * 300_000, "is larger than 256 KiB"),
        (b"\x00", "is not YAML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(raw)
    assert said in complaint(path)


def test_aliases_of_aliases_do_not_blow_up(tmp_path: Path) -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for one, other in zip("bcdefghi", "abcdefgh", strict=True):
        text += f"{one}: &{one} [{', '.join([f'*{other}'] * 10)}]\n"
    assert "holds more than 50000 values" in complaint(file(tmp_path, text))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    file(tmp_path)
    assert "did you mean" in complaint(tmp_path / "spaec.yaml")
    assert "is a folder" in complaint(tmp_path)
    assert "cannot be read" in complaint(Path("a\0b"))


def test_a_byte_order_mark_and_json_with_tabs_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    document = {**BASE, "trials": 5, "space": {"lr": [0.1, "\U0001f600"]}}
    path.write_text("\ufeff" + json.dumps(document, indent="\t"), encoding="utf-8")
    assert load(path)[0].space["lr"] == Categorical(choices=[0.1, "\U0001f600"])


def test_overrides(tmp_path: Path) -> None:
    words = ["trials=9", "space.lr.high=0.5", "space.lr.log=false", "mlflow.experiment=x y", "enqueue=[{lr: 0.3}]"]
    config, _ = load(file(tmp_path), assignments(words))
    assert (config.trials, config.mlflow.experiment, config.enqueue) == (9, "x y", [{"lr": 0.3}])
    assert config.space["lr"] == Float(low=1e-4, high=0.5)


def test_an_override_of_a_name_with_dots_and_of_a_list(tmp_path: Path) -> None:
    space = "{optimizer.lr: {type: float, low: 0, high: 1}, o: [sgd, adam]}"
    overrides = {"space.optimizer.lr.high": 0.5, "space.o.1": "rmsprop"}
    config, _ = load(file(tmp_path, space=space, command="t {args}"), overrides)
    assert config.space["optimizer.lr"] == Float(low=0, high=0.5)
    assert config.space["o"] == Categorical(choices=["sgd", "rmsprop"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"trials": 0}, "--set trials: trials: found the number 0"),
        ({"trails": 5}, "--set trails: trails: is no key here"),
        ({"space.lr": {"type": "float", "low": 1}}, "--set space.lr: space.lr.high: is missing"),
        ({"trials.low": 1}, "--set trials.low: trials is 5, so there is no `low` in it"),
        ({"enqueue.3": {}}, "--set enqueue.3: enqueue is a list of 1 item, it has no `3`"),
        ({"a..b": 1}, "is not a dotted key"),
    ],
)
def test_mistakes_in_overrides_name_the_option(tmp_path: Path, overrides: dict[str, Any], said: str) -> None:
    assert said in complaint(file(tmp_path, "enqueue: [{lr: 0.01}]"), overrides)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("k=5", 5),
        ("k=1e-4", 1e-4),
        ("k=true", True),
        ("k=on", "on"),
        ("k=", None),
        ("k=null", None),
        ("k=python t.py --lr {lr}", "python t.py --lr {lr}"),
        ("k=acc: (?P<a>x)", "acc: (?P<a>x)"),
        ("k='5'", "5"),
        ("k=[1, a]", [1, "a"]),
        ("k={a: {b: 1}}", {"a": {"b": 1}}),
        ("k=a=b", "a=b"),
        ("k=# x", "# x"),
        ("k=*x", "*x"),
        ("k=!!python/object:x y", "!!python/object:x y"),
    ],
)
def test_assignments(word: str, value: object) -> None:
    [(key, read)] = assignments([word]).items()
    assert (key, read, type(read)) == ("k", value, type(value))


@pytest.mark.parametrize("word", ["trials", "=5", "", "k=[1"])
def test_words_that_assign_nothing(word: str) -> None:
    with pytest.raises(ConfigError):
        assignments([word])
