"""What a scrape of `sweep metrics` costs beside 10 sweeps of 10,000 trials that run.

    python -m benchmarks metrics [--sweeps 10] [--trials 10000]

Timed in CPU seconds: the first look, which reads whole journals; a scrape with nothing new; one with 100 new
events in each journal; those after they all have ended.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.core import Simulation
from sweep.cli.metrics.collector import SweepCollector
from sweep.journal import Writer
from sweep.rundir import SweepDir

SLOTS = 8
NEWS = 100
CUT = 2_000  # lines that come later


def main(sweeps: int = 10, trials: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = _journal(folder / "one.jsonl", trials)
        places = [SweepDir(folder / "sweeps" / f"benchmark-{number}") for number in range(sweeps)]
        for place in places:
            place.path.mkdir(parents=True)
            place.space.touch()
            place.journal.write_bytes(b"".join(lines[:-CUT]))
            runs = {str(number): f"{number:032x}" for number in range(trials)}
            place.mlflow.write_text(json.dumps({"cursor": 0, "runs": runs}))
        before = psutil.Process().memory_info().rss
        registry = CollectorRegistry()
        collector = SweepCollector(folder, {"SWEEP_LOCK_DIR": str(folder / "locks")})
        registry.register(collector)
        print(f"{sweeps} sweeps of {trials:,} trials, {len(lines):,} events each")
        _time("first look", registry)
        held = psutil.Process().memory_info().rss - before
        _time("nothing new", registry)
        _append(places, lines[-CUT : -CUT + NEWS])
        _time(f"{NEWS} new events each", registry)
        _append(places, lines[-CUT + NEWS :])
        _time("the end of each", registry)
        _time("ended", registry)
        _time("ended", registry)
        print(f"  memory for them while they run: {held / 1e6:.0f} MB")
        collector.close()
        shutil.rmtree(folder / "sweeps")


def _journal(path: Path, trials: int) -> list[bytes]:
    writer = Writer(path)
    Simulation(trials, SLOTS, writer).run()
    writer.commit()
    writer.close()
    return path.read_bytes().splitlines(keepends=True)


def _append(places: list[SweepDir], lines: list[bytes]) -> None:
    for place in places:
        with place.journal.open("ab") as file:
            file.writelines(lines)


def _time(what: str, registry: CollectorRegistry) -> None:
    begun = time.process_time()
    size = len(generate_latest(registry))
    print(f"  {what:22} {(time.process_time() - begun) * 1e3:8.1f} ms, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--trials", type=int, default=10_000)
    given = parser.parse_args()
    main(given.sweeps, given.trials)
