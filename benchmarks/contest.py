"""Four H200s, three sweeps and twenty jobs at once, while processes are killed at random: who had a device twice?

    python -m benchmarks contest [--seconds 60] [--jobs 20] [--seed 7]

The time counts from when all sweeps and jobs stand; jobs take so long that there are some to its end. One of the
sweeps wants two devices at once, and so do some of the `sweep exec`s that come beside the jobs. The GPUs are the
tests' fake NVML's. There are two witnesses that no device ever had two holders: whoever computes locks a byte of
its device's own in a file (the kernel drops that with the process), and from outside /proc shows who has which
device in its environment while its lease is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import kills, pool
from sweep.rundir import locked, sweeps

GPUS = {f"GPU-{letter}": f"gpu-{letter}" for letter in "abcd"}
MACHINE = [f"gpu uuid={gpu} name=NVIDIA_H200 total=143771" for gpu in GPUS]  # for fake_nvml.c
SWEEPS = ("one", "two", "pairs")
BODY = """
import fcntl, os, random, sys, time
witness = os.open("witness", os.O_RDWR | os.O_CREAT)
said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
    try:
        fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, "abcd".index(gpu[4]))
    except OSError:
        os.write(said, f"{gpu} taken\\n".encode())
    os.write(said, f"{gpu} {sys.argv[1]}\\n".encode())
time.sleep(random.random() * float(sys.argv[2]))
print("acc 1")
"""
SPACE = """
name: {name}
command: python body.py {name} 0.5
metric: acc
direction: maximize
space: {{x: {{type: float, low: 0, high: 1}}}}
report: {{pattern: 'acc (?P<acc>.*)'}}
devices: gpu
devices_per_trial: {width}
trials: 10000
retry: {{times: 1000}}
fail_fast: 0
grace: 0.3
mlflow: false
"""


@dataclass(frozen=True)
class Contest:
    """begun: how often each kind of work began on a device."""

    seconds: float
    begun: Counter[str]
    kills: int
    looks: int


class Watcher:
    """Looks from outside. `bodies` are those that compute now: pid -> their devices."""

    def __init__(self, folder: Path) -> None:
        self._locks = folder / "locks"
        self.looks = 0
        self.faults: list[str] = []
        self.bodies: dict[int, list[str]] = {}

    def look(self) -> None:
        self.looks += 1
        self.bodies = {pid: gpus for pid in _with_body() if (gpus := self._devices(pid))}
        for pid, gpus in self.bodies.items():
            for gpu in gpus:
                if not locked(self._locks / GPUS[gpu]) and _lives(pid):
                    self.faults.append(f"{pid} computes on {gpu} without a lease")
                others = [other for other, theirs in self.bodies.items() if other != pid and gpu in theirs]
                if any(map(_lives, others)) and _lives(pid):
                    self.faults.append(f"{gpu} has {pid} and {others}")

    def victim(self, chance: random.Random) -> int | None:
        """A process that computes, or the supervisor or `sweep exec` above it."""
        holders = []
        for name in GPUS.values():
            with suppress(OSError, ValueError):
                facts = json.loads((self._locks / name).read_text())
                if facts.get("trial") is not None or facts.get("command"):
                    holders.append(facts["pid"])
        known = [pid for pid in (*self.bodies, *holders) if _lives(pid)]
        return chance.choice(known) if known else None

    def _devices(self, pid: int) -> list[str]:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return []
        told = dict(one.decode(errors="replace").partition("=")[::2] for one in environ)
        ours = told.get("SWEEP_LOCK_DIR") == str(self._locks)
        return told.get("CUDA_VISIBLE_DEVICES", "").split(",") if ours else []


def _with_body() -> list[int]:
    """Processes that run body.py themselves; a `sweep exec` names it further behind."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "cmdline").read_bytes().split(b"\0")[1:2] == [b"body.py"]:
                found.append(int(place.name))
    return found


def _lives(pid: int) -> bool:
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def contest(folder: Path, seconds: float, jobs: int, seed: int, env: Mapping[str, str]) -> Contest:
    """env: of a MACHINE. Raises AssertionError for a device with two holders, and for one not free in the end."""
    began = time.monotonic()
    (folder / "body.py").write_text(BODY)
    begun, execs = _start_all(folder, 8 * seconds / jobs, jobs, env)
    for process in begun:
        kills.ended(process, 0)
    watcher, chance, killed = Watcher(folder), random.Random(seed), 0
    until, next_kill = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        watcher.look()
        if time.monotonic() > next_kill and (pid := watcher.victim(chance)):
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
                killed += 1
            next_kill = time.monotonic() + chance.random() / 3
        time.sleep(0.005)
    for process in [kills.run(folder, "stop", name, "--now", env=env) for name in SWEEPS]:
        kills.ended(process, 0)

    def over() -> bool:
        watcher.look()
        running = any(process.poll() is None for process in execs)
        return not running and not any(locked(one.controller_lock) for one in sweeps(folder))

    kills.until(over, "the jobs to end")
    for process in execs:
        process.communicate()
    said = [line.split() for line in (folder / "said").read_text().splitlines()]
    assert not watcher.faults, watcher.faults
    assert not [gpu for gpu, kind in said if kind == "taken"], "two held a device"
    assert {gpu for gpu, _ in said} == set(GPUS), "a device was never used"
    _all_free(folder, env)
    return Contest(time.monotonic() - began, Counter(kind for _, kind in said), killed, watcher.looks)


def _start_all(
    folder: Path, longest: float, jobs: int, env: Mapping[str, str]
) -> tuple[list[subprocess.Popen[bytes]], list[subprocess.Popen[bytes]]]:
    """Those that hand over to the background, and those that stay. longest: seconds that a job takes at most."""
    for name in SWEEPS:
        (folder / f"{name}.yaml").write_text(SPACE.format(name=name, width=2 if name == "pairs" else 1))
    body = ("--", "python", "body.py")
    handed = [("run", "-d", f"{name}.yaml") for name in SWEEPS]
    handed += [("submit", "--set", "mlflow=false", *body, "job", str(longest))] * jobs
    stays = [("exec", *body, "exec", str(longest))] * 4 + [
        ("exec", "--devices", "2", *body, "both", str(longest))
    ] * 2
    begun, execs = ([kills.run(folder, *one, env=env) for one in words] for words in (handed, stays))
    return begun, execs


def _all_free(folder: Path, env: Mapping[str, str]) -> None:
    told = json.loads(kills.ended(kills.run(folder, "devices", "--json", env=env), 0))["devices"]
    found = [(one["uuid"], one["health"], [slot["holder"] for slot in one["slots"]]) for one in told]
    assert found == [(gpu, "ok", [None]) for gpu in GPUS], found
    kills.ended(kills.run(folder, "exec", "--devices", "4", "--", "true", env=env), 0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks contest")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        env = {**os.environ, **pool.fake_driver(Path(name), MACHINE)}
        print(contest(Path(name), given.seconds, given.jobs, given.seed, env))


if __name__ == "__main__":
    main()
