"""What the slot pool costs: 64 GPUs of 4 slots each, on a fake driver that answers from a text file.

python -m benchmarks pool
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.sweeps import ROOT

GPUS, SHARES = 64, 4
FAKE = ROOT.parent / "tests/edges/fake_nvml/fake_nvml.c"
ROUNDS = 20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        driver = fake_driver(Path(name), [f"gpu uuid=GPU-{number}" for number in range(GPUS)])
        words = [sys.executable, "-m", "benchmarks.pool", str(Path(name, "locks"))]
        subprocess.run(words, env={**os.environ, **driver}, check=True)


def fake_driver(folder: Path, records: Sequence[str]) -> dict[str, str]:
    """Builds the tests' fake NVML there; the environment in which a new process finds these GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("no C compiler to build the fake NVML with")
    library, state = folder / "libnvidia-ml.so.1", folder / "gpus"
    words = ["-shared", "-fPIC", "-O2", f"-Wl,-soname,{library.name}", "-o", str(library), str(FAKE)]
    subprocess.run([compiler, *words], check=True)
    state.write_text("".join(f"{record}\n" for record in records))
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_STATE": str(state)}


def measure(locks: Path) -> None:
    from sweep.config.model import Devices
    from sweep.slots import pool as module
    from sweep.slots.opening import open_pool
    from sweep.slots.survey import Survey
    from sweep.supply import EACH, PROBE

    pool = open_pool(Devices(kind="gpu"), SHARES, {}, locks)
    pool.measure()
    module.FRESH = 3600.0  # the driver's own time is told apart
    taken, costs = [], []
    for slot in pool.slots:
        began = time.process_time()
        lease = pool.acquire(slot, {"sweep": "bench-1"})
        costs.append((time.process_time() - began) * 1e3)
        assert lease is not None
        taken.append(lease)
    other = open_pool(Devices(kind="gpu"), SHARES, {}, locks)
    in_vain = _each(lambda: [other.acquire(slot, {}) for slot in other.slots])
    module.FRESH = 0.0
    poll = _each(pool.measure)
    survey = Survey({}, locks)
    look = _each(survey.look)
    for lease in taken:
        os.close(lease)
    print(f"{GPUS} GPUs of {SHARES} slots, fake NVML; CPU time, and percent of a core")
    print(f"  placement: median {statistics.median(costs):.3f} ms a decision, worst {max(costs):.3f} ms")
    pause = max(PROBE, EACH * len(pool.slots))
    share = in_vain / pause / 10
    print(f"  {len(pool.slots)} slots that others hold: {in_vain:.2f} ms; every {pause:.2g} s: {share:.2f} %")
    print(f"  reading all GPUs: {poll:.2f} ms; every 5 s while trials run: {poll / 50:.2f} %")
    print(f"  sweep devices, one look: {look:.2f} ms")


def _each(body: Callable[[], object]) -> float:
    """Milliseconds of CPU, the median."""
    costs = []
    for _ in range(ROUNDS):
        began = time.process_time()
        body()
        costs.append((time.process_time() - began) * 1e3)
    return statistics.median(costs)


if __name__ == "__main__":
    measure(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
