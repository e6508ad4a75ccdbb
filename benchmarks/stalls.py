"""Trials that hang among trials that are only odd, and a controller that is stopped, killed and resumed meanwhile.

    python -m benchmarks stalls [--trials 200] [--seed S]

No healthy trial may be ended, and every one that hangs must be. Then what watching 64 running trials costs, in
percent of a core: the looks once a second, the measurements every five, and the whole controller.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sweeps import ROOT
from sweep.config.failures import Stall
from sweep.core.stall import GAP
from sweep.guard import Guard
from sweep.journal import replay
from sweep.rundir import SweepDir
from sweep.slots.usage import EVERY, Gauge, Target

SLOTS = 8
HANGING = ("hangs", "hangs at once")
HEALTHY = ("computes", "waits for a child", "prints", "saves", "reports")
WATCHED = 64
SPACE = """
name: stalls
command: python {root}/bodies/odd.py {{kind}} {{seconds}}
metric: score
direction: maximize
space: {{kind: {kinds}, seconds: {{type: int, low: 1, high: 100000}}}}
enqueue: {enqueue}
trials: {trials}
devices: cpu:{slots}
stall: {stall}
fail_fast: false
mlflow: false
"""


@dataclass(frozen=True)
class Disturbed:
    trials: int
    hung: int
    stops: int
    kills: int
    wrong: list[str]  # a healthy one that was ended, a hung one that was not


def disturbed(
    folder: Path, trials: int, seed: int, after: float = 6.0, env: Mapping[str, str] = os.environ
) -> Disturbed:
    """Runs them to the end; again and again the controller is stopped for a while, or killed and resumed.

    after: seconds of silence that are too many; the healthy are odd for up to twice as long.
    """
    chance, away = random.Random(seed), max(GAP, after) + 1
    kinds = [chance.choice(HEALTHY if chance.random() < 0.8 else HANGING) for _ in range(trials)]
    wishes = [{"kind": kind, "seconds": chance.randint(2, round(2 * after))} for kind in kinds]
    controller, stops, kills = _run(folder, wishes, SLOTS, str(after), env), 0, 0
    while True:
        try:
            out, err = controller.communicate(timeout=chance.uniform(1, 3) * after)
            break
        except subprocess.TimeoutExpired:
            pass
        if chance.random() < 0.5:
            controller.send_signal(signal.SIGSTOP)
            time.sleep(away)
            controller.send_signal(signal.SIGCONT)
            stops += 1
        else:
            controller.kill()
            controller.communicate()
            time.sleep(away)
            controller = _sweep(folder, env, "resume", "--json")
            kills += 1
    assert out, err.decode()
    ended = json.loads(out)["trials"]
    wrong = [
        f"trial {trial['number']}, which {trial['params']['kind']}: {trial['outcome']} {trial['why']}"
        for trial in ended
        if (trial["outcome"] == "STALLED") != (trial["params"]["kind"] in HANGING)
    ]
    assert len(ended) == trials
    return Disturbed(trials, sum(kind in HANGING for kind in kinds), stops, kills, wrong)


def _run(
    folder: Path, wishes: list[dict[str, Any]], slots: int, stall: str, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    kinds = json.dumps([*HEALTHY, *HANGING])
    text = SPACE.format(
        root=ROOT, kinds=kinds, enqueue=json.dumps(wishes), trials=len(wishes), slots=slots, stall=stall
    )
    (folder / "space.yaml").write_text(text)
    return _sweep(folder, env, "run", "space.yaml", "--json")


def _sweep(folder: Path, env: Mapping[str, str], *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", *words],
        cwd=folder,
        env={**env, "SWEEP_LOCK_DIR": str(folder / "locks")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def cost(folder: Path, seconds: float = 30.0) -> tuple[float, float, float]:
    """Percent of a core: looks, measurements, the whole controller while its trials do next to nothing."""
    wishes = [{"kind": "reports", "seconds": 100_000}] * WATCHED
    controller = _run(folder, wishes, WATCHED, "10m", os.environ)
    directory = SweepDir(folder / "sweeps" / "stalls-1")
    try:
        until = time.monotonic() + 120
        while _started(directory) < WATCHED:
            assert time.monotonic() < until and controller.poll() is None, "the trials did not start"
            time.sleep(0.5)
        time.sleep(5)
        before = _cpu(controller.pid)
        time.sleep(seconds)
        whole = (_cpu(controller.pid) - before) / seconds
        return (*_parts(directory), 100 * whole)
    finally:
        done = subprocess.run(
            [sys.executable, "-m", "sweep.cli", "stop", "--now"], cwd=folder, capture_output=True, check=False
        )
        if done.returncode:
            controller.kill()
        controller.communicate()


def _started(directory: SweepDir) -> int:
    try:
        return directory.journal.read_bytes().count(b'"event":"AttemptStarted"')
    except OSError:
        return 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _parts(directory: SweepDir) -> tuple[float, float]:
    """The same looks and measurements by a guard and a gauge of our own, one after another."""
    sweep = replay(directory.journal)
    running = [sweep.trials[number] for number in sorted(sweep.live)]
    targets = [
        Target((t.number, 1), directory.path / "measured", t.attempts[0].pid or 0, [t.attempts[0].device])
        for t in running
    ]
    gauge = Gauge(lambda: targets, dict, time.time)
    guard = Guard(directory, Stall(), lambda: gauge.latest)
    begun = time.process_time()
    for _ in range(10):
        gauge.measure(targets)
    measured = (time.process_time() - begun) / 10
    begun = time.process_time()
    for _ in range(100):
        assert not guard.look(sweep, sweep.at)
    looked = (time.process_time() - begun) / 100
    return 100 * looked, 100 * measured / EVERY


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks stalls")
    options.add_argument("--trials", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-stalls-") as name:
        looks, measurements, whole = cost(Path(name))
    print(
        f"{WATCHED} trials watched: looks {looks:.2f} %, measurements {measurements:.2f} % of a core"
        f" (the whole controller, reports of all once a second included: {whole:.1f} %)"
    )
    with tempfile.TemporaryDirectory(prefix="sweep-stalls-") as name:
        begun = time.monotonic()
        result = disturbed(Path(name), chosen.trials, chosen.seed)
    print(
        f"{result.trials} trials, {result.hung} of them hung; controller stopped {result.stops} times, "
        f"killed {result.kills} times: {len(result.wrong)} wrong, in {time.monotonic() - begun:.0f} s"
    )
    for line in result.wrong:
        print(line)
    sys.exit(bool(result.wrong))


if __name__ == "__main__":
    main()
