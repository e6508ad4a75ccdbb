"""What it costs to look at a sweep from Python, beside `json.loads` over the lines of the same journal.

    python -m benchmarks.load [--times 5]

Two sweeps of the simulation in `core`: 10,000 trials with 3 reports each, and 1,000 with 100; with the snapshots
that a controller keeps. Medians of CPU time:
others on the machine count for less so. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sweep
from benchmarks import core
from sweep.journal import Writer

SWEEPS = ((10_000, 3), (1_000, 100))


def main(times: int = 5) -> None:
    sweep.Space(x=[1, 2]).sample(1)  # pandas and the like are imported
    for trials, reports in SWEEPS:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder, "sweeps", "benchmark-1"), trials, reports, times)


def _measure(folder: Path, trials: int, reports: int, times: int) -> None:
    folder.mkdir(parents=True)
    writer = Writer(folder / "journal.jsonl")
    core.Simulation(trials, 8, writer, reports=reports, snapshots=True).run()
    writer.commit()
    writer.close()
    lines = (folder / "journal.jsonl").read_bytes().splitlines()
    bound = _seconds(lambda: [json.loads(line) for line in lines], times)
    loaded = sweep.load(folder)
    print(f"{trials:,} trials with {reports} reports, {len(lines):,} records; json.loads of each: {bound:.2f} s")
    for name, action in (
        ("sweep.load", lambda: sweep.load(folder)),
        (".dataframe()", loaded.dataframe),
        (".curves()", loaded.curves),
        ("all three", lambda: (again := sweep.load(folder), again.dataframe(), again.curves())),
    ):
        took = _seconds(action, times)
        print(f"  {name:14}{took:6.2f} s   {took / bound:5.2f} of the bound")


def _seconds(action: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        begun = time.process_time()
        kept = action()
        found.append(time.process_time() - begun)
        del kept
    return statistics.median(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--times", type=int, default=5)
    main(parser.parse_args().times)
