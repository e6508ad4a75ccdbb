"""The sweep and the person in front of it: the table on a terminal, lines on a pipe, and Ctrl-C."""

from __future__ import annotations

import fcntl
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pexpect
import pytest
from e2e_kit import COMMAND, LONGEST, Project, alive

# reports until it may finish, heeds nothing, and shrugs SIGTERM off if it is told to
TRAIN = """
    import os, signal, sys, time, sweep
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trial = sweep.current_trial()
    step = 0
    while not os.path.exists("finish"):
        if "deaf" not in sys.argv or step == 0:
            trial.report(step, acc=step)
            step += 1
        time.sleep(0.02)
    trial.report(step, acc=1)
"""

Terminal = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    """Runs `sweep run space.yaml` on a terminal of 24 lines of 80 cells."""
    started: list[Any] = []

    def start(*words: str, term: str = "xterm-256color", **keys: Any) -> Any:
        project.write("train.py", TRAIN)
        project.space(trials=20, **keys)
        child = pexpect.spawn(
            COMMAND,
            ["run", "space.yaml", *words],
            cwd=str(project.path),
            env={**project.env, "TERM": term, "LANG": "C.UTF-8"},
            dimensions=(24, 80),
            encoding="utf-8",
            timeout=LONGEST,
        )
        started.append(child)
        project.wait_for(lambda: len(project.events("Reported")) >= 2 or not child.isalive(), "reports")
        return child

    yield start
    (project.path / "finish").touch()
    for child in started:
        child.close(force=True)


def left(child: Any) -> tuple[int, str]:
    """Reads until it has ended: its exit code, and what it wrote last, without colours."""
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus is None
    return int(child.exitstatus), re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", child.before)


def leases_are_free(project: Project) -> bool:
    for path in project.locks.glob("cpu-*"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def test_the_first_ctrl_c_lets_the_running_trials_finish(terminal: Terminal, project: Project) -> None:
    child = terminal()
    child.expect("cpu-0")
    child.expect("Ctrl-C.*finish running trials")
    child.sendintr()
    project.wait_for(lambda: project.events("DrainAsked"), "the drain")
    child.expect("Ctrl-C.*stop the running trials")
    (project.path / "finish").touch()
    code, said = left(child)
    assert code == 130 and "sweep resume s-1" in said
    assert len(project.events("AttemptStarted")) == 2 == len(project.events("AttemptEnded"))
    assert [one["code"] for one in project.events("AttemptEnded")] == [0, 0]
    document = project.sweep("status", "--json").json
    assert (document["state"], document["counts"]["COMPLETE"]) == ("FINISHED", 2)
    done = project.sweep("resume", "s-1", "--json")
    assert done.code == 0 and done.json["counts"]["COMPLETE"] == 20, "and it goes on from there"


def test_the_second_ctrl_c_stops_them(terminal: Terminal, project: Project) -> None:
    child = terminal(command="python train.py deaf")
    pids = [int(one["pid"]) for one in project.events("AttemptStarted")]
    child.sendintr()
    project.wait_for(lambda: project.events("DrainAsked"), "the drain")
    child.sendintr()
    assert left(child)[0] == 130
    assert not any(alive(pid) for pid in pids) and leases_are_free(project)
    trials = project.sweep("status", "--json").json["trials"]
    ran = [trial for trial in trials if trial["attempts"]]
    assert [(trial["state"], trial["outcome"]) for trial in ran] == [("FAIL", "STOPPED")] * 2
    assert all(trial["why"] == "Ctrl-C twice: stopped" for trial in ran)


def test_the_third_ctrl_c_does_not_wait_for_those_that_do_not_listen(terminal: Terminal, project: Project) -> None:
    child = terminal(command="python train.py deaf", grace=600)
    for kind in ("DrainAsked", "StopAsked"):
        child.sendintr()
        project.wait_for(lambda kind=kind: project.events(kind), kind)
    child.sendintr()
    assert left(child)[0] == 130 and leases_are_free(project)


def test_it_outlives_its_terminal(terminal: Terminal, project: Project) -> None:
    child = terminal()
    child.ptyproc.fileobj.close()  # hangs up; close() would send signals as well
    child.closed = child.ptyproc.closed = True
    (project.path / "finish").touch()
    assert child.wait() == 0
    assert len(project.events("AttemptEnded")) == 20
    assert project.sweep("status", "--json").json["state"] == "FINISHED"


def test_the_table_fits_the_screen_and_is_gone_at_the_end(terminal: Terminal, project: Project) -> None:
    child = terminal(devices="cpu:1")
    child.expect("0 of 20")
    child.setwinsize(10, 40)
    child.expect("elapsed")
    (project.path / "finish").touch()
    code, said = left(child)
    assert code == 0 and "s-1 finished after" in said and "20 complete" in said and "Traceback" not in said


@pytest.mark.parametrize(("term", "words"), [("dumb", []), ("xterm", ["--plain"])])
def test_a_terminal_that_cannot_draw_gets_lines(
    terminal: Terminal, project: Project, term: str, words: list[str]
) -> None:
    (project.path / "finish").touch()
    child = terminal(*words, term=term)
    code, said = left(child)
    assert code == 0 and re.search(r"\d\d:\d\d:\d\d  trial 3 complete  acc 1", said)
    assert "\x1b[?25l" not in child.before, "the cursor was hidden"


def test_a_pipe_gets_lines_without_colours(project: Project) -> None:
    project.write("train.py", TRAIN)
    (project.path / "finish").touch()
    project.space()
    done = project.sweep("run", "space.yaml", env={"TERM": "xterm-256color"})
    assert done.code == 0 and "\x1b" not in done.out
    assert "trial 0 started on cpu-" in done.out and "s-1 finished after" in done.out
    assert re.search(r"run again   \S*python\S* train.py 0", done.out)


def running(project: Project, *words: str, **keys: Any) -> Any:
    project.write("train.py", TRAIN)
    project.space(trials=20, **keys)
    process = project.start("run", "space.yaml", *words)
    project.wait_for(lambda: len(project.events("Reported")) >= 2, "reports")
    return process


def test_an_interrupt_with_json_says_what_became_of_it(project: Project) -> None:
    process = running(project, "--json")
    process.send_signal(signal.SIGINT)
    project.wait_for(lambda: project.events("DrainAsked"), "the drain")
    process.send_signal(signal.SIGINT)
    done = project.end(process)
    assert done.code == 130
    assert (done.json["state"], done.json["counts"]["RUNNING"]) == ("FAILED", 0)


def test_an_interrupt_before_it_has_begun_leaves_nothing(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(storage=f"sqlite:///{project.path}/study.db")
    with sqlite3.connect(project.path / "study.db") as other:
        other.execute("begin exclusive")  # so that the study takes its time to open
        process = project.start("run", "space.yaml")
        project.wait_for(lambda: project.directory().controller_log.exists(), "the controller's log")
        process.send_signal(signal.SIGINT)
        done = project.end(process)
    assert done.code == 130 and "interrupted" in done.err and "Traceback" not in done.err
    assert not (project.path / "sweeps").exists()


def test_d_leaves_it_in_the_background(terminal: Terminal, project: Project) -> None:
    child = terminal()
    child.expect("detach")
    before = project.processes("SWEEP_TRIAL=0")
    child.send("x")
    child.send("d")
    child.expect("goes on in the background")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    assert before and before.items() <= project.processes("SWEEP_TRIAL=0").items(), "adopted, not started anew"
    controllers = project.events("ControllerStarted")
    assert len(controllers) == 2 and alive(controllers[1]["pid"])
    (project.path / "finish").touch()
    project.wait_for(lambda: project.sweep("status", "--json").json["state"] == "FINISHED", "its end")
    assert len(project.events("AttemptStarted")) == 20
