"""How much a sweep adds to bare processes: many trials of no work, and trials of one second.

python -m benchmarks.dispatch [repeats]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.bound import python, spawn_all
from benchmarks.sweeps import ROOT, run

SLOTS = 4
SPACE = """
name: bench
command: python {body} {{x}}
metric: score
direction: maximize
space:
  x: {{type: float, low: 0, high: 1}}
  lr: {{type: float, low: 1e-4, high: 1e-1, log: true}}
  width: {{type: int, low: 16, high: 128, step: 16}}
trials: {trials}
devices: cpu:4
"""


def nothing(folder: Path) -> dict[str, float]:
    """100 trials of one report and no work, MLflow on, into a store that is there."""
    body = ROOT / "bodies" / "nothing.py"
    spawned = spawn_all([python(body, 0.5)] * 100, SLOTS, folder) / 100
    timed = run(folder, SPACE.format(body=body, trials=100))
    return {
        "bound, ms a trial": spawned * 1e3,
        "sweep, ms a trial": (timed.last_end - timed.first_start) / 100 * 1e3,
        "ratio": (timed.last_end - timed.first_start) / 100 / spawned,
        "ratio with the command's own start": (timed.last_end - timed.called) / 100 / spawned,
        "MLflow caught up after the last exit, s": timed.returned - timed.last_end,
        "first trial after the command, s": timed.first_start - timed.called,
    }


def second(folder: Path) -> dict[str, float]:
    """40 trials of 1.0 s with 5 reports: the share of slot time in which they slept."""
    body = ROOT / "bodies" / "second.py"
    spawned = spawn_all([python(body, 0.5)] * 40, SLOTS, folder)
    timed = run(folder, SPACE.format(body=body, trials=40))
    span = timed.last_end - timed.first_start
    return {
        "bound, utilisation %": 40 / SLOTS / spawned * 100,
        "sweep, utilisation %": 40 / SLOTS / span * 100,
    }


def main(repeats: int) -> None:
    for measure in (nothing, second):
        rows: list[dict[str, float]] = []
        with tempfile.TemporaryDirectory() as name:
            run(Path(name), SPACE.format(body=ROOT / "bodies" / "nothing.py", trials=2))  # makes MLflow's store
            for _ in range(repeats):
                rows.append(measure(Path(name)))
        print(f"\n{measure.__doc__}")
        for key in rows[0]:
            values = [row[key] for row in rows]
            print(f"  {key:42} {statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
