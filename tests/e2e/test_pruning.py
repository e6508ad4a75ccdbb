"""Trials that should end before their time: those that listen, those that do not, and those that hide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from e2e_kit import Project
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

HOPELESS = 99  # above what the threshold pruner lets live
TRAIN = """
    import os, signal, subprocess, sys, time
    import sweep

    mode = sys.argv[1]
    trial = sweep.current_trial()
    verdict = trial.directory + "/verdict.json"

    def say(name, text=""):
        with open(f"{trial.directory}/{name}", "a") as file:
            file.write(str(text))

    def flee():
        "A grandchild in a session of its own, which no signal but one ends."
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if os.fork() == 0:
                say("fled", os.getpid())
                time.sleep(600)
            os._exit(0)
        os.wait()
        while not os.path.exists(trial.directory + "/fled"):
            time.sleep(0.01)

    trial.report(0, acc=1)
    if mode == "fine":
        pass
    elif mode == "leaves a child":
        child = subprocess.Popen(["sleep", "600"])
        say("fled", child.pid)
    elif mode == "gives up":
        raise sweep.TrialPruned("no hope")
    elif mode in ("listens", "catches"):
        try:
            for step in range(1, 100_000):
                trial.report(step, acc=99 if step == 1 else 1)
                say("steps", ".")
                time.sleep(0.001)
        except sweep.TrialPruned:
            if mode == "listens":
                raise
    else:
        if mode == "flees":
            flee()
        if mode == "stubborn":
            signal.signal(signal.SIGTERM, lambda *_: say("asked"))
        # a report that does not look for a verdict, and does not ring
        say("reports.jsonl", '{"step": 1, "at": %f, "metrics": {"acc": 99}}\\n' % time.time())
        while not (mode == "finishes first" and os.path.exists(verdict)):
            time.sleep(0.001)
"""
MODES = ["fine", "leaves a child", "gives up", "flees", "stubborn", "finishes first", "listens", "catches", "deaf"]


def place(trial: dict[str, Any], name: str) -> Path:
    return Path(trial["attempts"][0]["directory"], name)


@pytest.fixture(scope="module")
def pruned(shared: Project) -> dict[str, dict[str, Any]]:
    """One trial of each mode."""
    shared.write("train.py", TRAIN)
    document = shared.run(
        command="python train.py {mode}",
        space={"mode": MODES},
        sampler="grid",
        pruner={"name": "threshold", "upper": 10},
        trials=None,
        devices="cpu:5",
    )
    assert document["counts"] == {"COMPLETE": 3, "PRUNED": 6, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    return {trial["params"]["mode"]: trial for trial in document["trials"]}


@pytest.mark.parametrize("mode", ["listens", "catches"])
def test_a_script_that_reports_learns_of_it_at_its_next_report(pruned: Any, mode: str) -> None:
    trial = pruned[mode]
    assert (trial["state"], trial["outcome"], trial["why"]) == ("PRUNED", "PRUNED", "pruned at step 1")
    assert trial["values"] is None
    ended = json.loads(place(trial, "exit.json").read_text())
    assert (ended["code"], ended["signalled"]) == (1 if mode == "listens" else 0, False)
    output = place(trial, "output.log").read_text()
    assert "Traceback" not in output
    assert ("ends at step" in output) == (mode == "listens")
    # the verdict takes milliseconds, not the second of a look at everything
    done = place(trial, "steps").stat().st_size if place(trial, "steps").exists() else 0
    assert done < 300 and trial["step"] == done + 1


@pytest.mark.parametrize(("mode", "number"), [("deaf", 15), ("stubborn", 9), ("flees", 15)])
def test_a_script_that_does_not_listen_is_ended(pruned: Any, mode: str, number: int) -> None:
    trial = pruned[mode]
    assert (trial["state"], trial["outcome"], trial["why"]) == ("PRUNED", "PRUNED", "pruned at step 1")
    ended = json.loads(place(trial, "exit.json").read_text())
    assert (ended["code"], ended["signal"], ended["signalled"]) == (None, number, True)
    assert place(trial, "asked").exists() == (mode == "stubborn")
    seconds = ended["ended"] - ended["started"]
    assert 0.3 <= seconds < (9 if number == 9 or mode == "flees" else 4)


@pytest.mark.parametrize("mode", ["flees", "leaves a child"])
def test_nobody_of_the_tree_is_left(pruned: Any, mode: str) -> None:
    assert not Path("/proc", place(pruned[mode], "fled").read_text()).exists()


def test_a_child_that_is_left_behind_does_not_spoil_a_good_end(pruned: Any) -> None:
    trial = pruned["leaves a child"]
    assert (trial["state"], trial["outcome"], trial["values"]) == ("COMPLETE", "COMPLETED", [1.0])


def test_one_that_ends_well_while_the_verdict_is_on_its_way_is_complete(pruned: Any) -> None:
    trial = pruned["finishes first"]
    assert (trial["state"], trial["values"]) == ("COMPLETE", [HOPELESS]) and place(trial, "verdict.json").exists()


def test_one_that_gives_up_by_itself_is_pruned(pruned: Any) -> None:
    trial = pruned["gives up"]
    assert (trial["state"], trial["why"]) == ("PRUNED", "gave up by itself at step 0")
    assert "no hope" in place(trial, "output.log").read_text()


def test_optuna_has_every_report_and_verdict(pruned: Any, shared: Project) -> None:
    storage = JournalStorage(JournalFileBackend(str(shared.directory().study)))
    study = optuna.load_study(study_name="s-1", storage=storage)
    for trial in pruned.values():
        theirs = study.trials[trial["number"]]
        assert theirs.state.name == trial["state"]
        said = [json.loads(line) for line in place(trial, "reports.jsonl").read_text().splitlines()]
        assert theirs.intermediate_values == {one["step"]: one["metrics"]["acc"] for one in said if "step" in one}


@pytest.mark.parametrize(
    ("report", "line"),
    [
        ({"pattern": r"epoch (?P<step>\d+): (?P<acc>[\d.]+)"}, "epoch {step}: {acc}"),
        ("json", '{{"step": {step}, "acc": {acc}}}'),
    ],
    ids=["pattern", "json"],
)
def test_a_script_that_only_prints_is_asked_by_sigterm_at_once(project: Project, report: Any, line: str) -> None:
    project.write(
        "train.py",
        f"""
        import sys, time
        x = float(sys.argv[1])
        for step in range(3):
            acc = 0.5 if step < 2 or x < 2 else 99
            print({line!r}.format(step=step, acc=acc))
        time.sleep(600 if x > 2 else 0)
        """,
    )
    document = project.run(
        report=report, space={"x": [1, 3]}, sampler="grid", trials=None, grace=600,
        pruner={"name": "threshold", "upper": 10},
    )  # fmt: skip
    good, bad = sorted(document["trials"], key=lambda trial: trial["params"]["x"])
    assert (good["state"], good["values"], good["step"]) == ("COMPLETE", [0.5], 2)
    assert (bad["state"], bad["why"], bad["step"]) == ("PRUNED", "pruned at step 2", 2)
    assert json.loads(place(bad, "exit.json").read_text())["signal"] == 15


def test_several_objectives_are_not_pruned_by_optuna_but_may_give_up(project: Project) -> None:
    project.write(
        "train.py",
        """
        import sweep
        trial = sweep.current_trial()
        trial.report(0, acc=1, cost=2)
        if trial.params["x"] > 2:
            raise sweep.TrialPruned
        """,
    )
    document = project.run(
        metric=["acc", "cost"],
        direction=["maximize", "minimize"],
        space={"x": [1, 3]},
        sampler="grid",
        trials=None,
    )
    states = {trial["params"]["x"]: (trial["state"], trial["values"]) for trial in document["trials"]}
    assert states == {1: ("COMPLETE", [1.0, 2.0]), 3: ("PRUNED", None)}
    assert "ERROR" not in project.log()
    project.space(metric=["acc", "cost"], direction=["maximize", "minimize"], pruner="median")
    done = project.sweep("run", "space.yaml")
    assert done.code == 2 and "cannot prune with several metrics" in done.err
