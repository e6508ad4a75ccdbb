"""`sweep`, with a kill -9 at the moment when the journal has its record N, and before anything follows from it.

python dying.py RECORD WHO run space.yaml --json

WHO: `controller` (this process), its `nursery`, or `both`. The command that was asked for is otherwise as it is.
"""

from __future__ import annotations

import os
import signal
import sys

import psutil

from sweep.cli import main


def die_at(record: int, who: str) -> None:
    """Watches this process's writes for the line of that record; what was to be written with it is not."""
    write, mark = os.write, b'"seq":%d,' % record

    def dying(handle: int, data: bytes) -> int:
        found = data.find(mark)
        if found < 0:
            return write(handle, data)
        written = write(handle, data[: data.index(b"\n", found) + 1])
        if who != "controller":
            for child in psutil.Process().children():
                if "sweep.launch.nursery" in child.cmdline():
                    child.kill()
        if who != "nursery":
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    os.write = dying


die_at(int(sys.argv[1]), sys.argv[2])
del sys.argv[1:3]
main()
