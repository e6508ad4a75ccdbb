"""Plain lines: one for what is worth telling, none for the rest."""

from __future__ import annotations

import io
import os
import re
from datetime import datetime
from typing import Any

from live_story import START, Story

from sweep.cli.plain import PlainLines, heartbeat
from sweep.core import events as e


class Watched:
    """A story that is printed as it happens; `new` is what was said since it was last asked."""

    def __init__(self, **story: Any) -> None:
        self.out = io.StringIO()
        self.view = PlainLines(self.out)
        self._read = 0
        self.story = Story(params=lambda draw: {"lr": 0.01, "width": 64}, seen=self.view.saw, **story)
        self.begun = self.new()

    def new(self) -> list[str]:
        """Without the time of day."""
        text = self.out.getvalue()[self._read :]
        self._read += len(text)
        assert all(re.match(r"\d\d:\d\d:\d\d  \S", line) for line in text.splitlines())
        return [line[10:] for line in text.splitlines()]


def test_who_does_not_read_holds_nothing_up() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as told, os.fdopen(writer, "w") as out:
        view = PlainLines(out)
        for _ in range(300):
            view.picture(Story().sweep, START, ["x" * 1000])
            view.picture(Story().sweep, START, [])
        first = told.read(1 << 20)
        view.picture(Story().sweep, START, ["there again"])
        lines = told.read(1 << 20).decode().splitlines()
    missed = 300 - first.count(b"\n")
    assert missed > 200 and [line[10:] for line in lines] == [f"{missed} lines could not be shown", "there again"]


def test_a_trial_from_start_to_end() -> None:
    watched = Watched(trials=3, slots=0)
    story = watched.story
    story.offer("cpu-1")
    assert watched.new() == ["trial 0 started on cpu-1  lr=0.01 width=64"]
    story.report(0, 1, val_acc=0.25)
    story.do(e.Checkpointed(story.now, 0, 1, 1, "trials/0/1/checkpoints/1"))
    assert watched.new() == []
    story.complete(0, 0.97312)
    assert watched.new() == [
        "trial 0 complete  val_acc 0.9731  (best so far)",
        "trial 1 started on cpu-1  lr=0.01 width=64",
    ]
    story.complete(1, 0.5)
    assert watched.new()[0] == "trial 1 complete  val_acc 0.5"
    story.report(2, 4, val_acc=0.125)
    story.prune(2, 4)
    assert watched.new() == [
        "trial 2 pruned at step 4  val_acc 0.125",
        "ocr-rec-3 finished after 2:00; 2 complete, 1 pruned, 0 failed; best is trial 0  val_acc 0.9731",
    ]


def test_failures_and_what_follows_them() -> None:
    watched = Watched(slots=1, retries={"OOM": 1}, fail_fast=0)
    story = watched.story
    story.end(0, code=1, cause="CUDA out of memory", hint="oom")
    assert watched.new() == [
        "trial 0 out of memory: CUDA out of memory (exit code 1); another attempt follows",
        "trial 0 started again (attempt 2) on cpu-0  lr=0.01 width=64",
    ]
    story.end(0, code=1, cause="CUDA out of memory", hint="oom", again=False)
    assert watched.new() == ["trial 0 out of memory: CUDA out of memory (exit code 1)"]
    story.offer("cpu-0")
    story.end(1, signal=11, again=False)
    assert watched.new()[-1] == "trial 1 failed: signal 11, SIGSEGV"


def test_what_people_ask_for_is_echoed() -> None:
    watched = Watched(slots=2)
    story = watched.story
    story.do(e.LimitsSet(story.now, trials=20, slots=0, priority=5))
    story.do(e.Enqueued(story.now, {"lr": 0.5}))
    story.do(e.PauseAsked(story.now))
    story.do(e.ResumeAsked(story.now))
    story.do(e.StopAsked(story.now, 0))
    story.do(e.DrainAsked(story.now, "Ctrl-C: running trials finish"))
    story.do(e.StopAsked(story.now, None, False, "Ctrl-C twice: stopped"))
    story.do(e.Noted(story.now, "its output is \x1b[2Jodd", 1))
    assert watched.new() == [
        "new limits: trials=20 slots=all priority=5",
        "enqueued lr=0.5",
        "paused: no new trials",
        "goes on",
        "trial 0 told to stop: stopped by the user",
        "Ctrl-C: running trials finish; 2 running",
        "Ctrl-C twice: stopped; 2 running trials told to stop",
        "trial 1: its output is odd",
    ]


def test_the_end_is_said_once() -> None:
    watched = Watched(trials=1, slots=1)
    story = watched.story
    story.complete(0, 0.5)
    assert watched.new()[-1].startswith("ocr-rec-3 finished")
    story.do(e.Noted(story.now, "MLflow is up to date"))
    assert watched.new() == ["MLflow is up to date"]


def test_who_drives_the_sweep_is_said_at_its_beginning_and_when_it_changes() -> None:
    goals = {"metrics": ("acc", "ms"), "directions": ("maximize", "minimize")}
    assert Watched(trials=5, slots=0, **goals).begun == ["ocr-rec-3 begins, 5 trials, maximize acc, minimize ms"]
    again = Watched(slots=2)
    again.story.do(e.ControllerStarted(again.story.now, 77, 1, "boot"))
    assert again.new() == ["ocr-rec-3 goes on in process 77, 2 trials running"]


def test_a_minute_of_silence_is_broken_once() -> None:
    watched = Watched(trials=10)
    story, view = watched.story, watched.view
    view.picture(story.sweep, story.now, ())
    view.picture(story.sweep, story.now + 59, ())
    assert watched.new() == []
    story.report(0, 3, val_acc=0.5)
    view.picture(story.sweep, story.now + 60, ())
    view.picture(story.sweep, story.now + 61, ())
    assert watched.new() == ["0 of 10 ended, 2 running, trial 0 at step 3"]
    story.complete(0, 0.5)
    watched.new()
    assert heartbeat(story.sweep, story.now)[10:] == "1 of 10 ended, 2 running, best is trial 0  val_acc 0.5"


def test_a_notice_is_said_once_although_it_stays_in_the_list() -> None:
    watched = Watched()
    sweep = watched.story.sweep
    for notices in (), ("a",), ("a",), ("a", "b", "a"), ("b", "a", "c"):
        watched.view.picture(sweep, START, notices)
    assert watched.new() == ["a", "b", "a", "c"]


def test_a_closed_pipe_does_not_end_the_sweep() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    story = Story()
    view = PlainLines(Closed())
    view.saw(e.PauseAsked(START), story.sweep)
    view.picture(story.sweep, START, ("a",))


def test_the_time_is_the_local_one_of_the_event() -> None:
    out, story = io.StringIO(), Story()
    PlainLines(out).saw(e.PauseAsked(START), story.sweep)
    assert out.getvalue() == f"{datetime.fromtimestamp(START):%H:%M:%S}  paused: no new trials\n"
