"""`sweep exec` and `sweep devices` as a person uses them, beside sweeps and in a terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest
from e2e_kit import COMMAND, Project, alive, wait_for

from sweep.rundir import locked

GPUS = (
    "gpu uuid=GPU-aaaaaaaa-0 name=Fake_H200 total=100000",
    "gpu uuid=GPU-bbbbbbbb-0 name=Fake_H200 total=100000",
)
KEYS = {"uuid", "kind", "index", "name", "memory", "utilisation", "foreign", "slots", "health"}
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def gpus(project: Project, fake_nvml: Any) -> Any:
    fake_nvml.write(*GPUS)
    project.env.update(fake_nvml.env)
    return fake_nvml


def slots(project: Project) -> dict[str, Any]:
    told = project.sweep("devices", "--json").json["devices"]
    return {slot["slot"]: slot["holder"] for device in told for slot in device["slots"]}


def test_the_command_gets_a_device_and_its_exit_code_is_ours(project: Project, gpus: Any) -> None:
    done = project.sweep("exec", "--", sys.executable, "-c", SHOW)
    assert (done.code, done.err) == (0, "")
    env = done.json
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-aaaaaaaa-0" and env["OMP_NUM_THREADS"].isdecimal()
    assert project.sweep("exec", "--", "sh", "-c", "exit 7").code == 7
    assert project.sweep("exec", "--", "sh", "-c", "kill -9 $$").code == 137
    assert project.sweep("exec", "--devices", "2", "--", sys.executable, "-c", SHOW).json[
        "CUDA_VISIBLE_DEVICES"
    ] == ("GPU-aaaaaaaa-0,GPU-bbbbbbbb-0")
    assert (
        project.sweep("exec", "--devices", "[1]", "--", "printenv", "CUDA_VISIBLE_DEVICES").out
        == "GPU-bbbbbbbb-0\n"
    )
    cpu = project.sweep("exec", "--devices", "cpu:2", "--", "printenv", "CUDA_VISIBLE_DEVICES")
    assert (cpu.code, cpu.out) == (0, "\n")
    mine = project.sweep("exec", "--", "printenv", "CUDA_VISIBLE_DEVICES", env={"CUDA_VISIBLE_DEVICES": "1"})
    assert mine.out == "GPU-bbbbbbbb-0\n", "what the caller's scheduler gave is what there is"


def test_it_passes_input_and_output_on(project: Project) -> None:
    read, write = os.pipe()
    process = project.start("exec", "--", "tr", "a-z", "A-Z", stdin=read)
    os.close(read)
    os.write(write, b"hello")
    os.close(write)
    done = project.end(process)
    assert (done.code, done.out, done.err) == (0, "HELLO", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--devices", "3", "--", "true"), 2, "3 devices at once wanted, but there are 2"),
        (("--devices", "0", "--", "true"), 2, "`--devices '[0]'`"),
        (("--devices", "gpuu", "--", "true"), 2, "no such device"),
        (("--devices", "[7]", "--", "true"), 2, "GPU 7 is not there"),
        (("--", "no-such-program"), 127, "command not found"),
        ((), 2, "Missing argument"),
    ],
)
def test_mistakes(words: tuple[str, ...], code: int, said: str, project: Project, gpus: Any) -> None:
    done = project.sweep("exec", *words)
    assert done.code == code and said in done.err and done.out == ""


def test_it_waits_for_a_trial_and_says_so(project: Project, gpus: Any) -> None:
    project.write("hold.py", "import os, time\nwhile os.path.exists('hold'): time.sleep(0.02)\nprint('acc 1')")
    (project.path / "hold").touch()
    project.space(command="python hold.py", report={"pattern": "acc (?P<acc>.*)"}, trials=2, devices="gpu")
    sweep = project.start("run", "space.yaml", "--json")
    wait_for(lambda: len(project.events("AttemptStarted")) == 2, "both trials")
    waiting = project.start("exec", "--", "printenv", "CUDA_VISIBLE_DEVICES")
    wait_for(lambda: list((project.locks / "waiting").glob("[0-9]*")), "a ticket")
    holders = wait_for(lambda: all((h := slots(project)).values()) and h, "both holders")
    assert {(one["sweep"], one["trial"], one["attempt"]) for one in holders.values()} == {
        ("s-1", 0, 1),
        ("s-1", 1, 1),
    }
    assert all(alive(one["pid"]) for one in holders.values())
    (project.path / "hold").unlink()
    done = project.end(waiting)
    assert done.code == 0 and done.out.startswith("GPU-")
    assert "waiting for 1 device: GPU 0 is held by trial" in done.err and "sweep: got GPU" in done.err
    assert project.end(sweep).code == 0


def test_ctrl_c_while_it_waits(project: Project) -> None:
    holder = project.start("exec", "--devices", "cpu:1", "--", "sleep", "60")
    wait_for(lambda: project.processes() and locked(project.locks / "cpu-0"), "the first")
    waiting = project.start("exec", "--devices", "cpu:1", "--", "true")
    wait_for(lambda: list((project.locks / "waiting").glob("[0-9]*")), "a ticket")
    waiting.send_signal(signal.SIGINT)
    assert project.end(waiting).code == 130
    assert list((project.locks / "waiting").glob("[0-9]*")) == []
    holder.terminate()  # is passed on
    assert project.end(holder).code == 128 + signal.SIGTERM


def test_ctrl_c_in_a_terminal_goes_to_the_command_once(project: Project) -> None:
    text = """
        import signal, time
        heard = []
        signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        print("ready", flush=True)
        until = time.monotonic() + 20
        while not heard and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        print(f"heard {len(heard)}", flush=True)
        raise SystemExit(5)
    """
    project.write("polite.py", text)
    terminal = pexpect.spawn(
        COMMAND, ["exec", "--", "python", "polite.py"], cwd=str(project.path), env=project.env, timeout=30
    )
    terminal.expect("ready")
    terminal.sendintr()
    terminal.expect("heard 1")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 5


def test_the_lease_lives_as_long_as_a_process_of_it_whatever_kills_whom(project: Project) -> None:
    lock = project.locks / "cpu-0"
    project.write("child.sh", "(trap '' TERM; echo $$ > child; exec sleep 60) & wait")
    process = project.start("exec", "--devices", "cpu:1", "--", "sh", "child.sh")
    wait_for((project.path / "child").exists, "the command")
    assert locked(lock)
    process.kill()
    process.wait()
    project.started.remove(process)
    orphan = wait_for(lambda: [pid for pid, line in project.processes().items() if "sleep" in line], "its child")[
        0
    ]
    wait_for(lambda: not any("child.sh" in line for line in project.processes().values()), "the command's end")
    assert locked(lock), "a process of it lives on, with the lease"
    os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: not locked(lock), "the lease's end")


def test_what_the_command_leaves_running_ends_with_it(project: Project) -> None:
    script = "(trap '' TERM; setsid sleep 60 <&- >&- 2>&-) & sleep 0.2; exit 3"
    began = time.monotonic()
    done = project.sweep("exec", "--devices", "cpu:1", "--", "sh", "-c", script)
    assert done.code == 3 and time.monotonic() - began < 30
    assert not project.processes() and not locked(project.locks / "cpu-0")


def test_devices_for_people(project: Project, gpus: Any) -> None:
    foreign = project.start("exec", "--devices", "cpu:1", "--", "sleep", "60")
    sleeper = wait_for(lambda: [p for p, line in project.processes().items() if line.startswith("sleep")], "it")[0]
    gpus.write(*GPUS, f"proc gpu=0 pid={sleeper}")
    told = project.sweep("devices", env={"COLUMNS": "100"}).out
    rows = {line[:3].strip(): line for line in told.splitlines()}
    assert "foreign" in rows["0"] and " ok" in rows["1"] and "sleep" in rows["CPU"]
    assert f"foreign: process {sleeper} of" in told
    watch = project.start("devices", "--watch", env={"PYTHONUNBUFFERED": "1"})
    assert watch.stdout is not None
    first = [watch.stdout.readline() for _ in range(3)]
    assert "gpu-aaaaaaaa-0  free  foreign" in first[0] and "cpu-0  sleep" in first[2]
    foreign.terminate()
    project.end(foreign)
    assert "gpu-aaaaaaaa-0  free  ok" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert project.end(watch).code == 0


def test_devices_without_a_gpu_or_a_sweep_leaves_no_trace(project: Project) -> None:
    told = project.sweep("devices", "--json").json
    assert {one["kind"] for one in told["devices"]} == {"cpu"} and told["no_gpu"]
    assert [one["uuid"] for one in told["devices"]] == told["auto"]
    assert set(told["devices"][0]) >= KEYS
    assert not Path(project.locks).exists()
    assert json.loads(json.dumps(told)) == told
    assert project.sweep("devices", "--watch", "--json").code == 2
