"""`sweep init`: from a script's source to a space.yaml that loads, and what it says where that cannot be."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.cli.init import init_file
from sweep.config.load import load
from sweep.config.model import SweepConfig
from sweep.errors import SweepError, UsageError
from sweep.launch.output import OutputReader

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("sweep")
HEAD = "import argparse\nparser = argparse.ArgumentParser()\n"
REPORTS = "\nimport sweep\nsweep.current_trial().report(1, val_acc=0.5)\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)


def draft(source: str, script: str = "train.py") -> str:
    """What init writes for this source."""
    Path(script).write_text(source, encoding="utf-8")
    init_file(Path(script), Path("out.yaml"), force=True, as_json=True)
    return Path("out.yaml").read_text(encoding="utf-8")


def loaded(*options: str, more: str = REPORTS) -> SweepConfig:
    """The file for a script with these arguments of `add_argument`, loaded; it has no warnings."""
    draft(HEAD + "\n".join(f"parser.add_argument({one})" for one in options) + more)
    config, warnings = load(Path("out.yaml"))
    assert warnings == []
    return config


def parameter(config: SweepConfig, name: str) -> dict[str, Any]:
    return config.space[name].model_dump(exclude_none=True, exclude_defaults=True)


# ---- through the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "metric", "searched", "constants"),
    [
        (
            "examples/digits/train.py",
            "val_acc",
            "lr schedule optimizer momentum nesterov beta1 weight_decay width depth dropout label_smoothing "
            "batch_size",
            {"epochs": 12, "seed": 1},
        ),
        ("examples/plain/fit.py", "acc", "hidden activation lr alpha", {"epochs": 10, "seed": 1}),
    ],
)
def test_the_examples_check_at_once(
    folder: Path, script: str, metric: str, searched: str, constants: dict[str, int]
) -> None:
    shutil.copytree(ROOT / "examples", folder / "examples")
    done = sweep("init", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("next: sweep check space.yaml\n") and "filled in" not in done.stdout
    checked = sweep("check", "space.yaml", "--json")
    assert checked.returncode == 0, checked.stderr
    document = json.loads(checked.stdout)
    config = document["config"]
    assert document["warnings"] == []
    assert (config["metric"], config["direction"], config["name"]) == (
        [metric],
        ["maximize"],
        script.split("/")[1],
    )
    space = config["space"]
    assert [name for name, one in space.items() if one["type"] != "constant"] == searched.split()
    assert {name: one["value"] for name, one in space.items() if one["type"] == "constant"} == constants
    for sample in document["samples"]:
        words = shlex.split(sample["command"])
        assert words[:2] == ["python", script] and len(words) == 2 + len(space)


def test_a_script_with_a_chinese_name_stays_readable(folder: Path) -> None:
    (folder / "训练.py").write_text((ROOT / "examples/plain/fit.py").read_text(), encoding="utf-8")
    assert sweep("init", "训练.py").returncode == 0
    lines = (folder / "space.yaml").read_text(encoding="utf-8").splitlines()
    assert {'name: "训练"', """command: "python '训练.py' {args}\""""} <= {*lines}


def test_the_pattern_of_an_example_reads_what_it_prints(folder: Path) -> None:
    draft((ROOT / "examples/plain/fit.py").read_text())
    config, _ = load(Path("out.yaml"))
    Path("output.log").write_text("epoch 3  loss 0.4127  acc 0.9130\n")
    reader = OutputReader("output.log", config.report.mode, config.report.patterns)
    assert reader.read() == [(3, {"loss": 0.4127, "acc": 0.913})]


def test_the_script_takes_what_the_file_samples(folder: Path) -> None:
    """Every sampled command line, as it stands, is one that the script's own parser accepts."""
    Path("train.py").write_text(
        HEAD
        + """
from argparse import BooleanOptionalAction
def str_to_bool(text):
    return {"True": True, "False": False}[text]
add = parser.add_argument
group = parser.add_argument_group("model")
group.add_argument("--learning-rate", "-l", type=float, default=1e-3)
add("--augment", action="store_true")
add("--no-shuffle", dest="shuffle", action="store_false")
add("--bias", action=BooleanOptionalAction, default=True)
add("--ema", action=BooleanOptionalAction)
add("--nesterov", type=str_to_bool, default=True)
add("--act", choices=["relu", "a b", "-x", "1"], default="relu")
add("--size", type=int, choices=range(1, 4), default=2)
add("--trap", type=bool, default=True)
add("--epochs", type=int, default=3)
add("--out-dir", required=True)
args = parser.parse_args()
import json
print(json.dumps(vars(args)))
print("val acc: ", 0.5)
"""
    )
    assert sweep("init", "train.py").returncode == 0
    seen = []
    for sample in json.loads(sweep("check", "space.yaml", "--json").stdout)["samples"]:
        words = shlex.split(sample["command"])[1:]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        args, params = json.loads(done.stdout.splitlines()[0]), sample["params"]
        assert args["learning_rate"] == params["learning-rate"] and args["act"] == params["act"]
        assert args["augment"] is params["augment"] and bool(args["ema"]) is params["ema"]
        assert args["shuffle"] is not params["no-shuffle"] and args["bias"] is not params["no-bias"]
        assert str(args["nesterov"]) == params["nesterov"] and args["trap"] is True and args["epochs"] == 3
        assert args["out_dir"] and args["size"] == params["size"]
        seen.append((params["augment"], params["no-bias"], params["nesterov"]))
    assert len(set(seen)) > 1, "all samples alike would show nothing"


def test_options_with_one_dash_are_named_in_the_command() -> None:
    config = loaded(
        '"-lr", type=float, default=0.1',
        '"--drop", type=float, default=0.1',
        '"--warm", action="store_true"',
        '"--bias", action=argparse.BooleanOptionalAction',
    )
    assert config.command == ["python", "train.py", "-lr", "{lr}", "--drop", "{drop}", "{bias}"]
    assert parameter(config, "bias")["choices"] == ["--bias", "--no-bias"] and "warm" not in config.space


# ---- options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ('"--lr", type=float, default=0.01', {"low": 0.001, "high": 0.1, "log": True}),
        ('"--base-lr", type=float, default=2.0', {"low": 0.2, "high": 20.0, "log": True}),
        ('"--wd", type=float, default="1e-4"', {"low": 1e-5, "high": 1e-3, "log": True}),
        ('"--weight_decay", type=float, default=0.0', {"low": 1e-6, "high": 0.01, "log": True}),
        ('"--lr", type=float, required=True', {"low": 1e-4, "high": 0.1, "log": True}),
        ('"--noise", type=float, default=0.003', {"low": 0.0003, "high": 0.03, "log": True}),
        ('"--margin", type=float, default=3', {"low": 1.5, "high": 6.0}),
        ('"--offset", type=float, default=-4.0', {"low": -8.0, "high": -2.0}),
        ('"--dropout", type=float, default=0.1', {"low": 0.0, "high": 0.5}),
        ('"--drop_rate", type=float, default=0.6', {"low": 0.0, "high": 1.0}),
        ('"--label-smoothing", type=float, default=0.0', {"low": 0.0, "high": 0.2}),
        ('"--momentum", type=float, default=0.9', {"low": 0.5, "high": 0.99}),
        ('"--beta2", type=float, default=0.999', {"low": 0.995, "high": 0.9999}),
        ('"--hidden", type=int, default=64', {"low": 16, "high": 256, "log": True}),
        ('"--layers", type=int, default=4', {"low": 2, "high": 8}),
        ('"--heads", type=int, default=1', {"low": 1, "high": 3}),
        ('"--warmup_epochs", type=int, default=5', {"low": 2, "high": 10}),
        ('"--batch-size", type=int, default=32', {"choices": [16, 32, 64]}),
        ('"--batch", type=int, default=1', {"choices": [1, 2]}),
        ('"--opt", choices=("sgd", "adam")', {"choices": ["sgd", "adam"]}),
        ('"--norm", choices=["None", "batch"], default="None"', {"choices": ["None", "batch"]}),
        ('"--depth", type=int, choices=range(1, 4), default=2', {"choices": [1, 2, 3]}),
        ('"--nesterov", type=str2bool, default="no"', {"choices": ["yes", "no"]}),
    ],
)
def test_a_range_around_the_default(option: str, expected: dict[str, Any]) -> None:
    config = loaded(option)
    (name,) = config.space
    assert parameter(config, name) == expected


@pytest.mark.parametrize(
    "option",
    [
        '"--clip", type=float',  # no default
        '"--clip", type=float, default=0.0',  # may mean off
        '"--k", type=int, default=-1',
        '"--k", type=int, default=cfg.k',
        '"--k", type=float, default=float("nan")',
        '"--data", default="./data"',
        '"--num-workers", type=int, default=4',
        '"--device", choices=["cpu", "gpu"]',
        '"--gpu", action="store_true"',
        '"--resume", action="store_true"',
        '"--verbose", action="count"',
        '"--log_every", type=int, default=10',
        '"--dataset", choices=["mnist", "cifar"]',
        '"--rank", type=int, default=8',
        '"--hidden", type=int, nargs="+", default=[64]',
        '"--flag", type=bool, default=True',
        '"--rate", default=0.1',  # no type: text
        '"--act", choices=list_them()',
        '"--model", default="resnet"',
        '"--act", **common',
        '"--trial", type=int, default=3',  # a name that means something else in a command
    ],
)
def test_what_is_left_to_the_script(option: str) -> None:
    name = option.split('"')[1].strip("-")
    text = draft(
        HEAD + f"parser.add_argument('--lr', type=float, default=0.1)\nparser.add_argument({option})" + REPORTS
    )
    assert list(load(Path("out.yaml"))[0].space) == ["lr"]
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"# {name}:")]
    assert len(line.split("#")) == 3 or "`" in line, "it says why"


def test_names_that_hold_a_value_are_followed() -> None:
    draft(
        """
from argparse import ArgumentParser
LR: float = 1e-2
KINDS = {"sgd": object(), "adam": object()}
TWICE = 1
TWICE = 2
LOOP = LOOP2
LOOP2 = LOOP
def build():
    p = ArgumentParser()
    add, other = p.add_argument, 3
    put = p.add_argument
    p.set_defaults(width=2 ** 5 * 4)
    put("--lr", type=float, default=LR)
    put("--kind", choices=sorted(KINDS.keys()))
    put("--width", type=int, default=8)
    put("--twice", type=int, default=TWICE)
    put("--loop", type=int, default=LOOP)
    put("--big", type=int, default=9 ** 9 ** 9)
    return p
"""
        + REPORTS
    )
    config, _ = load(Path("out.yaml"))
    assert list(config.space) == ["lr", "kind", "width"]
    assert parameter(config, "width") == {"low": 32, "high": 512, "log": True}
    assert parameter(config, "kind") == {"choices": ["sgd", "adam"]}


def test_what_only_a_person_knows_is_named_by_check() -> None:
    draft(
        HEAD
        + """
parser.add_argument("images")
parser.add_argument("--train-file", required=True)
parser.add_argument("--margin", type=float, required=True)
parser.add_argument("--lr", type=float, default=0.1)
"""
    )
    done = sweep("check", "out.yaml")
    assert done.returncode == 2
    for place in ("command: `{IMAGES}`", "metric: is missing", "direction: is missing", "space.margin.low"):
        assert place in done.stderr
    assert "space.train-file.value: is missing" in done.stderr and "metric.metric" not in done.stderr
    again = sweep("init", "train.py", "--force", "--json")
    assert json.loads(again.stdout)["open"] == [
        *("{IMAGES} in the command", "metric", "direction", "space.train-file", "space.margin")
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["lr", "drop", "momentum", "batch", "x", "wd", "epochs", "seed", "smoothing"]),
    default=st.one_of(st.floats(allow_nan=False), st.integers(), st.text(max_size=20)),
    kind=st.sampled_from(["float", "int", "str", "yes_no"]),
    said=st.text(max_size=40),
)
def test_whatever_stands_in_the_script_the_file_loads(name: str, default: Any, kind: str, said: str) -> None:
    shown = "float('inf')" if default in (float("inf"), float("-inf")) else ascii(default)
    loaded('"--opt", choices=["a", "b"]', f'"--{name}", type={kind}, default={shown}, help={said!a}')


# ---- metrics ---------------------------------------------------------------------------------------------------

OPTION = HEAD + "parser.add_argument('--lr', type=float, default=0.1)\nargs, e, a, b = 0, 3, 0.25, 0.75\n"


@pytest.mark.parametrize(
    ("source", "metric", "direction"),
    [
        ("import sweep\nt = sweep.current_trial()\nt.report(1, loss=a, val_acc=b)", "val_acc", "maximize"),
        ("from sweep import current_trial\ncurrent_trial().report(1, {'val/loss': a})", "val/loss", "minimize"),
        (
            "import sweep\nsay = sweep.current_trial().report\nsay(1, train_acc=a, val_loss=b)",
            "val_loss",
            "minimize",
        ),
    ],
)
def test_the_metric_that_it_reports(source: str, metric: str, direction: str) -> None:
    draft(OPTION + source)
    config, _ = load(Path("out.yaml"))
    assert (config.metric, config.direction, config.report.mode) == ([metric], [direction], "api")


@pytest.mark.parametrize(
    ("source", "metric", "reads"),
    [
        ('print(f"epoch {e}  loss {a:.4f}  acc {b:.4f}")', "acc", (3, {"loss": 0.25, "acc": 0.75})),
        ('print("acc", b)', "acc", (0, {"acc": 0.75})),
        ('print("[%d/%d] Val Acc: %.2f%%, train loss=%8.3f." % (e, 9, b, a))', "val_acc", (0, {"val_acc": 0.75})),
        ('print("Epoch {:>4}/{} | rmse: {:<8}| took 1s".format(e, 9, a))', "rmse", (3, {"rmse": 0.25})),
        ('print("step " + str(e) + " f1=" + str(b) + "s")', "f1", (3, {"f1": 0.75})),
        (
            'print(f"epoch {e}:\\n  train loss {a} val loss {b}")',
            "val_loss",
            (0, {"train_loss": 0.25, "val_loss": 0.75}),
        ),
        ('print("loss", a)\nprint(f"test accuracy: {b}")', "test_accuracy", (0, {"test_accuracy": 0.75})),
    ],
)
def test_the_metric_that_it_prints(source: str, metric: str, reads: tuple[int, dict[str, float]]) -> None:
    """What the script prints is what the file's pattern finds."""
    draft(OPTION + source)
    config, _ = load(Path("out.yaml"))
    assert config.metric == [metric]
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True, check=True)
    Path("output.log").write_text(done.stdout)
    (step, metrics), *rest = OutputReader("output.log", config.report.mode, config.report.patterns).read()
    assert not rest and step == reads[0]
    assert {name: metrics[name] for name in reads[1]} == reads[1]


def test_a_script_that_logs_to_mlflow_is_read_there() -> None:
    draft(OPTION + "import mlflow\nmlflow.log_metric('val_f1', a)\nmlflow.log_metrics({'loss': b}, step=e)")
    config, _ = load(Path("out.yaml"))
    assert config.metric == ["val_f1"] and config.report.mode == "mlflow"


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("print('lr', a, 'time', b)", {"metric", "direction"}),
        ("import optuna\ntrial.report(a, e)", {"metric", "direction"}),
        ("import sweep\nsweep.current_trial().report(1, metrics)", {"metric", "direction"}),
        ("import sweep\nsweep.current_trial().report(1, quality=a)", {"direction"}),
    ],
)
def test_what_cannot_be_seen_is_not_guessed(
    source: str, missing: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    draft(OPTION + source)
    assert set(json.loads(capsys.readouterr().out)["open"]) == missing
    with pytest.raises(SweepError) as caught:
        load(Path("out.yaml"))
    assert all(f"{key}: is missing" in str(caught.value) for key in missing)


# ---- files -----------------------------------------------------------------------------------------------------


def test_nothing_is_run_and_nothing_overwritten() -> None:
    Path("train.py").write_text("open('ran', 'w').close()\n" + OPTION + REPORTS)
    Path("space.yaml").write_text("mine")
    done = sweep("init", "train.py")
    assert done.returncode == 2 and "space.yaml is there already" in done.stderr and "--force" in done.stderr
    assert Path("space.yaml").read_text() == "mine"
    assert sweep("init", "train.py", "--force").returncode == 0
    assert load(Path("space.yaml"))[0].metric == ["val_acc"]
    assert not Path("ran").exists()


def test_where_the_file_goes() -> None:
    Path("models").mkdir()
    Path("models/net.py").write_text(OPTION + REPORTS)
    Path("search_spaces").mkdir()
    assert sweep("init", "models/net.py").returncode == 0
    config, _ = load(Path("search_spaces/net.yaml"))
    assert config.name == "net" and config.command == ["python", "models/net.py", "{args}"]
    assert sweep("init", "models/net.py", "-o", "mine.yaml").returncode == 0
    done = sweep("init", "models/net.py", "-o", "nowhere/mine.yaml")
    assert done.returncode == 2 and "no folder nowhere" in done.stderr


def test_a_script_of_a_package_runs_as_a_module() -> None:
    Path("models").mkdir()
    draft("from . import net\n" + OPTION + REPORTS, "models/main.py")
    config, _ = load(Path("out.yaml"))
    assert config.command == ["python", "-m", "models.main", "{args}"] and config.name == "models"


def test_a_path_with_odd_characters_arrives_whole() -> None:
    name = "it's {a} #1: 训练.py"
    draft(OPTION + REPORTS, name)
    config, _ = load(Path("out.yaml"))
    assert config.command == ["python", "it's {{a}} #1: 训练.py", "{args}"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import click\n@click.command()\n@click.option('--lr')\ndef main(): ...",
            "by click; only argparse is read",
        ),
        ("import typer\ntyper.run(print)", "by typer"),
        ("lr = 0.1", "has no argparse options"),
        (HEAD + "for n in 'ab': parser.add_argument('--' + n)", "in a way that only running it would show"),
        (HEAD + "parser.add_subparsers().add_parser('a').add_argument('--lr', type=float)", "has subcommands"),
    ],
)
def test_what_is_not_read_is_said_with_what_to_do(source: str, says: str) -> None:
    Path("train.py").write_text(source)
    done = sweep("init", "train.py")
    assert done.returncode == 2 and says in done.stderr and not Path("space.yaml").exists()
    assert "command: python train.py" in done.stderr, "what to write by hand"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!/bin/sh\nexec python $@", "train.sh:2 is not Python"),
        (b"\xff\xfe", "is not Python"),
        (None, "No such file"),
    ],
)
def test_what_is_no_script(content: bytes | None, says: str) -> None:
    if content is not None:
        Path("train.sh").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        init_file(Path("train.sh"), None, force=False, as_json=False)
    assert [one.name for one in Path().iterdir()] == (["train.sh"] if content is not None else [])
