"""kill -9 of the controller after every record of a sweep's journal, then `sweep resume`: what came of it?

    python -m benchmarks kills [--sample N] [--seed S] [--who controller|nursery|both]
    python -m benchmarks kills --many [--trials 2000] [--seed S]

The sweep has 30 trials on one slot, some pruned, some crashing once, with a seed and with MLflow: whoever dies,
its trials, their values, Optuna's study and MLflow's runs are those of a sweep that nobody disturbed. `--many` is
trials of no work on 8 slots, and a kill after every 50 or so of them: all are accounted for.
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
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import mlflow
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.sweeps import ROOT
from sweep import rundir
from sweep.core import events as e
from sweep.journal import records
from sweep.rundir import SweepDir

WHO = ("controller", "nursery", "both")
PATIENCE = 120.0  # seconds that one command may take
VARIED = f"""
name: kills
command: python {ROOT}/bodies/varied.py {{x}}
metric: score
direction: maximize
space:
  x: {{type: float, low: 0.1, high: 1}}
  kind: [a, b]
trials: {{trials}}
devices: cpu:1
seed: 1
pruner: {{name: threshold, lower: 0}}
retry: 1
grace: 0
"""
MANY = f"""
name: kills
command: python {ROOT}/bodies/counted.py {{x}}
metric: score
direction: maximize
space: {{x: {{type: float, low: 0, high: 1}}}}
sampler: random
trials: {{trials}}
devices: cpu:8
mlflow: false
"""


@dataclass(frozen=True)
class Ended:
    """One trial as all who keep a record of it tell it."""

    params: dict[str, Any]
    state: str
    values: list[float] | None
    starts: int  # as the script itself counted them
    checkpoint: int | None  # step
    study: tuple[Any, ...]  # Optuna's: params, state, values, reports
    run: tuple[Any, ...] | None  # MLflow's: params, status, reports


def run(
    folder: Path, *words: str, env: Mapping[str, str] = os.environ, out: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """A `sweep` command in this folder, or (with the path of a script first) one that stands for it."""
    program = [] if words[0].endswith(".py") else ["-m", "sweep.cli"]
    return subprocess.Popen(
        [sys.executable, *program, *words],
        cwd=folder,
        env={**env, "SWEEP_LOCK_DIR": str(folder / "locks")},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes], *codes: int) -> str:
    """What it wrote to stdout; AssertionError where it ended otherwise."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in codes, f"exit code {process.returncode}, not {codes}\n{err.decode()}"
    return out.decode()


def undisturbed(folder: Path, trials: int, env: Mapping[str, str] = os.environ) -> dict[int, Ended]:
    """What becomes of the sweep if nobody dies."""
    return outcome(folder, ended(_begin(folder, VARIED, trials, env), 0))


def disturbed(
    folder: Path, trials: int, record: int, who: str, env: Mapping[str, str] = os.environ
) -> dict[int, Ended]:
    """What becomes of it if `who` is killed right after that record of its journal."""
    dying = (str(ROOT / "bodies" / "dying.py"), str(record), who)
    process = _begin(folder, VARIED, trials, env, *dying)
    if who == "nursery":
        return outcome(folder, ended(process, 0))
    ended(process, -signal.SIGKILL)
    assert len(list(records(directory(folder).journal))) == record + 1
    return outcome(folder, ended(run(folder, "resume", "--json", env=env), 0))


def _begin(
    folder: Path,
    space: str,
    trials: int,
    env: Mapping[str, str],
    *instead: str,
    out: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.yaml").write_text(space.replace("{trials}", str(trials)))
    return run(folder, *instead, "run", "space.yaml", "--json", env=env, out=out)


def directory(folder: Path) -> SweepDir:
    return SweepDir(folder / "sweeps" / "kills-1")


def outcome(folder: Path, said: str) -> dict[int, Ended]:
    """Every trial as all tell it; AssertionError for what must never be, however a sweep came to its end."""
    document = json.loads(said)
    is_whole(folder, document)
    study = load_study(document)
    starts = Counter((folder / "starts").read_text().split())
    runs = _runs(document) if document["mlflow"] else {}
    return {
        trial["number"]: Ended(
            params=trial["params"],
            state=trial["state"],
            values=trial["values"],
            starts=starts[str(trial["number"])],
            checkpoint=int(Path(trial["checkpoint"]).name) if trial["checkpoint"] else None,
            study=(theirs.params, theirs.state.name, theirs.values, theirs.intermediate_values),
            run=runs.get(trial["number"]),
        )
        for trial, theirs in zip(document["trials"], study.trials, strict=True)
    }


def is_whole(folder: Path, document: dict[str, Any]) -> None:
    """Nothing lost, nothing twice, nothing left: of any sweep that came to its end."""
    events = [record.event for record in records(SweepDir(Path(document["directory"])).journal)]
    reports = Counter((one.trial, one.attempt, one.step) for one in events if isinstance(one, e.Reported))
    assert not [key for key, count in reports.items() if count > 1], "a report was read twice"
    begun = Counter((one.trial, one.attempt) for one in events if isinstance(one, e.AttemptStarted))
    over = Counter((one.trial, one.attempt) for one in events if isinstance(one, e.AttemptEnded))
    assert begun == over and set(begun.values()) <= {1}, "an attempt began or ended twice, or never"
    counts = document["counts"]
    assert document["state"] == "FINISHED" and not counts["RUNNING"] + counts["WAITING"], counts
    assert [trial["number"] for trial in document["trials"]] == list(range(sum(counts.values())))
    told = tellings(document)
    assert set(told) == set(range(sum(counts.values()))) and set(told.values()) == {1}, "not told once"
    held = [path.name for path in (folder / "locks").iterdir() if path.is_file() and rundir.locked(path)]
    assert not held, f"leases are held at the end: {held}"
    until(lambda: not _processes(folder), "the last process to end")


def load_study(document: dict[str, Any]) -> optuna.Study:
    """As anybody's Optuna reads it."""
    return optuna.load_study(
        study_name=document["id"], storage=JournalStorage(JournalFileBackend(document["storage"]))
    )


def tellings(document: dict[str, Any]) -> Counter[int]:
    """How often Optuna was told the end of each trial, from its storage's log (operation 6, final states)."""
    final = {state.value for state in optuna.trial.TrialState if state.is_finished()}
    told: Counter[int] = Counter()
    for line in Path(document["storage"]).read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 6 and entry["state"] in final:
            told[entry["trial_id"]] += 1
    return told


def _runs(document: dict[str, Any]) -> dict[int, tuple[Any, ...]]:
    """The runs in MLflow's store, by trial; the sweep's own must have ended as well."""
    client = mlflow.MlflowClient(document["mlflow"]["tracking_uri"])
    experiment = client.get_experiment_by_name(document["mlflow"]["experiment"])
    found: dict[int, tuple[Any, ...]] = {}
    for one in client.search_runs([experiment.experiment_id], max_results=1000):
        assert one.info.end_time is not None, "a run never ended"
        number = one.data.tags.get("sweep.trial")
        if number is None:
            assert (one.info.run_id, one.info.status) == (document["mlflow"]["run_id"], "FINISHED")
            continue
        assert int(number) not in found, f"trial {number} has two runs"
        points = sorted((at.step, at.value) for at in client.get_metric_history(one.info.run_id, "score"))
        found[int(number)] = (one.data.params, one.info.status, points)
    return found


def _processes(folder: Path) -> list[int]:
    """All that a sweep of this folder has left running, by their environment."""
    mark, found = b"SWEEP_LOCK_DIR=" + os.fsencode(folder / "locks"), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            pass
    return found


def until(seen: Callable[[], bool], what: str) -> None:
    """Polls until it is true."""
    latest = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < latest, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)


def _is_due(process: subprocess.Popen[bytes], journal: Tail, wanted: int) -> bool:
    return process.poll() is not None or journal.ends() >= wanted


class Tail:
    """How many attempts have ended, by a journal that may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = self._count = 0

    def ends(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                whole = file.read().rpartition(b"\n")[0]
            self._position += len(whole)
            self._count += whole.count(b'"event":"AttemptEnded"')
        return self._count


@dataclass(frozen=True)
class Many:
    trials: int
    kills: int
    seconds: float
    lost: int  # launches that died with a nursery, and were made again


def _killed(
    folder: Path, trials: int, every: int, chance: random.Random, env: Mapping[str, str], said: IO[bytes]
) -> int:
    """How often it was killed until it ended."""
    kills, journal = 0, Tail(directory(folder).journal)
    process = _begin(folder, MANY, trials, env, out=said)
    while True:
        wanted = journal.ends() + chance.randint(1, 2 * every)
        until(partial(_is_due, process, journal, wanted), "trials to end")
        process.kill()
        _, words = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, words.decode()
            return kills
        kills += 1
        said.seek(0)
        said.truncate()
        process = run(folder, "resume", "--json", env=env, out=said)


def many(folder: Path, trials: int, every: int, seed: int, env: Mapping[str, str] = os.environ) -> Many:
    """Trials of no work on 8 slots, and a kill -9 of the controller whenever about so many more have ended."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "said.json").open("w+b") as said:  # a document of 2,000 trials is more than a pipe takes
        kills = _killed(folder, trials, every, random.Random(seed), env, said)
        said.seek(0)
        document = json.loads(said.read())
    is_whole(folder, document)
    assert document["counts"]["COMPLETE"] == trials
    for ours, theirs in zip(document["trials"], load_study(document).trials, strict=True):
        assert ours["values"] == theirs.values == [ours["params"]["x"]] and theirs.params == ours["params"]
        assert theirs.intermediate_values == {0: ours["params"]["x"]}
    assert Counter((folder / "starts").read_text().split()) == {str(n): 1 for n in range(trials)}
    events = (record.event for record in records(directory(folder).journal))
    lost = sum(isinstance(event, e.LaunchFailed) for event in events)
    return Many(trials, kills, time.monotonic() - begun, lost)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kills")
    parser.add_argument("--sample", type=int, help="this many moments, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", choices=WHO, default="controller")
    parser.add_argument("--many", action="store_true")
    parser.add_argument("--trials", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.many:
            print(many(Path(name), given.trials or 2000, 50, given.seed))
        else:
            _every_record(Path(name), given.trials or 30, given.sample, given.seed, given.who)


def _every_record(place: Path, trials: int, sample: int | None, seed: int, who: str) -> None:
    begun = time.monotonic()
    wanted = undisturbed(place / "undisturbed", trials)
    count = len(list(records(directory(place / "undisturbed").journal)))
    moments = list(range(count))
    if sample is not None:
        moments = sorted(random.Random(seed).sample(moments, sample))
    wrong = 0
    for record in moments:
        try:
            found = disturbed(place / str(record), trials, record, who)
            differ = [number for number in wanted if found.get(number) != wanted[number]]
            said = f"trials {differ} differ: {found[differ[0]]}, not {wanted[differ[0]]}" if differ else ""
        except AssertionError as error:
            said = str(error)
        if said:
            wrong += 1
            print(f"record {record}: {said}", flush=True)
    took = time.monotonic() - begun
    print(f"{who} killed after {len(moments)} of {count} records, in {took:.0f} s:")
    print(f"  {len(moments) - wrong} sweeps as if nobody had died, {wrong} not")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
