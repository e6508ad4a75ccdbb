"""What one `report()` costs the trial, beside a bare append of the same line.

python -m benchmarks.report
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNT = 20_000
BODY = """
import sys, time, sweep
trial = sweep.current_trial()
started = time.perf_counter()
for step in range(int(sys.argv[1])):
    trial.report(step, val_acc=0.97, loss=0.1)
print((time.perf_counter() - started) / int(sys.argv[1]) * 1e6)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "trials", "0", "1")
        folder.mkdir(parents=True)
        env = {**os.environ, "SWEEP_ID": "bench-1", "SWEEP_TRIAL": "0", "SWEEP_ATTEMPT": "1"}
        env["SWEEP_ATTEMPT_DIR"] = str(folder)
        costs = []
        for _ in range(5):
            command = [sys.executable, "-c", BODY, str(COUNT)]
            done = subprocess.run(command, env=env, capture_output=True, check=True)
            costs.append(float(done.stdout))
        line = (folder / "reports.jsonl").read_bytes().splitlines(keepends=True)[0]
        bare = _bare(folder / "bare", line)
    cost = statistics.median(costs)
    print(f"report(): {cost:.1f} us; a bare append of its line: {bare:.1f} us; ratio {cost / bare:.1f}")


def _bare(path: Path, line: bytes) -> float:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    started = time.perf_counter()
    for _ in range(COUNT):
        os.write(handle, line)
    return (time.perf_counter() - started) / COUNT * 1e6


if __name__ == "__main__":
    main()
