"""Warm starts in a sweep, and `sweep check`, which starts nothing."""

from __future__ import annotations

import json
import shlex

import pytest
from e2e_kit import Project

TRAIN = """
    import sys
    warm = "slow" in sys.modules and "numpy" in sys.modules
    import json, os, numpy, slow, sweep

    def train(x, trial):
        facts = {
            "warm": warm, "line": open("/proc/self/cmdline").read(), "imported in": slow.pid, "pid": os.getpid(),
            "chance": numpy.random.rand(), "colour": slow.colour, "threads": slow.threads, "argv": sys.argv,
        }
        json.dump(facts, open(trial.directory + "/said.json", "w"))
        trial.report(0, acc=x)
        if x > 2:
            raise KeyError("a high x")

    if __name__ == "__main__":
        trial = sweep.current_trial()
        train(trial.params["x"], trial)
"""
SLOW = """
    import os
    pid, colour, threads = os.getpid(), os.environ.get("COLOUR"), os.environ.get("OMP_NUM_THREADS")
"""


@pytest.mark.parametrize(
    "task", [{"command": "python train.py {x}"}, {"command": None, "objective": "train:train"}]
)
def test_trials_are_forks_of_what_is_imported_already(project: Project, task: dict[str, str | None]) -> None:
    project.write("train.py", TRAIN)
    project.write("slow.py", SLOW)
    document = project.run(
        **task,
        warm=["numpy.random", "slow"],
        env={"COLOUR": "blue"},
        space={"x": [1, 2, 3]},
        sampler="grid",
        trials=None,
    )
    assert document["counts"] == {"COMPLETE": 2, "FAIL": 1, "PRUNED": 0, "RUNNING": 0, "WAITING": 0}
    said = {}
    for trial in document["trials"]:
        x, folder = trial["params"]["x"], project.directory().attempt(trial["number"], 1)
        facts = said[x] = json.loads((folder.path / "said.json").read_text())
        assert facts["pid"] == trial["attempts"][0]["pid"]
        assert (trial["values"], trial["outcome"]) == (([float(x)], "COMPLETED") if x < 3 else (None, "CRASHED"))
    assert {facts["imported in"] for facts in said.values()} != {facts["pid"] for facts in said.values()}
    assert len({facts["imported in"] for facts in said.values()}) == 1
    assert all("sweep.launch.nursery" in facts["line"] for facts in said.values())
    assert {(facts["colour"], facts["threads"]) for facts in said.values()} == {("blue", "1")}
    assert len({facts["chance"] for facts in said.values()}) == 3
    if "objective" not in task:
        assert all(facts["warm"] and facts["argv"] == ["train.py", str(x)] for x, facts in said.items())
    (failed,) = [trial for trial in document["trials"] if trial["state"] == "FAIL"]
    assert failed["why"] == "KeyError: 'a high x' (exit code 1)"
    output = project.output(failed["number"])
    assert output.startswith("Traceback") and "nursery" not in output and "During handling" not in output


def test_a_module_that_breaks_is_named_and_the_sweep_runs(project: Project) -> None:
    project.write("train.py", "import sweep\nsweep.current_trial().report(0, acc=1)")
    project.write("broken.py", "1 / 0")
    project.space(warm="broken")
    done = project.sweep("run", "space.yaml")
    assert (
        done.code == 0 and "warm: cannot import broken: ZeroDivisionError" in done.out and "3 complete" in done.out
    )


def test_check_shows_what_would_run_and_starts_nothing(project: Project) -> None:
    project.write("train.py", "raise SystemExit('it ran')")
    space = {
        "x": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "kind": ["a b", "c"],
        "deep": {"type": "int", "low": 2, "high": 8, "step": 2, "when": {"kind": "c"}},
        "epochs": 20,
    }
    command = "python train.py --x {x:.3g} --kind {kind} --deep {deep} --run {trial}"
    wish = {"x": 0.01, "kind": "a b"}
    project.space(command=command, space=space, seed=3, enqueue=[wish], pruner="median", devices="cpu:3")
    before = sorted(path.name for path in project.path.iterdir())
    found = project.sweep("check", "space.yaml", "--json").json
    assert found["slots"] == ["cpu-0", "cpu-1", "cpu-2"] and len(found["samples"]) == 5
    assert found["config"]["space"]["x"]["low"] == 1e-4
    assert any("epochs" in warning for warning in found["warnings"])
    first = found["samples"][0]
    assert first["params"] == {**wish, "epochs": 20}
    assert shlex.split(first["command"]) == ["python", "train.py", "--x", "0.01", "--kind", "a b", "--run", "0"]
    text = project.sweep("check", "space.yaml").out
    for words in ("maximize acc", "3 trials", "sampler tpe, pruner median", "0.0001 to 0.1, log", "kind is c",
                  "python train.py --x 0.01 --kind 'a b' --run 0", "3 CPU slots"):  # fmt: skip
        assert words in text
    assert found["samples"][1]["command"] in text
    assert sorted(path.name for path in project.path.iterdir()) == before
    assert project.sweep("check", "space.yaml", "--set", "trials=2", "--json").json["config"]["trials"] == 2
    assert project.sweep("check", "no-such.yaml").code == 2
    told = project.sweep("check", "space.yaml", "--set", "space.deep.high=9")
    assert "space.deep.step: 2 does not divide 2 .. 9" in " ".join(told.out.split())
    assert told.err == "", "Optuna's own words about it are not for our users"
    assert "MLflow file store" in project.sweep("check", "space.yaml", "--set", "mlflow=mlruns").err
