"""What a trial is run with: words of the command, params.json, functions, the environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project

SAY = """
    import json, os, sys, sweep
    trial = sweep.current_trial()
    facts = {
        "argv": sys.argv[1:], "params": trial.params, "env": dict(os.environ), "cwd": os.getcwd(),
        "stdin": sys.stdin.read(), "session": os.getsid(0) == os.getpid(),
    }
    json.dump(facts, open(trial.directory + "/said.json", "w"))
    trial.report(0, acc=len(str(trial.params)))
"""
AGAIN = """
    import json, os, sys, sweep
    trial = sweep.current_trial()
    json.dump({"argv": sys.argv[1:], "params": trial.params, "env": dict(os.environ), "cwd": os.getcwd(),
               "out": os.path.isdir(sys.argv[-1]), "number": trial.number}, sys.stdout)
"""
ODD = [
    "a b",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`; rm -rf *",
    "精度 ü",
    "--option",
    "",
    "two\nlines",
    "{x}",
    "\\",
    "%s",
]


def said(project: Project, trial: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(trial["attempts"][-1]["directory"], "said.json").read_text())
    return found


# ---- commands ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(shared: Project) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every odd value once, in a folder of its own: (trial, what it said of itself)."""
    shared.write("work/train.py", SAY)
    document = shared.run(
        command="python train.py {{x}} --text {text} --pair=<{text}|{text}> {trial} {attempt} {sweep} "
        "{attempt_dir}",
        space={"text": ODD, "fixed": "a constant"},
        sampler="grid",
        trials=None,
        cwd="work",
        env={"COLOUR": "blue $HOME", "OMP_NUM_THREADS": "7", "SWEEP_TRIAL": "ours"},
        devices="cpu:3",
    )
    return [(trial, said(shared, trial)) for trial in document["trials"]]


def test_every_value_arrives_whole(odd: Any, shared: Project) -> None:
    assert sorted(trial["params"]["text"] for trial, _ in odd) == sorted(ODD)
    for trial, says in odd:
        text, number = trial["params"]["text"], trial["number"]
        folder = str(shared.directory().attempt(number, 1).path)
        assert says["argv"] == ["{x}", "--text", text, f"--pair=<{text}|{text}>", str(number), "1", "s-1", folder]
        assert says["params"] == {"text": text, "fixed": "a constant"}


def test_the_process_gets_what_the_design_says(odd: Any, shared: Project) -> None:
    for trial, says in odd:
        env, attempt = says["env"], shared.directory().attempt(trial["number"], 1)
        assert env["SWEEP_ID"] == "s-1" and env["SWEEP_TRIAL"] == str(trial["number"]), "what is ours wins"
        assert env["SWEEP_ATTEMPT"] == "1" and env["SWEEP_ATTEMPT_DIR"] == str(attempt.path)
        assert env["SWEEP_PARAMS"] == str(attempt.params)
        assert env["COLOUR"] == "blue $HOME" and env["OMP_NUM_THREADS"] == "7", "what the file says wins"
        assert (
            env["MKL_NUM_THREADS"] == "1" and env["CUDA_VISIBLE_DEVICES"] == "" and env["PYTHONUNBUFFERED"] == "1"
        )
        assert env["PATH"] == os.environ["PATH"]
        assert says["cwd"] == str(shared.path / "work") and says["stdin"] == "" and says["session"]


def test_best_prints_a_command_that_a_shell_runs_the_same(odd: Any, shared: Project) -> None:
    (best,) = shared.sweep("best", "--json").json["trials"]
    shared.write("work/train.py", AGAIN)
    line = ["bash", "-c", best["command"]]
    done = subprocess.run(
        line, cwd=shared.path, env=shared.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    says = json.loads(done.stdout)
    (before,) = (one for trial, one in odd if trial["number"] == best["number"])
    assert best["params"]["text"] == max(ODD, key=len)
    assert says["argv"] == [*before["argv"][:-1], f"s-1-trial-{best['number']}"]
    assert says["out"], "its folder is there, as in the trial"
    assert (says["params"], says["cwd"], says["number"]) == (before["params"], before["cwd"], None)
    for name in ("COLOUR", "OMP_NUM_THREADS"):
        assert says["env"][name] == before["env"][name]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_secret_of_the_file_is_not_in_the_command_but_asked_for(project: Project, shell: str) -> None:
    project.write("train.py", "import os, sweep\nsweep.current_trial().report(0, acc=len(os.environ['API_KEY']))")
    project.run(command="python train.py", space={"x": [1, 2]}, env={"API_KEY": "hush"}, trials=1)
    line = project.sweep("best", "--json").json["trials"][0]["command"]
    assert "hush" not in line
    options: Any = {"cwd": project.path, "capture_output": True, "text": True}
    without = subprocess.run([shell, "-c", line], env=project.env, **options)
    assert without.returncode and "API_KEY: is set in space.yaml" in without.stderr
    assert subprocess.run([shell, "-c", line], env={**project.env, "API_KEY": "hush"}, **options).returncode == 0


def test_inactive_parameters_are_left_out_with_their_options(project: Project) -> None:
    project.write("train.py", SAY)
    document = project.run(
        command="python train.py --optimizer {optimizer} --momentum {momentum} --beta={beta} {args}",
        space={
            "optimizer": ["sgd", "adam"],
            "momentum": {"type": "float", "low": 0.5, "high": 0.5, "step": 0.1, "when": {"optimizer": "sgd"}},
            "beta": {"type": "int", "low": 3, "high": 3, "when": {"optimizer": ["adam"]}},
            "epochs": 20,
        },
        sampler="bruteforce",
        trials=None,
    )
    found = {trial["params"]["optimizer"]: said(project, trial) for trial in document["trials"]}
    words = {optimizer: " ".join(says["argv"]) for optimizer, says in found.items()}
    assert words["sgd"] == "--optimizer sgd --momentum 0.5 --optimizer=sgd --momentum=0.5 --epochs=20"
    assert words["adam"] == "--optimizer adam --beta=3 --optimizer=adam --beta=3 --epochs=20"
    assert found["sgd"]["params"] == {"optimizer": "sgd", "momentum": 0.5, "epochs": 20}


# ---- functions -----------------------------------------------------------------------------------------------


FUNCTIONS = """
    import os, sweep
    from .helper import square
    class Tasks:
        @staticmethod
        def train(kind, x, trial):
            print("env", os.environ["SWEEP_TRIAL"], trial.number)
            if kind == "number":
                return square(x)
            if kind == "mapping":
                return {"acc": x, "loss": -x}
            if kind == "reports":
                for step in range(3):
                    trial.report(step, acc=x + step)
                return None
            if kind == "reports and returns":
                trial.report(5, acc=0)
                return [x]
            if kind == "nothing":
                return None
            if kind == "text":
                return "0.9x"
            if kind == "two":
                return 1, 2
            if kind == "pruned":
                raise sweep.TrialPruned("hopeless")
            raise KeyError(kind)
"""
KINDS = ["number", "mapping", "reports", "reports and returns", "nothing", "text", "two", "pruned", "error"]


@pytest.fixture(scope="module")
def called(shared: Project) -> dict[str, dict[str, Any]]:
    """The trials of one sweep over everything that a function may do, by kind."""
    for name in ("deep/__init__.py", "deep/down/__init__.py"):
        shared.write(name, "")
    shared.write("deep/down/helper.py", "def square(x): return x * x")
    shared.write("deep/down/tasks.py", FUNCTIONS)
    document = shared.run(
        name="f",
        command=None,
        objective="deep.down.tasks:Tasks.train",
        space={"kind": KINDS, "x": 3.0},
        sampler="grid",
        trials=None,
        fail_fast=False,
    )
    return {trial["params"]["kind"]: trial for trial in document["trials"]}


@pytest.mark.parametrize(
    ("kind", "value", "step"),
    [("number", 9.0, 0), ("mapping", 3.0, 0), ("reports", 5.0, 2), ("reports and returns", 3.0, 5)],
)
def test_what_a_function_returns_is_the_objective(called: Any, kind: str, value: float, step: int) -> None:
    trial = called[kind]
    assert (trial["state"], trial["values"], trial["step"]) == ("COMPLETE", [value], step)


@pytest.mark.parametrize(
    ("kind", "state", "why"),
    [
        ("nothing", "FAIL", "exited 0, but acc was never reported (reported: nothing at all)"),
        ("text", "FAIL", "TypeError: report: acc is a str ('0.9x'), not a number (exit code 1)"),
        ("two", "FAIL", "TypeError: the objective returned 2 values for 1 metrics (acc) (exit code 1)"),
        ("pruned", "PRUNED", "gave up by itself before its first report"),
        ("error", "FAIL", "KeyError: 'error' (exit code 1)"),
    ],
)
def test_a_function_that_ends_badly_says_why(called: Any, kind: str, state: str, why: str) -> None:
    assert (called[kind]["state"], called[kind]["why"], called[kind]["values"]) == (state, why, None)


def test_a_function_runs_in_a_process_of_its_own(called: Any, shared: Project) -> None:
    number = called["number"]["number"]
    assert shared.output(number, name="f-1") == f"env {number} {number}\n"
    assert len({trial["attempts"][0]["pid"] for trial in called.values()}) == len(KINDS)


def test_the_command_of_the_best_runs_by_hand(called: Any, shared: Project) -> None:
    (best,) = shared.sweep("best", "f", "--json").json["trials"]
    assert best["params"] == {"kind": "number", "x": 3.0}
    line = ["bash", "-c", best["command"]]
    env = {**shared.env, "SWEEP_TRIAL": "none"}
    done = subprocess.run(line, cwd=shared.path, env=env, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == 'env none None\n{"value": 9.0}\n'


def test_two_objectives_in_order(project: Project) -> None:
    project.write("task.py", "def train(params):\n    return [params['x'], -params['x']]")
    document = project.run(
        command=None, objective="task:train", metric=["acc", "cost"], direction=["maximize", "minimize"], trials=3
    )
    assert document["best"] is None, "there is no single best one"
    for trial in document["trials"]:
        x = trial["params"]["x"]
        assert (trial["state"], trial["values"]) == ("COMPLETE", [x, -x])
    (best,) = project.sweep("best", "--json").json["trials"]
    x = max(trial["params"]["x"] for trial in document["trials"])
    assert best["params"]["x"] == x
    line = ["bash", "-c", best["command"]]
    done = subprocess.run(line, cwd=project.path, env=project.env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"acc": x, "cost": -x}
