"""What a person waits for: `sweep --help`, `import sweep` in a trial; each beside a bare interpreter.

python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 9


def timed(*argv: str) -> float:
    """Milliseconds, the median of RUNS after one warm-up."""
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *argv], stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[1:])


def main() -> None:
    bare = timed("-c", "pass")
    help_ = timed("-m", "sweep.cli", "--help")
    imported = timed("-c", "import sweep")
    print(f"python -c pass {bare:.0f} ms; sweep --help {help_:.0f} ms; import sweep adds {imported - bare:.1f} ms")


if __name__ == "__main__":
    main()
