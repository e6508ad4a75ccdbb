"""The nursery and its supervisors, without a controller: what a process gets, how it is ended, what is left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch_kit import LONGEST, Room, wait_for

from sweep import rundir
from sweep.launch.local import deliver, open_pidfd, settle, wait_for_launches
from sweep.launch.nursery import READY
from sweep.launch.process import boot_id, is_alive
from sweep.launch.watch import end_orphans
from sweep.rundir import AttemptDir


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


# ---- what the process gets -----------------------------------------------------------------------------------


FACTS = """
    import json, os, signal, sys
    handles = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
               if os.path.exists(f"/proc/self/fd/{name}")}
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    print(json.dumps({
        "argv": sys.argv, "cwd": os.getcwd(), "stdin": sys.stdin.read(), "session": os.getsid(0),
        "pid": os.getpid(), "group": os.getpgrp(), "parent": os.getppid(), "handles": handles,
        "umask": status["Umask"], "blocked": status["SigBlk"], "ignored": status["SigIgn"],
        "env": dict(os.environ), "path": sys.path[0],
        "buffered": sys.stdout.line_buffering and not sys.stdout.write_through, "orders": sys.orig_argv,
        "int": str(signal.getsignal(signal.SIGINT)), "threads": len(os.listdir("/proc/self/task")),
    }))
"""


@pytest.fixture(scope="module", params=["cold", "warm"])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a Python script sees of itself, started anew and forked from the warm nursery."""
    warm = request.param == "warm"
    before = os.umask(0o027)
    room = Room(tmp_path_factory.mktemp("facts"), *(["json"] if warm else []))
    os.umask(before)
    patterns = {"mode": "pattern", "patterns": [r"(?P<acc>\d+)"]}  # so that the supervisor has files open, too
    attempt = room.script(FACTS, "a b", "$HOME", report=patterns, SHELLS="; rm -rf \"'")
    assert attempt.end()["code"] == 0, attempt.output
    yield {**json.loads(attempt.output), "attempt": attempt, "room": room, "warm": warm}
    room.close()


def test_it_runs_where_and_as_it_was_told(process: dict[str, Any]) -> None:
    attempt, project = process["attempt"], process["room"].project
    assert process["argv"] == ["script.py", "a b", "$HOME"]
    assert process["cwd"] == process["path"] == str(project)
    assert process["env"]["SHELLS"] == "; rm -rf \"'" and process["env"]["PYTHONUNBUFFERED"] == "1"
    assert process["env"]["SWEEP_ATTEMPT_DIR"] == str(attempt.paths.path)
    assert "SWEEP_PROJECT" not in process["env"], "the nursery's own"
    assert process["stdin"] == "" and not process["buffered"]
    assert ("nursery" in " ".join(process["orders"])) == process["warm"]
    assert process["threads"] == 1


def test_it_has_a_session_of_its_own_below_its_supervisor(process: dict[str, Any]) -> None:
    assert process["session"] == process["group"] == process["pid"] == process["attempt"].facts["pid"]
    assert process["parent"] == process["attempt"].supervisor == process["attempt"].facts["supervisor"]["pid"]


def test_it_inherits_the_lease_and_no_other_descriptor(process: dict[str, Any]) -> None:
    attempt = process["attempt"]
    lease = str(process["room"].project / "lease-1")
    named = {handle: target for handle, target in process["handles"].items() if "/proc/" not in target}
    assert {named.pop("0"), named.pop("1"), named.pop("2")} == {"/dev/null", str(attempt.paths.output)}
    assert list(named.values()) == [lease]


# glibc keeps 32 and 33 to itself: whoever started the tests may have had them ignored, and nobody can change that
_LIBC = 1 << 31 | 1 << 32


def test_its_signals_are_as_a_shell_would_give_them(process: dict[str, Any]) -> None:
    assert int(process["blocked"], 16) == 0
    python_ignores = {signal.SIGPIPE, signal.SIGXFSZ}
    assert int(process["ignored"], 16) & ~_LIBC == sum(1 << number - 1 for number in python_ignores)
    assert "default_int_handler" in process["int"]
    assert process["umask"] == "0027"


def test_a_program_that_is_not_python_has_default_signals(room: Room) -> None:
    attempt = room.start("cat", "/proc/self/status")
    assert attempt.end()["code"] == 0
    masks = dict(line.split(":\t", 1) for line in attempt.output.splitlines())
    assert int(masks["SigIgn"], 16) & ~_LIBC == int(masks["SigBlk"], 16) == int(masks["SigCgt"], 16) == 0


def test_the_files_say_who_ran_what_and_how_it_ended(room: Room) -> None:
    attempt = room.start("sh", "-c", "echo out; echo err >&2; exit 7", COLOUR="blue")
    done = attempt.end()
    assert attempt.output == "out\nerr\n"
    assert (done["code"], done["signal"], done["signalled"], done["error"]) == (7, None, False, None)
    assert done["started"] <= done["ended"] and done["max_rss"] > 1e5 and done["cpu_seconds"] >= 0
    facts = attempt.facts
    assert facts["argv"][0] == "sh" and facts["cwd"] == str(room.project) and facts["env"]["COLOUR"] == "blue"
    assert (facts["trial"], facts["attempt"], facts["slot"], facts["device"]) == (1, 1, "cpu-0", "cpu-0")
    assert "PATH" not in facts["env"], "only what sweep set"
    who = facts["supervisor"]
    assert who["pid"] == attempt.supervisor and not is_alive(who["pid"], who["start_time"], who["boot_id"])
    assert attempt.lease_is_free()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["/no/such/program"], "No such file or directory: /no/such/program"),
        (["no-such-program"], "No such file or directory: no-such-program"),
        (["./data"], "Permission denied: ./data"),
    ],
)
def test_what_cannot_be_started_says_why(room: Room, argv: list[str], said: str) -> None:
    (room.project / "data").write_text("data")
    done = room.start(*argv).end()
    assert (done["code"], done["error"]) == (127, said)


def test_an_order_that_is_too_long_is_refused_and_its_lease_closed(room: Room) -> None:
    order = room.order(["echo", "x" * 200_000])
    with pytest.raises(OSError, match="the limit is"):
        room.nursery.launch(order)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(order.leases[0])


def test_nothing_runs_that_nobody_could_find_again(room: Room) -> None:
    order = room.order(["touch", "ran"])
    (order.directory / "attempt.json/in the way").mkdir(parents=True)
    room.nursery.launch(order)
    started = room.answer().started
    assert started is not None and started.pidfd is not None
    assert select.select([started.pidfd], [], [], LONGEST)[0]
    waiting = ready(room)
    wait_for(lambda: len(room.left()) == 1 + 2 * len(waiting), "the end of all that does not wait for an order")
    assert not (room.project / "ran").exists()
    assert "attempt.json" in (order.directory / "output.log").read_text()


# ---- how it is ended -----------------------------------------------------------------------------------------


def test_a_verdict_wakes_the_supervisor_which_sends_sigterm(room: Room) -> None:
    attempt = room.start("sleep", "600")
    attempt.deliver("prune")
    done = attempt.end()
    assert (done["code"], done["signal"], done["signalled"]) == (None, signal.SIGTERM, True)
    assert json.loads(attempt.paths.verdict.read_text())["verdict"] == "prune"


def test_within_the_grace_it_may_end_by_itself(room: Room) -> None:
    attempt = room.script("""
        import os, time
        while not os.path.exists(os.environ["SWEEP_ATTEMPT_DIR"] + "/verdict.json"):
            time.sleep(0.01)
        raise SystemExit(3)
    """)
    attempt.deliver("prune", grace=LONGEST)
    assert attempt.end() == {**attempt.end(), "code": 3, "signal": None, "signalled": False}


STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def test_one_that_ignores_sigterm_is_killed_in_time(room: Room) -> None:
    attempt = room.start("sh", "-c", STUBBORN)
    attempt.says("ready")
    since = time.monotonic()
    attempt.deliver("prune", grace=0.2, kill_after=0.3)
    done = attempt.end()
    assert done["signal"] == signal.SIGKILL and done["signalled"]
    assert 0.5 <= time.monotonic() - since < 5


def test_a_later_verdict_can_only_be_sooner(room: Room) -> None:
    attempt = room.start("sh", "-c", STUBBORN)
    attempt.says("ready")
    attempt.deliver("stop", grace=LONGEST, kill_after=LONGEST)
    attempt.deliver("kill", grace=0, kill_after=0.1)
    assert attempt.end()["signal"] == signal.SIGKILL


def test_sigterm_to_the_supervisor_stops_the_trial(room: Room) -> None:
    attempt = room.start("sleep", "600")
    os.kill(attempt.supervisor, signal.SIGTERM)
    assert attempt.end()["signal"] == signal.SIGTERM


FLED = """
    import os, signal, sys, time
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            print("fled", os.getpid(), flush=True)
            time.sleep(600)
        os._exit(0)
    os.wait()
    time.sleep(float(sys.argv[1]))
"""


def test_a_process_that_fled_from_its_parents_and_session_is_ended_with_the_tree(room: Room) -> None:
    attempt = room.script(FLED, "600")
    attempt.says("fled")
    pid = int(attempt.output.split()[1])
    attempt.deliver("kill", kill_after=0.2)
    attempt.end()
    assert not Path(f"/proc/{pid}").exists() and attempt.lease_is_free()


def test_one_that_outlives_the_command_is_ended_and_the_command_has_still_succeeded(room: Room) -> None:
    attempt = room.script(FLED, "0")
    done = attempt.end()
    assert (done["code"], done["signalled"]) == (0, False)
    pid = int(attempt.output.split()[1])
    assert not Path(f"/proc/{pid}").exists() and attempt.lease_is_free()


def test_the_lease_lives_as_long_as_the_tree(room: Room) -> None:
    attempt = room.start("sh", "-c", "echo ready; sleep 600")
    attempt.says("ready")
    assert not attempt.lease_is_free()
    os.kill(attempt.supervisor, signal.SIGSTOP)
    assert not attempt.lease_is_free()
    os.kill(attempt.supervisor, signal.SIGCONT)
    attempt.deliver("kill")
    attempt.end()
    assert attempt.lease_is_free()


def test_a_killed_supervisor_takes_the_command_along_and_the_rest_is_found(room: Room) -> None:
    attempt = room.script(FLED, "600")
    attempt.says("fled")
    os.kill(attempt.supervisor, signal.SIGKILL)
    assert attempt.pidfd is not None and select.select([attempt.pidfd], [], [], LONGEST)[0]
    wait_for(lambda: not Path(f"/proc/{attempt.facts['pid']}").exists(), "the command's end")
    assert not attempt.paths.exit.exists()
    assert end_orphans(attempt.paths) == 1
    wait_for(attempt.lease_is_free, "the lease")


# ---- the nursery's own troubles ------------------------------------------------------------------------------


def nursery_pid(room: Room) -> int:
    (pid,) = [pid for pid in room.left() if parent(pid) == os.getpid()]
    return pid


def ready(room: Room) -> list[int]:
    """The supervisors that wait for an order, when there are as many as there are to be."""
    nursery = nursery_pid(room)

    def waiting() -> list[int]:
        return [pid for pid in room.left() if parent(pid) == nursery]

    wait_for(lambda: len(waiting()) == READY, "supervisors ahead of their orders")
    return waiting()


def test_supervisors_that_wait_end_with_the_nursery(room: Room) -> None:
    assert ready(room)
    os.kill(nursery_pid(room), signal.SIGKILL)
    wait_for_launches(room.directory)
    wait_for(lambda: not room.left(), "their end and that of their children")


def test_a_supervisor_that_was_killed_while_it_waited_is_passed_over(room: Room) -> None:
    waiting = ready(room)
    for pid in waiting[:-1]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not {*waiting[:-1]} & {*room.left()}, "their end")
    assert room.start("true").supervisor == waiting[-1]
    assert room.start("true").end()["code"] == 0


def test_supervisors_that_have_ended_leave_no_zombies_while_others_start(room: Room) -> None:
    nursery = nursery_pid(room)
    for _ in range(3 * READY):
        room.start("true").end()
    children = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
    zombies = [pid for pid in children if stat(int(pid))[0] == "Z"]
    assert len(zombies) <= READY


def test_a_nursery_that_was_killed_is_replaced_and_its_attempts_live_on(room: Room) -> None:
    attempt = room.start("sh", "-c", "sleep 0.5; exit 5")
    before = room.nursery.fileno()
    os.kill(nursery_pid(room), signal.SIGKILL)
    lost = room.order(["true"])
    room.nursery.launch(lost)  # before anybody knows: no error, but an answer
    reply = room.answer()
    assert (reply.trial, reply.attempt, reply.started) == (lost.trial, 1, None) and "nursery died" in reply.error
    assert room.nursery.fileno() != before, "or nobody would know that it has to be watched anew"
    assert room.start("true").end()["code"] == 0
    assert attempt.end()["code"] == 5


def test_an_attempt_that_a_dying_nursery_had_not_told_of_is_found(room: Room) -> None:
    order = room.order(["sleep", "600"])
    room.nursery.launch(order)
    pid = room.answer().started
    room.nursery._sent[order.trial, 1] = order  # as if that answer had not come
    before = room.nursery.fileno()
    os.kill(nursery_pid(room), signal.SIGKILL)
    found = room.answer().started
    assert found is not None and pid is not None and found.pid == pid.pid
    assert before not in (found.pidfd, room.nursery.fileno()), "the controller still watches that number"
    os.kill(found.pid, signal.SIGTERM)


def test_an_order_that_a_dying_nursery_had_carried_out_is_found_on_disk(room: Room) -> None:
    order = room.order(["sleep", "600"])
    room.nursery.launch(order)
    paths = AttemptDir(order.directory)
    facts = wait_for(lambda: rundir.read_json(paths.attempt), "attempt.json")
    os.kill(nursery_pid(room), signal.SIGKILL)
    reply = settle(room.directory, order.trial, 1)
    assert reply.started is not None and reply.started.pid == facts["supervisor"]["pid"]
    assert reply.started.pidfd is not None
    deliver(paths, reply.started.pidfd, "kill", 0, 1)
    assert select.select([reply.started.pidfd], [], [], LONGEST)[0]
    os.close(reply.started.pidfd)
    wait_for_launches(room.directory)
    again = settle(room.directory, order.trial, 1)
    assert again.started is not None and again.started.pidfd is None, "it has ended"
    assert settle(room.directory, 99, 1).error == "the nursery died before it could start it"


def test_attempts_survive_the_end_of_nursery_and_controller(tmp_path: Path) -> None:
    room = Room(tmp_path)
    attempt = room.start("sh", "-c", "echo ready; sleep 0.5; echo done")
    room.nursery.close()
    wait_for_launches(room.directory)
    assert attempt.end()["code"] == 0 and attempt.output == "ready\ndone\n"
    room.close()


def test_a_pid_that_means_another_process_now_is_not_taken_for_it() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        facts = {"pid": process.pid, "start_time": int(stat(process.pid)[19]), "boot_id": boot_id()}
        handle = open_pidfd(facts)
        assert handle is not None
        os.close(handle)
        assert open_pidfd({**facts, "start_time": facts["start_time"] - 1}) is None
        assert open_pidfd({**facts, "boot_id": "another"}) is None
        process.kill()
    assert open_pidfd(facts) is None


def stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the command's name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent(pid: int) -> int:
    """Whose child it is; 0 once it is gone."""
    try:
        return int(stat(pid)[1])
    except OSError:
        return 0
