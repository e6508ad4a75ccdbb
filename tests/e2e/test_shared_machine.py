"""Four GPUs, three sweeps, and a dozen jobs and `sweep exec`s at once, while processes are killed at random.

One of the sweeps, and some of the others, want two devices at once.

At no instant has a device two holders. There are two witnesses: whoever computes locks a byte of its device's own
in a file (the kernel drops that with the process), and from outside /proc shows who has which device in its
environment while its lease is looked at. SWEEP_TEST_SECONDS=60 makes it longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2e_kit import LONGEST, Project, alive, wait_for

from sweep.rundir import locked, sweeps

SECONDS = float(os.environ.get("SWEEP_TEST_SECONDS", "8"))
BODY = """
    import fcntl, os, random, sys, time
    witness = os.open("witness", os.O_RDWR | os.O_CREAT)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        place = "abcd".index(gpu[4])
        try:
            fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            os.write(said, f"{gpu} taken\\n".encode())
        os.write(said, f"{gpu} {sys.argv[1]}\\n".encode())
    time.sleep(random.random() / 2)
    print("acc 1")
"""
GPUS = {f"GPU-{letter}": f"gpu-{letter}" for letter in "abcd"}
KINDS = ("one", "two", "three", "job", "exec", "pair")


class Watcher:
    """Looks from outside. `bodies` are those that compute now: pid -> their devices."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.looks = 0
        self.faults: list[str] = []
        self.bodies: dict[int, list[str]] = {}

    def look(self) -> None:
        self.looks += 1
        self.bodies = {pid: gpus for pid in _with_body() if (gpus := self._devices(pid))}
        for pid, gpus in self.bodies.items():
            for gpu in gpus:
                if not locked(self._project.locks / GPUS[gpu]) and alive(pid):
                    self.faults.append(f"{pid} computes on {gpu} without a lease")
                others = [other for other, theirs in self.bodies.items() if other != pid and gpu in theirs]
                if any(alive(other) for other in others) and alive(pid):
                    self.faults.append(f"{gpu} has {pid} and {others}")

    def _devices(self, pid: int) -> list[str]:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return []
        told = dict(one.decode(errors="replace").partition("=")[::2] for one in environ)
        ours = told.get("SWEEP_TEST_OF") == str(self._project.path)
        return told.get("CUDA_VISIBLE_DEVICES", "").split(",") if ours else []


def _with_body() -> list[int]:
    """Processes that run body.py themselves; a `sweep exec` names it further behind."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().split(b"\0")[1:2] == [b"body.py"]:
                found.append(int(place.name))
        except OSError:
            pass
    return found


def _victim(project: Project, watcher: Watcher, chance: random.Random) -> int | None:
    """A process that computes, or the supervisor or `sweep exec` above it."""
    holders = []
    for name in GPUS.values():
        try:
            facts = json.loads((project.locks / name).read_text())
        except (OSError, ValueError):
            continue
        if facts.get("trial") is not None or facts.get("command"):
            holders.append(facts["pid"])
    known = [pid for pid in (*watcher.bodies, *holders) if alive(pid)]
    return chance.choice(known) if known else None


def _submit_all(project: Project) -> list[subprocess.Popen[str]]:
    words = [
        *[("submit", "--", "python", "body.py", "job")] * 3,  # each with an MLflow of its own behind it
        *[("exec", "--", "python", "body.py", "exec")] * 7,
        *[("exec", "--devices", "2", "--", "python", "body.py", "pair")] * 2,
    ]
    return [project.start(*one) for one in words]


def test_never_two_holders_on_a_shared_machine(project: Project, fake_nvml: Any) -> None:
    fake_nvml.write(*(f"gpu uuid={gpu} name=NVIDIA_H200 total=143771" for gpu in GPUS))
    project.env.update(fake_nvml.env)
    project.write("body.py", BODY)
    pattern = {"pattern": "acc (?P<acc>.*)"}
    settings = {"trials": 10000, "fail_fast": 0, "retry": {"times": 1000}, "devices": "auto"}
    begun = []
    for name in KINDS[:3]:
        several = {"devices_per_trial": 2} if name == "three" else {}
        space = project.space(name=name, command=f"python body.py {name}", report=pattern, **settings, **several)
        begun.append(project.start("run", "-d", str(space.rename(project.path / f"{name}.yaml"))))
    started = _submit_all(project)
    for one in begun:
        done = project.end(one)
        assert done.code == 0, done.err
    watcher, chance, kills = Watcher(project), random.Random(7), 0
    until = time.monotonic() + SECONDS
    next_kill = 0.0
    while time.monotonic() < until:
        watcher.look()
        if time.monotonic() > next_kill and (pid := _victim(project, watcher, chance)):
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
                kills += 1
            next_kill = time.monotonic() + chance.random() / 3
        time.sleep(0.005)
    stops = [project.start("stop", name, "--now") for name in KINDS[:3]]
    assert [project.end(one).code for one in stops] == [0, 0, 0]
    for process in started:
        watcher.look()
        process.communicate(timeout=LONGEST)
        project.started.remove(process)
    wait_for(
        lambda: watcher.look() or not any(locked(one.controller_lock) for one in sweeps(project.path)), "jobs"
    )

    said = Counter(tuple(line.split()) for line in (project.path / "said").read_text().splitlines())
    assert watcher.faults == [] and not [gpu for gpu, kind in said if kind == "taken"]
    assert {gpu for gpu, _ in said} == set(GPUS) and {kind for _, kind in said} == set(KINDS), said
    assert kills > 4 and watcher.looks > 10, "the contest never took place"
    wait_for(lambda: not project.processes(), "all of it to end")
    told = project.sweep("devices", "--json").json["devices"]
    assert [(one["uuid"], one["health"], [slot["holder"] for slot in one["slots"]]) for one in told] == [
        (gpu, "ok", [None]) for gpu in GPUS
    ]
    assert project.sweep("exec", "--devices", "4", "--", "true").code == 0
