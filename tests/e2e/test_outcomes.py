"""How attempts end, what that means for their trials, and what a retry finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, alive

TRAIN = """
    import os, signal, subprocess, sys
    import sweep

    mode = sys.argv[1]
    trial = sweep.current_trial()
    if mode in ("loses its supervisor", "loses every supervisor"):
        if mode != "loses its supervisor" or trial.attempt == 1:
            child = subprocess.Popen(["sleep", "600"])
            open(trial.directory + "/child", "w").write(str(child.pid))
            os.kill(os.getppid(), signal.SIGKILL)
            child.wait()
    if mode == "steps back":
        trial.report(5, acc=1)
        trial.report(3, acc=1)
    if mode == "ends as nan":
        trial.report(1, acc=0.5)
        trial.report(2, acc=float("nan"))
        sys.exit()
    if mode == "says nothing":
        sys.exit()
    if mode == "says something else":
        trial.report(1, loss=1)
        sys.exit()
    trial.report(1, acc=float("inf") if mode == "ends as infinity" else 1)
    if mode == "exits":
        print("DataError: no such file: /data/train.txt", file=sys.stderr)
        sys.exit(3)
    if mode == "crashes":
        raise ZeroDivisionError("division of 1 by 0")
    if mode == "segfaults":
        print("before the end")
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "runs out of memory":
        raise MemoryError
    if mode == "runs out of cuda":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
"""
MODES = [
    "loses every supervisor", "loses its supervisor", "steps back", "ends as nan", "says nothing",
    "says something else", "ends as infinity", "exits", "crashes", "segfaults", "runs out of memory",
    "runs out of cuda",
]  # fmt: skip


@pytest.fixture(scope="module")
def ended(shared: Project) -> dict[str, dict[str, Any]]:
    """A trial of each mode, and one whose program is not there, from one sweep."""
    shared.write("train.py", TRAIN)
    wishes = [{"mode": mode, "program": sys.executable} for mode in MODES]
    wishes.append({"mode": "is not there", "program": "no-such-program"})
    document = shared.run(
        command="{program} train.py {mode}",
        space={"mode": [*MODES, "is not there"], "program": [sys.executable, "no-such-program"]},
        enqueue=wishes,
        trials=len(wishes),
        fail_fast=False,
        devices="cpu:4",
    )
    assert document["counts"] == {"COMPLETE": 2, "PRUNED": 0, "FAIL": 11, "RUNNING": 0, "WAITING": 0}
    return {trial["params"]["mode"]: trial for trial in document["trials"]}


@pytest.mark.parametrize(
    ("mode", "outcome", "why"),
    [
        ("exits", "CRASHED", "DataError: no such file: /data/train.txt (exit code 3)"),
        ("crashes", "CRASHED", "ZeroDivisionError: division of 1 by 0 (exit code 1)"),
        ("segfaults", "CRASHED", "Fatal Python error: Segmentation fault (signal 11, SIGSEGV)"),
        ("is not there", "CRASHED", "cannot start it: No such file or directory: no-such-program (exit code 127)"),
        ("says nothing", "CRASHED", "exited 0, but acc was never reported (reported: nothing at all)"),
        ("says something else", "CRASHED", "exited 0, but acc was never reported (reported: loss)"),
        ("ends as nan", "CRASHED", "exited 0, but acc ended as NaN at step 2"),
        (
            "steps back",
            "CRASHED",
            "ValueError: report(3): an earlier report was for step 5; steps never go back (exit code 1)",
        ),
    ],
)
def test_a_bad_end_fails_its_trial_and_says_why(ended: Any, mode: str, outcome: str, why: str) -> None:
    trial = ended[mode]
    assert (trial["state"], trial["outcome"], trial["why"], trial["values"]) == ("FAIL", outcome, why, None)
    assert len(trial["attempts"]) == 1


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("runs out of memory", "MemoryError (exit code 1); its peak: "),
        (
            "runs out of cuda",
            "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (exit code 1); its peak: ",
        ),
    ],
)
def test_want_of_memory_is_an_outcome_of_its_own_and_tells_the_peak(ended: Any, mode: str, why: str) -> None:
    assert (ended[mode]["state"], ended[mode]["outcome"]) == ("FAIL", "OOM")
    assert ended[mode]["why"].startswith(why) and ended[mode]["why"].endswith(" MB of memory")


def test_infinity_is_a_value(ended: Any) -> None:
    assert (ended["ends as infinity"]["state"], ended["ends as infinity"]["values"]) == ("COMPLETE", ["Infinity"])


def test_a_lost_attempt_is_nobodys_fault_and_retried(ended: Any) -> None:
    trial = ended["loses its supervisor"]
    assert (trial["state"], trial["values"]) == ("COMPLETE", [1.0])
    assert [attempt["outcome"] for attempt in trial["attempts"]] == ["LOST", "COMPLETED"]
    assert trial["attempts"][0]["ended"] <= trial["attempts"][1]["started"]


def test_but_not_for_ever(ended: Any) -> None:
    trial = ended["loses every supervisor"]
    assert [attempt["outcome"] for attempt in trial["attempts"]] == ["LOST"] * 3
    assert (trial["state"], trial["why"]) == ("FAIL", "its supervisor is gone and left no word")


def test_what_a_lost_supervisor_left_behind_is_ended(ended: Any, shared: Project) -> None:
    for trial in (ended["loses its supervisor"], ended["loses every supervisor"]):
        for attempt in trial["attempts"]:
            if attempt["outcome"] == "LOST":
                assert not alive(int(Path(attempt["directory"], "child").read_text()))
    assert "lost its supervisor; 1 processes of it were ended" in shared.log()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_script_that_fails_from_the_start_ends_the_sweep(project: Project, as_json: bool) -> None:
    project.write(
        "train.py",
        """
        import sys
        print("loading", sys.argv[1])
        print("a hint about [red]what[/] is wrong")
        raise FileNotFoundError(f"no data for {sys.argv[1]}")
        """,
    )
    project.space(trials=50)
    done = project.sweep("run", "space.yaml", *(["--json"] if as_json else []))
    assert done.code == 1
    failures = project.events("AttemptEnded")
    assert 3 <= len(failures) <= 4
    if as_json:
        assert done.json["state"] == "FAILED" and done.json["why"].startswith("the first 3 trials failed alike")
    else:
        assert "the first 3 trials failed alike: FileNotFoundError: no data for" in done.out
        assert "a hint about [red]what[/] is wrong" in done.out, "the trial's own last lines"
        assert "Traceback (most recent call last):" in done.out and "output.log" in done.out
        assert "sweep resume s-1" in done.out


# ---- retries and checkpoints ---------------------------------------------------------------------------------


RETRIED = """
    import os, signal, sys
    import sweep

    mode = sys.argv[1]
    trial = sweep.current_trial()
    start = trial.resume()
    print("from", start)
    first = int(os.path.basename(start)) + 1 if start else 0
    accuracies = [0.1, 0.5, 0.9, 0.3, 0.4, 0.6]
    for epoch in range(first, 6):
        trial.report(epoch, acc=accuracies[epoch])
        with trial.checkpoint(epoch) as folder:
            open(folder + "/half", "w").write("half")
            if mode == "in the block" and trial.attempt == 1 and epoch == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            os.rename(folder + "/half", folder + "/whole")
        if mode == "after it" and trial.attempt == 1 and epoch == 3:
            raise RuntimeError("an unlucky moment")
        if mode == "always":
            raise RuntimeError("a bad configuration")
"""


@pytest.fixture(scope="module")
def retried(shared: Project) -> dict[str, dict[str, Any]]:
    shared.write("retried.py", RETRIED)
    document = shared.run(
        name="r",
        command="python retried.py {mode}",
        space={"mode": ["never", "after it", "in the block", "always"]},
        sampler="grid",
        trials=None,
        retry=2,
        fail_fast=False,
        devices="cpu:3",
    )
    return {trial["params"]["mode"]: trial for trial in document["trials"]}


@pytest.mark.parametrize(("mode", "how"), [("after it", 1), ("in the block", -9)])
def test_a_retry_goes_on_from_the_newest_whole_checkpoint(
    retried: Any, shared: Project, mode: str, how: int
) -> None:
    trial = retried[mode]
    assert (trial["state"], trial["values"], trial["step"]) == ("COMPLETE", [0.6], 5)
    assert [attempt["outcome"] for attempt in trial["attempts"]] == ["CRASHED", "COMPLETED"]
    first, second = (shared.directory("r-1").attempt(trial["number"], n) for n in (1, 2))
    ended = json.loads(first.exit.read_text())
    assert (ended["code"] if how > 0 else -ended["signal"]) == how
    assert first.output.read_text().startswith("from None\n")
    assert second.output.read_text() == f"from {first.checkpoints / '3'}\n"
    steps = [json.loads(line).get("step") for line in second.reports.read_text().splitlines()]
    assert [step for step in steps if step is not None] == [4, 5]


@pytest.mark.parametrize("mode", ["never", "after it", "in the block"])
def test_the_newest_and_the_best_checkpoint_are_kept(retried: Any, shared: Project, mode: str) -> None:
    trial = retried[mode]
    root = shared.directory("r-1").trials / str(trial["number"])
    kept = {path.name: path for path in root.glob("*/checkpoints/[0-9]*")}
    assert {*kept} == {"2", "5"}, "the best accuracy was at 2"
    assert all([file.name for file in path.iterdir()] == ["whole"] for path in kept.values())
    assert trial["checkpoint"] == str(kept["5"])


def test_retries_run_out(retried: Any) -> None:
    trial = retried["always"]
    assert (trial["state"], trial["why"]) == ("FAIL", "RuntimeError: a bad configuration (exit code 1)")
    assert [attempt["outcome"] for attempt in trial["attempts"]] == ["CRASHED"] * 3


def test_the_best_value_and_its_checkpoint_can_be_what_counts(project: Project) -> None:
    project.write("train.py", RETRIED)
    document = project.run(
        command="python train.py never", value="best", trials=1, checkpoints=2, space={"x": [1, 2]}
    )
    (trial,) = document["trials"]
    assert trial["values"] == [0.9] and trial["checkpoint"].endswith("/checkpoints/2")
    kept = project.directory().attempt(0, 1).checkpoints.iterdir()
    assert {path.name for path in kept} == {"2", "4", "5"}
