"""The JSON documents: the contract's keys, strict JSON, and a command that does reproduce the trial."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_story import START, Story

from sweep.cli.document import best_document, sweep_document
from sweep.core import events as e
from sweep.core.model import Trial, TrialState
from sweep.core.pareto import front
from sweep.rundir import SweepDir, write_json


@pytest.fixture
def directory(tmp_path: Path) -> SweepDir:
    (tmp_path / "sweeps/ocr-rec-3/trials").mkdir(parents=True)
    return SweepDir(tmp_path / "sweeps/ocr-rec-3")


def document(story: Story, directory: SweepDir, *, alive: bool = True) -> dict[str, Any]:
    """As a reader of the JSON sees it; fails where it is not strict JSON."""
    made = sweep_document(story.sweep, directory, controller_alive=alive)
    loaded: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return loaded


def test_has_the_keys_that_others_rely_on(directory: SweepDir) -> None:
    found = document(Story().train(9), directory)
    assert found.keys() >= {
        *("id", "name", "state", "directory", "storage", "mlflow", "controller", "counts", "best", "trials")
    }
    assert (found["id"], found["name"], found["state"]) == ("ocr-rec-3", "ocr-rec", "RUNNING")
    assert found["mlflow"].keys() == {"tracking_uri", "experiment", "run_id", "lag"}
    assert found["controller"] == {"pid": 4242, "alive": True}
    assert found["counts"].keys() == {"COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"}
    assert sum(found["counts"].values()) == len(found["trials"])
    for trial in [*found["trials"], found["best"]]:
        assert trial.keys() >= {
            *("number", "state", "outcome", "params", "values", "step", "attempts", "why"),
            *("mlflow_run_id", "checkpoint"),
        }
    attempt = found["trials"][0]["attempts"][0]
    assert attempt.keys() >= {"attempt", "outcome", "pid", "device", "slot", "started", "ended", "directory"}
    assert attempt["started"] == START


def test_a_live_sweep_without_its_controller_is_interrupted_and_an_ended_one_is_not(directory: SweepDir) -> None:
    story = Story(trials=1)
    assert document(story, directory, alive=False)["state"] == "INTERRUPTED"
    story.complete(0, 0.9)
    assert document(story, directory, alive=False)["state"] == "FINISHED"


def test_pid_is_the_commands_own_and_paths_are_absolute(directory: SweepDir) -> None:
    story = Story()
    place = directory.attempt(0, 1)
    place.path.mkdir(parents=True)
    write_json(place.attempt, {"pid": 777, "supervisor": {"pid": 776}})
    first, second, *_ = document(story, directory)["trials"]
    assert first["attempts"][0]["pid"] == 777
    assert second["attempts"][0]["pid"] is None
    assert Path(first["attempts"][0]["directory"]) == place.path


def test_a_number_that_json_lacks_is_a_word(directory: SweepDir) -> None:
    story = Story(
        trials=1, slots=1, directions=("minimize",), params=lambda draw: {"clip": math.inf, "m": [math.nan]}
    )
    story.complete(0, -math.inf)
    (trial,) = document(story, directory)["trials"]
    assert trial["params"] == {"clip": "Infinity", "m": ["NaN"]}
    assert trial["values"] == ["-Infinity"]


def test_mlflow_as_the_follower_left_it(directory: SweepDir) -> None:
    story = Story()
    before = document(story, directory)
    assert before["mlflow"] == {"tracking_uri": None, "experiment": None, "run_id": None, "lag": None}
    assert before["trials"][1]["mlflow_run_id"] is None
    facts = {"tracking_uri": "sqlite:////x/mlflow.db", "experiment": "ocr-rec", "run_id": "parent"}
    lag = {"complete": False, "since": time.time() - 60, "error": "connection refused", "errors": ["too long"]}
    directory.journal.write_text("sent\nnot\nnot\nnot\ntorn")
    write_json(directory.mlflow, {**facts, "lag": lag, "cursor": 5, "owed": [[0, 1]], "runs": {"1": "child"}})
    after = document(story, directory)
    assert after["trials"][1]["mlflow_run_id"] == "child"
    assert after["mlflow"].items() >= facts.items()
    said = after["mlflow"]["lag"]
    assert (said["events"], said["files"], said["error"]) == (3, 1, "connection refused")
    assert (said["errors"], said["followed"], said["complete"]) == (["too long"], False, False)
    assert 60 <= said["seconds"] < 120


def test_a_password_in_the_storage_stays_where_it_is(directory: SweepDir) -> None:
    story = Story(config={"storage": "postgresql+psycopg://me:secret@db/optuna"})
    assert "secret" not in json.dumps(document(story, directory))
    assert document(Story(), directory)["storage"] == str(directory.study)


def test_the_checkpoint_goes_with_the_value(directory: SweepDir) -> None:
    for value, expected in ("last", "trials/0/1/checkpoints/2"), ("best", "trials/0/1/checkpoints/1"):
        story = Story(trials=1, value=value, keep=2)
        for at, acc in (1, 0.9), (2, 0.5):
            story.report(0, at, val_acc=acc)
            story.do(e.Checkpointed(story.now, 0, 1, at, f"trials/0/1/checkpoints/{at}"))
        assert document(story, directory)["trials"][0]["checkpoint"] is None, "a path to nothing helps nobody"
        (directory.path / expected).mkdir(parents=True)
        assert document(story, directory)["trials"][0]["checkpoint"] == str(directory.path / expected)


def test_best_is_the_best_trial_and_for_several_objectives_the_front(directory: SweepDir) -> None:
    single = Story(trials=3, slots=1)
    for number, value in enumerate((0.5, 0.9, 0.7)):
        single.complete(number, value)
    assert [trial["number"] for trial in best_document(single.sweep, directory)["trials"]] == [1]
    assert document(single, directory)["best"]["number"] == 1

    several = Story(trials=4, slots=1, metrics=("acc", "ms"), directions=("maximize", "minimize"))
    for number, (acc, ms) in enumerate(((0.5, 10.0), (0.9, 30.0), (0.4, 20.0), (0.9, 30.0))):
        several.report(number, 1, acc=acc, ms=ms)
        several.end(number)
    assert [trial["number"] for trial in best_document(several.sweep, directory)["trials"]] == [0, 1, 3]
    assert document(several, directory)["best"] is None
    assert best_document(Story().sweep, directory) == {"trials": []}


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.integers(0, 4), min_size=n, max_size=n), max_size=40))
)
def test_the_front_is_what_nothing_dominates(points: list[list[int]]) -> None:
    goals = ["minimize", "maximize", "minimize", "minimize", "maximize"][: len(points[0]) if points else 1]
    trials = [
        Trial(number, {}, state=TrialState.COMPLETE, values=tuple(map(float, point)))
        for number, point in enumerate(points)
    ]

    def dominates(one: list[int], other: list[int]) -> bool:
        ahead = [(a - b) * (1 if goal == "maximize" else -1) for a, b, goal in zip(one, other, goals, strict=True)]
        return min(ahead) >= 0 and max(ahead) > 0

    expected = [n for n, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    assert [trial.number for trial in front(trials, goals)] == expected


SAYS = "import sys, json; print(json.dumps(sys.argv[1:]))"
KNOWS = "import json, sweep; print(json.dumps(sweep.current_trial().params))"


def run_again(story: Story, directory: SweepDir) -> Any:
    """What the command of the best trial prints, typed into a shell."""
    (best,) = best_document(story.sweep, directory)["trials"]
    place = directory.attempt(best["number"], 1)
    place.path.mkdir(parents=True)
    write_json(place.params, story.sweep.trials[best["number"]].params)
    root = Path(__file__).parents[2]
    done = subprocess.run(["sh", "-c", best["command"]], capture_output=True, text=True, check=True, cwd=root)
    return json.loads(done.stdout)


def test_the_command_reproduces_the_trial_from_a_shell(directory: SweepDir) -> None:
    params = {"lr": 0.1 + 0.2, "name": "it's $(uname) 测试"}
    template = [sys.executable, "-c", SAYS, "{lr}", "--name={name}", "{trial}"]
    story = Story(trials=1, slots=1, params=lambda draw: params, config={"command": template})
    story.complete(0, 0.9)
    assert run_again(story, directory) == ["0.30000000000000004", "--name=it's $(uname) 测试", "0"]


def test_a_script_that_asks_for_its_parameters_gets_them_again(directory: SweepDir) -> None:
    template = [sys.executable, "-c", KNOWS]
    story = Story(trials=1, slots=1, params=lambda draw: {"lr": 0.125}, config={"command": template})
    story.complete(0, 0.9)
    assert run_again(story, directory) == {"lr": 0.125}


def test_running_it_again_does_not_write_over_the_trial(directory: SweepDir) -> None:
    story = Story(trials=1, slots=1, config={"command": ["train", "--out", "{attempt_dir}", "{args}"]})
    story.complete(0, 0.9)
    (best,) = best_document(story.sweep, directory)["trials"]
    assert best["command"].startswith("mkdir -p ocr-rec-3-trial-0 && train --out ocr-rec-3-trial-0 --lr=")


def test_the_command_of_a_python_function(directory: SweepDir) -> None:
    config = {"command": None, "objective": "examples.digits.objective:train"}
    story = Story(trials=1, slots=1, params=lambda draw: {"lr": 0.5}, config=config)
    story.complete(0, 0.9)
    (best,) = best_document(story.sweep, directory)["trials"]
    wanted = "python -m sweep.launch.objective examples.digits.objective:train --params '{\"lr\": 0.5}'"
    assert best["command"] == wanted
