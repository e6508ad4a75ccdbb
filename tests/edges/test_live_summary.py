"""What is left on the terminal when a sweep has ended."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from live_story import Story
from rich.console import Console

from sweep.cli.document import command_line
from sweep.cli.summary import print_summary, pruning_saved
from sweep.core import events as e
from sweep.rundir import SweepDir, lock, write_json


@pytest.fixture
def directory(tmp_path: Path) -> SweepDir:
    (tmp_path / "sweeps/ocr-rec-3/trials").mkdir(parents=True)
    return SweepDir(tmp_path / "sweeps/ocr-rec-3")


def printed(story: Story, directory: SweepDir, width: int = 80) -> list[str]:
    out = io.StringIO()
    print_summary(Console(file=out, width=width), story.sweep, directory)
    return out.getvalue().splitlines()


def finished() -> Story:
    story = Story(trials=3, slots=1)
    story.complete(0, 0.5)
    story.report(1, 4, val_acc=0.97)
    story.do(e.Checkpointed(story.now, 1, 1, 4, "trials/1/1/checkpoints/4"))
    story.complete(1, 0.98125)
    story.report(2, 2, val_acc=0.1)
    story.wait(20)
    story.prune(2, 2)
    return story


def test_says_what_was_found_and_what_it_took(directory: SweepDir) -> None:
    (directory.path / "trials/1/1/checkpoints/4").mkdir(parents=True)
    lines = printed(finished(), directory)
    assert lines[0] == "ocr-rec-3 finished after 2:20"
    assert lines[2] == "best        trial 1   val_acc 0.9812   at step 10, in 1:00"
    assert f"checkpoint  {directory.path}/trials/1/1/checkpoints/4" in lines
    assert "trials      2 complete   1 pruned   0 failed   2:20 on the slots" in lines
    assert (
        "pruning     about 8 steps and 0:40 on the slots not spent, measured by the mean complete trial" in lines
    )


def test_commands_and_paths_are_whole_on_one_line_however_narrow(directory: SweepDir) -> None:
    (directory.path / "trials/1/1/checkpoints/4").mkdir(parents=True)
    story = finished()
    lines = printed(story, directory, width=30)
    assert f"run again   {command_line(story.sweep, story.sweep.trials[1], directory)}" in lines
    assert any(line.endswith("checkpoints/4") for line in lines)


def test_what_pruning_saved_is_unknown_without_a_complete_trial_and_without_a_pruned_one() -> None:
    story = Story(trials=5, slots=1)
    assert pruning_saved(story.sweep) is None
    story.report(0, 3, val_acc=0.1)
    story.prune(0, 3)
    assert pruning_saved(story.sweep) is None
    story.complete(1, 0.5, seconds=100, steps=10)
    assert pruning_saved(story.sweep) == (7, 100)
    story.report(2, 15, val_acc=0.1)
    story.wait(150)
    story.prune(2, 15)  # took longer than the complete one: nothing saved, and nothing lost
    assert pruning_saved(story.sweep) == (7, 100)


def test_a_failed_sweep_shows_why_and_the_last_of_the_output(directory: SweepDir) -> None:
    story = Story(slots=1)
    place = directory.attempt(2, 1)
    place.path.mkdir(parents=True)
    noise = "".join(f"line {n}\n" for n in range(5000))
    place.output.write_text(
        f"{noise}\r10%\r100%\n\n\x1b[31mTraceback:\x1b[0m\n  [bold]import padle[/bold]\nNo padle\n"
    )
    for number in range(3):
        story.wait(1)
        story.end(number, code=1, cause="No padle")
    lines = printed(story, directory)
    assert lines[0] == "ocr-rec-3 failed after 0:03: the first 3 trials failed alike: No padle (exit code 1)"
    assert lines[2] == "trial 2 failed: No padle (exit code 1)"
    assert lines[11:15] == ["  | 100%", "  | Traceback:", "  |   [bold]import padle[/bold]", "  | No padle"]
    assert lines[3] == "  | line 4992"
    assert lines[15] == f"log         {place.output}"
    assert "go on       sweep resume ocr-rec-3" in lines


def test_whoever_never_reported_is_told_how(directory: SweepDir) -> None:
    story = Story(slots=1)
    for number in range(3):
        story.wait(1)
        story.end(number)
    lines = printed(story, directory)
    assert lines[2] == "trial 2 failed: exited 0, but val_acc was never reported (reported: nothing at all)"
    assert (
        "to report   sweep.current_trial().report(step, val_acc=...) in the script; or `report:` reads its output"
        in lines
    )


def test_of_several_objectives_the_front_is_shown(directory: SweepDir) -> None:
    story = Story(trials=15, slots=1, metrics=("acc", "ms"), directions=("maximize", "minimize"))
    for number in range(15):
        story.report(number, 1, acc=number / 100, ms=float(number))
        story.end(number)
    lines = printed(story, directory)
    assert lines[2] == "best        15 trials that no other one beats in everything"
    assert lines[3].split()[:6] == ["trial", "0", "acc", "0.0000", "ms", "0"]
    assert lines[13].split()[:6] == ["+", "5", "more:", "sweep", "best", "ocr-rec-3"]


def test_mlflow_is_pointed_at_and_what_it_lacks_is_said(directory: SweepDir) -> None:
    story = finished()
    assert not any(line.startswith("MLflow") for line in printed(story, directory))
    known = {"run_id": "abc", "experiment": "digits"}
    write_json(directory.mlflow, {**known, "lag": {"complete": True, "error": None}})
    assert "MLflow      sweep ui shows it, in experiment digits" in printed(story, directory)
    directory.journal.write_text("\n" * 214)
    lag = {"complete": False, "error": "connection refused", "errors": ["trial 3: too long"]}
    write_json(directory.mlflow, {**known, "lag": lag, "owed": [[1, 1], [2, 1]]})
    lines = printed(story, directory)
    assert (
        "            214 events and 2 outputs not in MLflow yet, and nobody sends them: connection refused; "
        "`sweep sync ocr-rec-3` does" in lines
    )
    assert "            MLflow refused something 1 time, last: trial 3: too long" in lines
    holder = lock(directory.follower_lock, "a follower")
    assert any("connection refused; nothing is lost, it is tried on" in line for line in printed(story, directory))
    os.close(holder)


def test_a_sweep_that_was_left_says_how_to_go_on(directory: SweepDir) -> None:
    lines = printed(Story(slots=2), directory)
    assert lines[0] == "ocr-rec-3 interrupted after 0:00; 2 trials still running"
    assert lines[-1] == "go on       sweep resume ocr-rec-3"


def test_a_stopped_sweep_says_who_stopped_it(directory: SweepDir) -> None:
    story = Story(trials=9, slots=1)
    story.complete(0, 0.5)
    story.do(e.StopAsked(story.now, None, False, "Ctrl-C twice: stopped"))
    story.end(1, again=False, signal=15, signalled=True)
    lines = printed(story, directory)
    assert lines[0] == "ocr-rec-3 finished after 1:00 (Ctrl-C twice: stopped)"
    assert "trials      1 complete   0 pruned   1 failed   1:00 on the slots" in lines
