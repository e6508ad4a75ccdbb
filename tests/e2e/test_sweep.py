"""A whole sweep from outside: `--json`, the folder, Optuna's study and the journal tell one story."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
from e2e_kit import COMMAND, LONGEST, Project
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweep import journal
from sweep.cli.document import sweep_document

TRAIN = """
    import sys, sweep
    trial = sweep.current_trial()
    x = float(sys.argv[1])
    for step in range(4):
        trial.report(step, acc=x * step, loss=1 - x)
        if step == 2:
            with trial.checkpoint(step) as folder:
                open(f"{folder}/weights", "w").write(str(x))
    print("trained", x)
"""
SWEEP_KEYS = {"id", "name", "state", "directory", "storage", "mlflow", "controller", "counts", "best", "trials"}
ATTEMPT_KEYS = {"attempt", "outcome", "pid", "device", "slot", "started", "ended", "directory"}
TRIAL_KEYS = {
    "number",
    "state",
    "outcome",
    "params",
    "values",
    "step",
    "attempts",
    "why",
    "mlflow_run_id",
    "checkpoint",
}
FILES = {"space.yaml", "source.json", "journal.jsonl", "study.log", "controller.lock", "controller.log", "trials"}


@pytest.fixture(scope="module")
def document(shared: Project) -> dict[str, Any]:
    """Twelve trials on three slots."""
    shared.write("train.py", TRAIN)
    return shared.run(trials=12, devices="cpu:3")


def test_the_document_has_the_keys_that_others_rely_on(document: dict[str, Any], shared: Project) -> None:
    assert {*document} >= SWEEP_KEYS
    assert (document["id"], document["name"], document["state"]) == ("s-1", "s", "FINISHED")
    assert document["directory"] == str(shared.path / "sweeps/s-1")
    assert document["storage"] == str(shared.path / "sweeps/s-1/study.log")
    assert {"tracking_uri", "experiment", "run_id", "lag"} == {*document["mlflow"]}
    assert {*document["controller"]} == {"pid", "alive"} and document["controller"]["alive"] is False
    assert document["counts"] == {"COMPLETE": 12, "PRUNED": 0, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    assert [trial["number"] for trial in document["trials"]] == list(range(12))
    assert document["best"] == max(document["trials"], key=lambda trial: trial["params"]["x"])
    for trial in document["trials"]:
        assert {*trial} >= TRIAL_KEYS and {*trial["attempts"][0]} >= ATTEMPT_KEYS
        assert trial["values"] == [trial["params"]["x"] * 3]
        assert (trial["state"], trial["outcome"], trial["step"]) == ("COMPLETE", "COMPLETED", 3)
        assert Path(trial["checkpoint"], "weights").read_text() == str(trial["params"]["x"])
        assert trial["attempts"][0]["slot"] in ("cpu-0", "cpu-1", "cpu-2")
        assert trial["attempts"][0]["started"] < trial["attempts"][0]["ended"]
    assert {trial["attempts"][0]["slot"] for trial in document["trials"]} == {"cpu-0", "cpu-1", "cpu-2"}


def test_everything_is_where_it_should_be_and_private(document: dict[str, Any], shared: Project) -> None:
    root = shared.directory()
    assert {path.name for path in root.path.iterdir()} >= FILES
    assert root.space.read_text() == (shared.path / "space.yaml").read_text()
    source = json.loads(root.source.read_text())
    assert source["project"] == str(shared.path) and source["packages"]["optuna"] == optuna.__version__
    for trial in document["trials"]:
        paths = root.attempt(trial["number"], 1)
        assert json.loads(paths.params.read_text()) == trial["params"]
        assert json.loads(paths.exit.read_text())["code"] == 0
        assert json.loads(paths.attempt.read_text())["pid"] == trial["attempts"][0]["pid"]
        assert paths.output.read_text() == f"trained {trial['params']['x']}\n"
        assert len(paths.reports.read_text().splitlines()) == 5
        assert [path.name for path in paths.checkpoints.iterdir()] == ["2"]
    for path in (root.path.parent, root.path, root.trials, *root.trials.glob("*"), *root.trials.glob("*/*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_the_study_is_one_that_any_optuna_reads(document: dict[str, Any]) -> None:
    storage = JournalStorage(JournalFileBackend(document["storage"]))
    study = optuna.load_study(study_name="s-1", storage=storage)
    assert study.best_trial.number == document["best"]["number"]
    for ours, theirs in zip(document["trials"], study.get_trials(), strict=True):
        assert theirs.number == ours["number"] and theirs.state.name == ours["state"]
        assert theirs.params == ours["params"] and theirs.values == ours["values"]
        assert theirs.intermediate_values == {step: ours["params"]["x"] * step for step in range(4)}
        assert theirs.datetime_complete is not None


def test_the_journal_tells_the_same_story(document: dict[str, Any], shared: Project) -> None:
    directory = shared.directory()
    replayed = sweep_document(journal.replay(directory.journal), directory, controller_alive=False)
    assert json.loads(json.dumps(replayed)) == document
    events = shared.events()
    assert [one["seq"] for one in events] == list(range(len(events)))
    assert [one["number"] for one in events if one["event"] == "TrialSampled"] == list(range(12))
    assert "ERROR" not in shared.log() and "Traceback" not in shared.log()


def test_status_list_and_best_say_so_too(document: dict[str, Any], shared: Project) -> None:
    looked_at = {**document, "held_back": []}  # what only somebody who looks on can say
    assert shared.sweep("status", "--json").json == looked_at
    assert shared.sweep("status", "s", "--json").json == looked_at
    short = {key: document[key] for key in ("id", "name", "state", "directory", "counts", "best")}
    assert shared.sweep("list", "--json").json == {"sweeps": [{**short, "job": None}], "archived": []}
    (best,) = shared.sweep("best", "--json").json["trials"]
    assert {key: best[key] for key in TRIAL_KEYS} == document["best"]
    assert best["command"].split()[1:] == ["train.py", str(best["params"]["x"])]
    assert "s-1" in shared.sweep("status").out and "12 complete" in shared.sweep("status").out


def test_what_is_not_there_is_said_with_exit_code_3(document: dict[str, Any], shared: Project) -> None:
    for words in (["status", "t-9"], ["best", "t-9", "--json"], ["resume", "t-9"]):
        done = shared.sweep(*words)
        assert done.code == 3 and "no sweep 't-9'" in done.err and "sweep run" in done.err and not done.out


def test_a_resume_of_a_finished_sweep_says_again_how_it_ended(document: dict[str, Any], shared: Project) -> None:
    done = shared.sweep("resume", "s-1", "--json")
    assert done.code == 0
    assert {**done.json, "controller": None} == {**document, "controller": None}


def test_two_sweeps_share_one_study_in_a_database(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(storage="sqlite:///study.db", trials=4, devices="cpu:4", slots=2)
    both = [project.start("run", "space.yaml", "--json") for _ in range(2)]
    documents = [project.end(one).json for one in both]
    assert {one["id"] for one in documents} == {"s-1", "s-2"}
    assert [one["counts"]["COMPLETE"] for one in documents] == [4, 4]
    assert {one["storage"] for one in documents} == {"sqlite:///study.db"}
    ours = {trial["number"]: trial for one in documents for trial in one["trials"]}
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{project.path}/study.db")
    assert sorted(ours) == [trial.number for trial in study.trials] == list(range(8))
    for theirs in study.trials:
        assert theirs.params == ours[theirs.number]["params"] and theirs.state.name == "COMPLETE"
        assert theirs.values == pytest.approx(ours[theirs.number]["values"])
        assert list(theirs.intermediate_values) == [0, 1, 2, 3]


def test_a_storage_that_does_not_open_leaves_nothing_behind(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(storage="sqlite:////no/such/folder/study.db")
    done = project.sweep("run", "space.yaml")
    assert (
        done.code == 1 and "/no/such/folder" in done.err and "storage" in done.err and "Traceback" not in done.err
    )
    assert not (project.path / "sweeps").exists()


def test_the_json_goes_to_stdout_alone_whatever_trials_print(project: Project) -> None:
    project.write("train.py", "print('{}')\nimport sweep\nsweep.current_trial().report(1, acc=1)")
    project.space(trials=1)
    done = project.sweep("run", "space.yaml", "--json")
    assert done.json["counts"]["COMPLETE"] == 1 and "trial 0 started" in done.err


def test_an_early_end_of_the_reader_changes_nothing(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space()
    for words in (["--json"], []):
        process = project.start("run", "space.yaml", *words)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None  # communicate() reads the other
        done = project.end(process)
        assert "Traceback" not in done.err and "Exception ignored" not in done.err
        assert done.code == 0
    assert [one["counts"]["COMPLETE"] for one in project.sweep("list", "--json").json["sweeps"]] == [3, 3]


def test_a_sweep_whose_outputs_were_closed_before_it_began(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space()
    done = subprocess.run(
        ["bash", "-c", f"{COMMAND} run space.yaml >&- 2>&-"], cwd=project.path, env=project.env, timeout=LONGEST
    )
    assert done.returncode == 0
    assert project.events("SweepOpened") and len(project.events("AttemptEnded")) == 3
    assert all(json.loads(line) for line in project.directory().journal.read_text().splitlines())
