"""How soon a sweep of many finished trials goes on: from `sweep resume` to the start of its first new trial.

python -m benchmarks resume [--trials 10000] [--keep FOLDER]

The folder is made by the project's own journal and Optuna's own study, with 5 reports a trial. MLflow is off: its
follower is a process of its own, for which nothing here waits. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage

from benchmarks.sweeps import ROOT
from sweep import rundir
from sweep.config.load import load
from sweep.config.rules import rules
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.journal import Keeper, Writer, records
from sweep.rundir import SweepDir
from sweep.search.space import suggest
from sweep.search.storage import OwnJournal

RUNS = 3
REPORTS = 5
SPACE = f"""
name: many
command: python {ROOT}/bodies/nothing.py {{x}}
metric: score
direction: maximize
space:
  x: {{type: float, low: 0, high: 1}}
  lr: {{type: float, low: 1e-4, high: 1e-1, log: true}}
  width: {{type: int, low: 16, high: 128, step: 16}}
  optimizer: [sgd, adam]
trials: {{trials}}
devices: cpu:1
mlflow: false
pruner: median
"""


def make(project: Path, trials: int) -> SweepDir:
    """A sweep whose controller died when so many trials had ended and a few were still to come."""
    file = project / "space.yaml"
    file.write_text(SPACE.replace("{trials}", str(trials + RUNS)))
    config, _ = load(file, {})
    directory = rundir.create(project, config.name)
    directory.space.write_bytes(file.read_bytes())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = OwnJournal(directory.study)
    study = optuna.create_study(
        study_name=directory.id,
        storage=JournalStorage(backend),
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(0),
    )
    at = time.time()
    opened = e.SweepOpened(at, directory.id, rules(config), config.model_dump(mode="json"))
    sweep = open_sweep(opened)
    writer = Writer(directory.journal)
    writer.append(opened)
    keeper = Keeper(writer, sweep)

    def feed(event: e.Event) -> None:
        for order in step(sweep, event):
            if isinstance(order, do.Judge):
                study._storage.set_trial_intermediate_value(order.trial, order.step, order.value)
            elif isinstance(order, do.Tell):
                study.tell(order.trial, order.values)
        keeper.append(event)

    feed(e.ControllerStarted(at, 1, 1, "boot"))
    for number in range(trials):
        trial = study.ask()
        params = suggest(trial, config)
        feed(e.TrialSampled(at, number, params))
        feed(e.SlotOffered(at, "cpu-0", "cpu"))
        feed(e.AttemptStarted(at, number, 1, 1000 + number, 7, "boot"))
        for report in range(REPORTS):
            feed(e.Reported(at, number, 1, report, {"score": params["x"] + report, "loss": 0.25}))
        feed(e.AttemptEnded(at, number, 1, code=0))
        keeper.commit(behind=True)
    writer.close()
    backend.close()
    return directory


def resume(directory: SweepDir) -> tuple[float, float]:
    """Seconds, and seconds of CPU, from the command to the start of the first new trial; then a kill -9."""
    project, known = directory.path.parent.parent, directory.journal.stat().st_size
    called = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", "resume", "--json"],
        cwd=project,
        env={**os.environ, "SWEEP_LOCK_DIR": str(project / "locks")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    started = None
    while started is None:
        if process.poll() is not None:
            raise SystemExit(process.communicate()[1].decode())
        time.sleep(0.01)
        with directory.journal.open("rb") as file:
            file.seek(known)
            whole = file.read().split(b"\n")[:-1]
        started = next((one["at"] for one in map(json.loads, whole) if one["event"] == "AttemptStarted"), None)
    process.kill()
    usage = os.wait4(process.pid, 0)[2]
    return float(started) - called, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks resume")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="make the sweep in this folder, and leave it there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = given.keep or Path(name)
        project.mkdir(exist_ok=True)
        directory = make(project, given.trials)
        count = sum(1 for _ in records(directory.journal))
        journal, study = (path.stat().st_size / given.trials for path in (directory.journal, directory.study))
        print(f"{given.trials:,} trials; of each {count / given.trials:.0f} records")
        print(f"  bytes a trial: {journal:.0f} of journal, {study:.0f} of Optuna's study")
        walls, cpus = zip(*(resume(directory) for _ in range(RUNS)), strict=True)
        for what, times in (("s", walls), ("s of CPU", cpus)):
            took = f"{statistics.median(times):.2f} {what}   ({min(times):.2f} to {max(times):.2f})"
            print(f"  sweep resume to the first new trial: {took}")


if __name__ == "__main__":
    main()
