"""`duplicates` of space.yaml: what a configuration that comes again costs, and what it is worth."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from e2e_kit import Project

TRAIN = """
    import sweep
    trial = sweep.current_trial()
    with open("runs", "a+") as file:
        file.seek(0)
        runs = len(file.readlines())
        file.write(f"{trial.params['x']}\\n")
    trial.report(1, acc=trial.params["x"] + runs / 100)
"""


def swept(project: Project, **keys: Any) -> tuple[dict[str, Any], list[int], str]:
    """The sweep's document, the x of each process that ran, and what was printed meanwhile."""
    project.write("train.py", TRAIN)
    space = {"x": [1, 2], "fixed": 7}
    project.space(
        command="python train.py", space=space, seed=1, sampler="random", devices="cpu:1", trials=6, **keys
    )
    done = project.sweep("run", "space.yaml")
    assert done.code == 0, done.err
    document = project.sweep("status", "--json").json
    return document, [int(line) for line in (project.path / "runs").read_text().split()], done.out


def test_skip_runs_each_once_and_tells_optuna_of_the_others_all_the_same(project: Project) -> None:
    document, ran, out = swept(project, duplicates="skip")
    assert sorted(ran) == [1, 2]
    trials = document["trials"]
    assert document["counts"]["COMPLETE"] == 6
    copies = [trial for trial in trials if not trial["attempts"]]
    assert len(copies) == 4
    for trial in copies:
        original = trials[int(trial["why"].removeprefix("same as trial "))]
        assert (trial["params"], trial["values"]) == (original["params"], original["values"])
    backend = optuna.storages.journal.JournalFileBackend(str(project.directory().study))
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="s-1")
    assert [trial.values for trial in study.trials] == [trial["values"] for trial in trials]
    for one in copies:
        at_once = f"trial {one['number']}  acc {one['values'][0]:g}  not run: {one['why']}\n"
        assert at_once in out or f"; trial {one['number']} was the same, and is not run\n" in out
    said = project.sweep("why", str(copies[0]["number"])).out
    assert f"not run: {copies[0]['why']}; the trial is COMPLETE with " in said
    assert project.sweep("best", "--json").json["trials"][0]["attempts"]


def test_average_runs_all_and_takes_the_mean(project: Project) -> None:
    document, ran, _ = swept(project, duplicates="average")
    assert len(ran) == 6
    measured = [x + number / 100 for number, x in enumerate(ran)]
    for number, trial in enumerate(document["trials"]):
        alike = [value for x, value in zip(ran[: number + 1], measured, strict=False) if x == ran[number]]
        assert trial["values"] == pytest.approx([sum(alike) / len(alike)])
    assert "the mean of 2 runs like trial " in " ".join(trial["why"] for trial in document["trials"])
