"""The bound: the same processes, started by bare posix_spawn on the same number of slots, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def spawn_all(argvs: list[list[str]], slots: int, cwd: Path) -> float:
    """Seconds from the first start to the last end."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("SWEEP_")}
    before = Path.cwd()
    os.chdir(cwd)
    try:
        waiting = list(reversed(argvs))
        running = 0
        started = time.perf_counter()
        while waiting or running:
            while waiting and running < slots:
                argv = waiting.pop()
                os.posix_spawn(argv[0], argv, env)
                running += 1
            os.wait()
            running -= 1
        return time.perf_counter() - started
    finally:
        os.chdir(before)


def python(script: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(script), *map(str, arguments)]
