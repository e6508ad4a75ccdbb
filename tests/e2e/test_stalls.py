"""A zoo of sick trials on real processes: each gets the right outcome, and no healthy one is ended.

Most are in one sweep, all at once. What hangs is given AFTER seconds; what is healthy is odd for twice as long.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, alive, wait_for

from benchmarks import stalls

AFTER = 4.0
ZOO = """
    import ctypes, os, resource, signal, subprocess, sys, threading, time
    import sweep

    AFTER = 4.0
    mode = sys.argv[1]
    trial = sweep.current_trial()
    spin = [sys.executable, "-c", "import time; end = time.time() + 9\\nwhile time.time() < end: pass"]

    def odd():
        "For long enough to be taken for a stall."
        end = time.monotonic() + 2 * AFTER
        while time.monotonic() < end:
            yield

    def hang():
        threading.Event().wait()

    if mode in ("deadlocked", "stopped"):
        trial.report(1, acc=0.5)
    if mode in ("deadlocked", "silent from the start"):
        print("epoch 1, and then")
        hang()
    if mode == "stopped":
        child = subprocess.Popen(["sleep", "600"])
        os.kill(child.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
    if mode == "in the kernel":  # a parent waits for its vforked child uninterruptibly
        if ctypes.PyDLL(None).vfork() == 0:
            time.sleep(600)
    if mode == "not to be looked at":
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
        hang()
    if mode == "a bomb":
        def again(*_):
            os.fork()
        signal.signal(signal.SIGTERM, again)
        for _ in range(199):
            if os.fork() == 0:
                break
        while True:
            time.sleep(600)

    if mode == "compiling":
        subprocess.run(["sh", "-c", '"$@"; true', "sh", *spin])
    trial.report(1, acc=0.5)
    if mode == "with a busy child":
        subprocess.run(spin)
    if mode == "spinning":
        for _ in odd():
            pass
    if mode == "writing":
        for _ in odd():
            with trial.checkpoint(1) as folder:
                open(folder + "/state", "w").write("x")
            time.sleep(1)
    if mode == "talking":
        for _ in odd():
            print("still there")
            time.sleep(1)
    if mode == "diverging":
        trial.report(2, acc=float("nan"))
        hang()
    if mode == "out of address space":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        held = bytearray(200 << 20)
        held += bytearray(2 << 30)
    if mode in ("paddle", "torch"):
        said = {
            "paddle": "ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 2.0GB memory",
            "torch": "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        }
        sys.exit(said[mode])
    if mode in ("a bad link", "bad data", "our own allocator"):
        if mode != "a bad link" or trial.attempt == 1:
            sys.exit(mode)
    trial.report(3, acc=0.9)
"""
SICK = {
    "deadlocked": ("PRUNED", "STALLED"),
    "silent from the start": ("FAIL", "STALLED"),
    "stopped": ("PRUNED", "STALLED"),
    "in the kernel": ("FAIL", "STALLED"),
    "a bomb": ("FAIL", "STALLED"),
    "not to be looked at": ("FAIL", "STALLED"),
    "diverging": ("PRUNED", "PRUNED"),
    "out of address space": ("FAIL", "OOM"),
    "paddle": ("FAIL", "OOM"),
    "torch": ("FAIL", "OOM"),
    "our own allocator": ("FAIL", "OOM"),
    "bad data": ("FAIL", "CRASHED"),
}
HEALTHY = ["compiling", "with a busy child", "spinning", "writing", "talking", "a bad link"]
NO_PTRACE = [str(shutil.which("setpriv")), "--bounding-set=-sys_ptrace"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def zoo(shared: Project) -> dict[str, dict[str, Any]]:
    shared.write("zoo.py", ZOO)
    modes = [*HEALTHY, *SICK]
    shared.space(
        command="python zoo.py {mode}",
        space={"mode": modes},
        enqueue=[{"mode": mode} for mode in modes],
        trials=len(modes),
        devices=f"cpu:{len(modes)}",
        stall=AFTER,
        on_nan="prune",
        fail_fast=False,
        retry={"times": 1, "on": ["timed_out"], "backoff": 1},
        failures=[
            {"pattern": "a bad link", "action": "retry"},
            {"pattern": "bad data", "action": "fail"},
            {"pattern": "our own allocator", "outcome": "oom"},
        ],
    )
    done = shared.end(shared.start("run", "space.yaml", "--json", through=NO_PTRACE))
    assert done.code == 0, done.err
    return {trial["params"]["mode"]: trial for trial in done.json["trials"]}


@pytest.mark.parametrize("mode", HEALTHY)
def test_one_sign_of_life_is_enough(zoo: Any, mode: str) -> None:
    assert (zoo[mode]["state"], zoo[mode]["values"]) == ("COMPLETE", [0.9]), zoo[mode]["why"]


@pytest.mark.parametrize("mode", SICK)
def test_who_is_sick_gets_its_outcome(zoo: Any, mode: str) -> None:
    assert (zoo[mode]["state"], zoo[mode]["outcome"]) == SICK[mode], zoo[mode]["why"]
    assert len(zoo[mode]["attempts"]) == 1


@pytest.mark.parametrize("mode", [mode for mode, (_, outcome) in SICK.items() if outcome == "STALLED"])
def test_a_stall_is_seen_in_time_and_ends_the_whole_tree(zoo: Any, shared: Project, mode: str) -> None:
    (attempt,) = zoo[mode]["attempts"]
    assert attempt["ended"] - attempt["started"] >= AFTER
    tree = (Path(attempt["evidence"]) / "processes.txt").read_text().splitlines()
    assert len(tree) == {"a bomb": 200, "stopped": 2, "in the kernel": 2}.get(mode, 1), tree
    assert tree[0].split()[1] == {"stopped": "T", "in the kernel": "D"}.get(mode, "S")
    assert not shared.processes(f"SWEEP_TRIAL={zoo[mode]['number']}")


def test_the_evidence_names_the_line(zoo: Any, shared: Project) -> None:
    trial = zoo["deadlocked"]
    (attempt,) = trial["attempts"]
    line = next(
        n for n, text in enumerate(shared.path.joinpath("zoo.py").read_text().splitlines(), 1) if "hang" in text
    )
    assert re.fullmatch(
        rf"hangs in Condition.wait \(threading.py:\d+\), called by hang \(zoo.py:{line + 1}\): "
        r"for \d+ s no report, no output, nothing written, its CPU idle",
        trial["why"],
    )
    folder = Path(attempt["evidence"])
    assert folder == Path(attempt["directory"]) / "stall"
    assert f"hang ({shared.path}/zoo.py:" in (folder / "stacks.txt").read_text()
    assert (folder / "output.txt").read_text() == "epoch 1, and then\n"
    usage = [json.loads(line)["metrics"] for line in (folder / "usage.jsonl").read_text().splitlines()]
    assert usage[-1]["cpu"] < 0.05


def test_where_nobody_may_look_the_stacks_are_in_the_output(zoo: Any, shared: Project) -> None:
    trial = zoo["not to be looked at"]
    (attempt,) = trial["attempts"]
    assert not (Path(attempt["evidence"]) / "stacks.txt").exists()
    output = shared.output(trial["number"])
    assert "Fatal Python error: Aborted" in output and re.search(r'zoo.py", line \d+ in hang', output)
    assert trial["why"].startswith("hangs: for ")


def test_want_of_memory_has_its_measure(zoo: Any) -> None:
    why = zoo["out of address space"]["why"]
    measured = re.fullmatch(r"MemoryError \(exit code 1\); its peak: (\d+) MB of memory", why)
    assert measured and 200 < int(measured[1]) < 1000, why


def test_the_file_says_what_is_tried_again_and_when(zoo: Any, shared: Project) -> None:
    first, second = zoo["a bad link"]["attempts"]
    assert (first["outcome"], second["outcome"]) == ("CRASHED", "COMPLETED")
    assert second["started"] - first["ended"] >= 1.0, "the backoff"
    assert shared.events("RetryDue")


def test_why_tells_a_stall_and_where_its_evidence_is(zoo: Any, shared: Project) -> None:
    number = zoo["deadlocked"]["number"]
    told = shared.sweep("why", "s-1", str(number)).out
    assert "called by hang (zoo.py:" in told and "no report, no output" in told
    assert str(Path(zoo["deadlocked"]["attempts"][0]["evidence"])) in told
    assert "ended STALLED after 1 report" in told and "the trial is PRUNED" in told


# ---- what the file leaves out, and what it wants instead ------------------------------------------------------


def test_with_the_cpu_left_out_who_is_only_busy_stalls_and_goes_on_from_its_checkpoint(project: Project) -> None:
    project.write(
        "busy.py",
        """
        import subprocess, sys
        import sweep

        trial = sweep.current_trial()
        spin = "while True: pass"
        if start := trial.resume():
            trial.report(2, acc=float(start.rpartition("/")[2]))
        else:
            trial.report(1, acc=0)
            with trial.checkpoint(1):
                pass
            exec(spin) if sys.argv[1] == "alone" else subprocess.run([sys.executable, "-c", spin])
        """,
    )
    document = project.run(
        command="python busy.py {who}",
        space={"who": ["alone", "a child"]},
        sampler="grid",
        trials=None,
        stall={"after": 2, "signs": ["report", "output"], "action": "retry"},
    )
    for trial in document["trials"]:
        assert [attempt["outcome"] for attempt in trial["attempts"]] == ["STALLED", "COMPLETED"]
        assert (trial["state"], trial["values"]) == ("COMPLETE", [1.0])


@pytest.mark.parametrize(("action", "state"), [("fail", "FAIL"), ("warn", "COMPLETE")])
def test_a_stall_may_fail_or_be_only_told(project: Project, action: str, state: str) -> None:
    project.write(
        "slow.py",
        """
        import time
        import sweep

        trial = sweep.current_trial()
        trial.report(1, acc=0.5)
        time.sleep(4)
        trial.report(2, acc=0.9)
        """,
    )
    document = project.run(
        code=state == "FAIL", command="python slow.py", trials=1, stall={"after": 1.5, "action": action}
    )
    (trial,) = document["trials"]
    assert trial["state"] == state
    told = project.sweep("why", "s-1", "0").out
    assert ("it is left alone (stall: warn)" in told) == (action == "warn")
    assert told.count("hangs in <module> (slow.py:") == 1


# ---- limits ---------------------------------------------------------------------------------------------------


def test_time_is_up_for_an_attempt_with_a_window_and_for_a_trial_for_good(project: Project) -> None:
    project.write(
        "slow.py",
        """
        import sys, time
        import sweep

        trial = sweep.current_trial()
        start = trial.resume()
        first = int(start.rpartition("/")[2]) + 1 if start else 0
        for step in range(first, 1000):
            trial.report(step, acc=trial.attempt)
            with trial.checkpoint(step):
                pass
            if start and sys.argv[1] == "in two":
                break
            time.sleep(0.2)
        """,
    )
    document = project.run(
        command="python slow.py {how}",
        space={"how": ["in two", "never"]},
        sampler="grid",
        trials=None,
        attempt_timeout=2,
        trial_timeout=4,
        retry={"times": 5, "on": ["timed_out"]},
        grace=5,
    )
    trials = {trial["params"]["how"]: trial for trial in document["trials"]}
    first, second = trials["in two"]["attempts"]
    assert (first["outcome"], second["outcome"], trials["in two"]["values"]) == ("TIMED_OUT", "COMPLETED", [2.0])
    steps = [json.loads(line) for line in Path(first["directory"], "reports.jsonl").read_text().splitlines()]
    assert steps[-1]["acknowledged"] == "stop" and "checkpoint" in steps[-2], "the window for one more"
    again = [json.loads(line) for line in Path(second["directory"], "reports.jsonl").read_text().splitlines()]
    assert again[0]["step"] == steps[-2]["checkpoint"] + 1
    assert [attempt["outcome"] for attempt in trials["never"]["attempts"]] == ["TIMED_OUT", "TIMED_OUT"]
    assert trials["never"]["why"] in (
        "its trial_timeout of 4 s has passed",
        "its attempt_timeout of 2 s has passed",
    )


def test_a_budget_starts_nothing_new_when_it_is_used_up(project: Project) -> None:
    project.write("nap.py", "import time, sweep\ntime.sleep(0.4)\nsweep.current_trial().report(1, acc=1)")
    document = project.run(command="python nap.py", trials=500, budget=0.001)
    taken = sum(
        attempt["ended"] - attempt["started"] for trial in document["trials"] for attempt in trial["attempts"]
    )
    assert 2 < taken < 20 and document["counts"]["COMPLETE"] >= 3
    assert document["why"] == "its budget of 0.001 slot-hours is used up"
    assert len(project.events("TimeUp")) == 1


@pytest.mark.parametrize(
    ("keys", "why", "most"),
    [
        ({"fail_rate": 0.5}, r"\d+ of \d+ trials failed, more than fail_rate allows; .*no route", 15),
        (
            {"failures": [{"pattern": "no route", "action": "stop"}]},
            r"trial \d failed, and `failures` says to stop then: .*no route",
            3,
        ),
    ],
)
def test_failures_that_end_the_sweep(project: Project, keys: dict[str, Any], why: str, most: int) -> None:
    project.write("broken.py", "import sys\nsys.exit('no route to host')")
    document = project.run(code=1, command="python broken.py", trials=100, fail_fast=False, **keys)
    assert re.match(why, document["why"]) and document["state"] == "FAILED"
    assert document["counts"]["FAIL"] <= most


def test_nan_can_be_a_failure(project: Project) -> None:
    project.write(
        "nan.py",
        """
        import time
        import sweep

        trial = sweep.current_trial()
        trial.report(1, acc=0.5)
        for step in range(2, 100):
            trial.report(step, acc=float("nan"))
            time.sleep(0.1)
        """,
    )
    document = project.run(code=1, command="python nan.py", trials=1, on_nan="fail")
    (trial,) = document["trials"]
    assert (trial["state"], trial["values"], trial["why"]) == ("FAIL", None, "acc was nan at step 2")


# ---- the controller is away -----------------------------------------------------------------------------------


def test_a_controller_that_was_away_takes_no_healthy_trial_for_dead(project: Project) -> None:
    project.write(
        "odd.py",
        """
        import sys, time
        import sweep

        trial = sweep.current_trial()
        while not __import__("os").path.exists("enough"):
            if sys.argv[1] == "talks":
                print("still there")
            time.sleep(0.7)
        trial.report(1, acc=1)
        """,
    )
    project.space(
        command="python odd.py {how}", space={"how": ["talks", "naps"]}, sampler="grid", trials=None, stall=3
    )
    controller = project.start("run", "space.yaml")
    wait_for(lambda: len(project.events("AttemptStarted")) == 2, "both to start")
    time.sleep(0.5)
    controller.send_signal(signal.SIGSTOP)
    time.sleep(6)
    controller.send_signal(signal.SIGCONT)
    time.sleep(0.7)
    controller.kill()
    project.end(controller)
    assert not project.events("StallSeen"), "who naps has been heard of for less than 3 s"
    time.sleep(1)
    controller = project.start("resume", "--json")
    wait_for(lambda: project.events("StallSeen"), "the one that naps to be seen")
    taken_over = project.events("ControllerStarted")[-1]["at"]
    (seen,) = project.events("StallSeen")
    assert seen["at"] - taken_over >= 3.0, "the clocks restart"
    (project.path / "enough").touch()
    states = {trial["params"]["how"]: trial["outcome"] for trial in project.end(controller).json["trials"]}
    assert states == {"talks": "COMPLETED", "naps": "STALLED"}


def test_among_many_no_healthy_one_is_ended_and_no_hung_one_is_left(project: Project) -> None:
    """A small sample of `python -m benchmarks stalls`."""
    found = stalls.disturbed(project.path, 6, seed=10, after=3.0, env=project.env)
    assert found.hung and found.stops + found.kills and not found.wrong


# ---- the kernel's own judgement -------------------------------------------------------------------------------


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A memory cgroup of 400 MB, where this user may make one."""
    root = Path("/sys/fs/cgroup/memory")
    folder = (root if root.is_dir() else root.parent) / f"sweep-test-{os.getpid()}"
    try:
        folder.mkdir()
        limit = folder / ("memory.limit_in_bytes" if root.is_dir() else "memory.max")
        limit.write_text(str(400 << 20))
    except OSError as error:
        if folder.exists():
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup to be empty", 10)
    folder.rmdir()


def test_the_kernel_kills_for_want_of_memory(project: Project, little_memory: Path) -> None:
    project.write(
        "large.py",
        """
        import os, sys
        import sweep

        trial = sweep.current_trial()
        trial.report(1, acc=1)
        if sys.argv[1] == "child" and (pid := os.fork()):
            if os.waitpid(pid, 0)[1]:
                sys.exit("RuntimeError: worker is killed by signal: Killed.")
        if sys.argv[1] == "crash":
            sys.exit("another trouble")
        held = [bytearray(os.urandom(1 << 20)) for _ in range(1000)]
        """,
    )
    project.space(
        command="python large.py {who}",
        space={"who": ["self", "child", "crash"]},
        sampler="grid",
        trials=None,
        devices="cpu:1",
        fail_fast=False,
    )
    inside = ["sh", "-c", f'echo $$ > {little_memory}/cgroup.procs; exec "$@"', "sh"]
    done = project.end(project.start("run", "space.yaml", "--json", through=inside))
    trials = {trial["params"]["who"]: trial for trial in done.json["trials"]}
    for who, how in (("self", "signal 9, SIGKILL"), ("child", "exit code 1")):
        assert trials[who]["outcome"] == "OOM"
        assert trials[who]["why"].startswith(f"the kernel killed it for want of memory ({how}); its peak: ")
    assert trials["crash"]["outcome"] == "CRASHED"


def test_nothing_is_left(shared: Project, zoo: Any) -> None:
    pids = [attempt["pid"] for trial in zoo.values() for attempt in trial["attempts"]]
    assert not [pid for pid in pids if alive(pid)]
