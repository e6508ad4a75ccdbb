"""Whoever dies, what runs is adopted, and nothing is lost or done twice; test_kills.py has the exact moments."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from e2e_kit import Project, alive, wait_for
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

# says when it begins and with whom, reports for a while, and says what its result should be
TRAIN = """
    import os, time, sweep
    trial = sweep.current_trial()
    x = trial.params["x"]
    with open("begun", "a") as file:
        file.write(f"{trial.number} {trial.attempt} {os.getpid()}\\n")
    for step in range(6):
        trial.report(step, acc=x + step)
        time.sleep(0.03)
    while os.path.exists("hold"):
        time.sleep(0.02)
    trial.report(6, acc=10 * x)
"""


def begun(project: Project) -> list[tuple[int, int, int]]:
    """(trial, attempt, pid) of every process that ran."""
    try:
        lines = (project.path / "begun").read_text().splitlines()
    except OSError:
        return []
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


def training(project: Project) -> set[int]:
    return {pid for pid, line in project.processes().items() if "train.py" in line}


def is_told_right(project: Project, document: dict[str, Any], trials: int) -> None:
    """Every trial reported and ended once, as it computed, in the journal, the document and the study."""
    reports = Counter((one["trial"], one["step"]) for one in project.events("Reported"))
    assert reports == {(trial, step): 1 for trial in range(trials) for step in range(7)}
    study = optuna.load_study(
        study_name="s-1", storage=JournalStorage(JournalFileBackend(str(document["storage"])))
    )
    assert document["counts"] == {"COMPLETE": trials, "PRUNED": 0, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    assert len(study.trials) == trials
    for ours, theirs in zip(document["trials"], study.trials, strict=True):
        x = ours["params"]["x"]
        assert ours["number"] == theirs.number and ours["values"] == theirs.values == [10 * x]
        assert ours["step"] == 6 and theirs.state.name == "COMPLETE"
        assert theirs.params == ours["params"]
        assert theirs.intermediate_values == {**{step: x + step for step in range(6)}, 6: 10 * x}
    told = Counter()
    for line in Path(document["storage"]).read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 6 and entry.get("values"):
            told[entry["trial_id"]] += 1
    assert set(told.values()) == {1}, "Optuna is told once"
    assert len({trial["params"]["x"] for trial in document["trials"]}) == trials, "no configuration twice"


def test_trials_that_outlive_a_killed_controller_keep_their_process(project: Project) -> None:
    """Twice; what is killed at exact moments, and what ends unseen, is in test_kills.py."""
    project.write("train.py", TRAIN)
    project.space(trials=12, devices="cpu:3")
    hold = project.path / "hold"
    process = project.start("run", "space.yaml", "--json")
    for death in range(1, 3):
        hold.touch()
        project.wait_for(lambda: len(training(project)) == 3, "three that hold")
        held = training(project)
        process.kill()
        project.end(process)
        process = project.start("resume", "s-1", "--json")
        project.wait_for(lambda death=death: len(project.events("ControllerStarted")) == death + 1, "the resume")
        assert training(project) == held
        hold.unlink()
        project.wait_for(lambda held=held: not held & training(project), "their end")
    done = project.end(process)
    assert done.code == 0, done.err
    is_told_right(project, done.json, 12)
    assert sorted((trial, attempt) for trial, attempt, _ in begun(project)) == [(n, 1) for n in range(12)]
    last = {(trial["number"], trial["attempts"][-1]["pid"]) for trial in done.json["trials"]}
    assert {(trial, pid) for trial, _, pid in begun(project)} == last


def test_a_nursery_that_is_killed_is_replaced(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(trials=8)
    process = project.start("run", "space.yaml", "--json")
    for wanted in (1, 4):
        project.wait_for(lambda wanted=wanted: len(project.events("AttemptEnded")) >= wanted, "ends")
        os.kill(nursery_of(process.pid), signal.SIGKILL)
    done = project.end(process)
    assert done.code == 0
    assert project.log().count("the nursery died; another took over") == 2
    is_told_right(project, done.json, 8)
    for trial in done.json["trials"]:  # what it was just about to start was lost, no more
        assert [attempt["outcome"] for attempt in trial["attempts"]][-1] == "COMPLETED"
        assert len(trial["attempts"]) <= 2


def nursery_of(controller: int) -> int:
    """Its supervisors have the same command line, but another parent."""
    (found,) = [
        child.pid for child in psutil.Process(controller).children() if "sweep.launch.nursery" in child.cmdline()
    ]
    return found


def test_an_order_that_outlives_its_controller_is_waited_for(project: Project) -> None:
    """The nursery has it, but has not come to it yet: another attempt would be a second process."""
    project.write("train.py", TRAIN)
    project.space(trials=3, devices="cpu:1")
    first = project.start("run", "space.yaml", "--json")
    project.wait_for(lambda: begun(project), "the first trial")
    nursery = nursery_of(first.pid)
    os.kill(nursery, signal.SIGSTOP)
    project.wait_for(lambda: len(project.events("SlotOffered")) == 2, "the order for the second one")
    project.wait_for(lambda: project.directory().attempt(1, 1).params.exists(), "its folder")
    project.wait_for(
        lambda: "epoll" in Path(f"/proc/{first.pid}/wchan").read_text(), "the controller to have sent it"
    )
    first.kill()
    project.end(first)
    second = project.start("resume", "s-1", "--json")
    waits = f"-> FLOCK  ADVISORY  WRITE {second.pid} "
    project.wait_for(lambda: waits in Path("/proc/locks").read_text(), "the resume to wait for the nursery")
    os.kill(nursery, signal.SIGCONT)
    done = project.end(second)
    assert done.code == 0
    is_told_right(project, done.json, 3)
    assert [(trial, attempt) for trial, attempt, _ in begun(project)] == [(0, 1), (1, 1), (2, 1)]


def test_a_controller_that_is_asked_to_leave_lets_its_trials_train_on(project: Project) -> None:
    (project.path / "hold").touch()
    project.write("train.py", TRAIN)
    project.space(trials=4)
    first = project.start("run", "space.yaml")
    project.wait_for(lambda: len(begun(project)) == 2, "two trials")
    refused = project.sweep("resume", "s-1")
    assert refused.code == 1 and f"process {first.pid}" in refused.err and "already driven" in refused.err
    first.send_signal(signal.SIGTERM)
    done = project.end(first)
    assert done.code == 130 and "sweep resume s-1" in done.err
    assert all(alive(pid) for _, _, pid in begun(project))
    status = project.sweep("status", "--json").json
    assert status["state"] == "INTERRUPTED" and status["controller"] == {"pid": first.pid, "alive": False}
    assert "sweep resume s-1" in project.sweep("status").out
    second = project.start("resume", "--json")
    project.wait_for(lambda: len(project.events("ControllerStarted")) == 2, "the resume")
    assert len(begun(project)) == 2, "they were adopted"
    (project.path / "hold").unlink()
    done = project.end(second)
    assert done.code == 0
    is_told_right(project, done.json, 4)
    assert sorted((trial, attempt) for trial, attempt, _ in begun(project)) == [(n, 1) for n in range(4)]


def test_of_two_that_take_a_sweep_over_one_is_refused(project: Project) -> None:
    hold = project.path / "hold"
    hold.touch()
    project.write("train.py", TRAIN)
    project.space(trials=3)
    first = project.start("run", "space.yaml")
    project.wait_for(lambda: len(begun(project)) == 2, "two trials")
    first.kill()
    project.end(first)
    both = [project.start("resume", "--json") for _ in range(2)]
    wait_for(lambda: any(one.poll() is not None for one in both), "one of them to end")
    refused, taken = sorted(both, key=lambda one: one.poll() is None)
    done = project.end(refused)
    assert done.code == 1 and f"s-1 is already driven by process {taken.pid} on" in done.err
    hold.unlink()
    done = project.end(taken)
    assert done.code == 0
    is_told_right(project, done.json, 3)
    assert sorted((trial, attempt) for trial, attempt, _ in begun(project)) == [(n, 1) for n in range(3)]


@pytest.fixture(scope="module")
def finished(shared: Project) -> Project:
    shared.write("train.py", TRAIN)
    shared.run(trials=2)
    return shared


@pytest.mark.parametrize(
    ("left", "code", "said"),
    [
        (lambda whole: whole[:-25], 0, ""),
        (lambda whole: whole + whole.splitlines(keepends=True)[-1], 0, ""),
        (lambda whole: whole + b"\0\xff{]" * 99, 0, ""),
        (lambda whole: None, 3, "no sweep 's-1'"),
        (lambda whole: b"", 1, "is empty"),
        (lambda whole: b'{"v": 99, "seq": 0}\n', 1, "another version"),
        (lambda whole: whole.replace(b'"seq":3,', b'"seq":30,'), 1, "is damaged"),
    ],
    ids=["torn tail", "last line twice", "garbage at the end", "gone", "empty", "of the future", "damaged"],
)
def test_a_journal_that_is_not_whole(
    finished: Project, project: Project, left: Callable[[bytes], bytes | None], code: int, said: str
) -> None:
    """A torn tail is set aside; for anything worse there is an error in words."""
    shutil.copytree(finished.path / "sweeps", project.path / "sweeps", ignore=shutil.ignore_patterns("doorbell"))
    path = project.directory().journal
    rest = left(path.read_bytes())
    path.unlink()
    if rest is not None:
        path.write_bytes(rest)
    done = project.sweep("resume", "s-1", "--json")
    assert done.code == code and said in done.err and "Traceback" not in done.err
    if code == 0:
        assert done.json["counts"]["COMPLETE"] == 2
        assert len(list(project.directory().path.glob("journal.jsonl.torn-*"))) == 1
    else:
        assert not done.out
