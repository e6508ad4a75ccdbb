"""What a hung attempt was doing, kept before it is ended: a folder `stall/` beside its output.

py-spy reads the stacks of a process from outside, so it needs no help from one that hangs; but it may not look
where ptrace is restricted. Then nothing is lost yet: the supervisor ends the attempt by SIGABRT instead of
SIGTERM, at which Python's own faulthandler writes all stacks into the output.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

from sweep.launch.process import descendants, facts
from sweep.rundir import AttemptDir

STACKS = "stacks.txt"
_PATIENCE = 10.0  # seconds for one process
_ALL = 20.0  # seconds after which no further process is looked at
_MOST = 32  # processes whose stacks are read
_TAIL = 64 << 10
_LIBRARY = re.compile(r"/lib/python\d|/(?:site|dist)-packages/|\(<frozen ")
_FOLDER = re.compile(r"\([^()]*/")


def gather(paths: AttemptDir, supervisor: int) -> tuple[Path, str]:
    """Writes what can be known into a folder; returns it, and where the attempt hangs, if that is known.

    Raises OSError where it cannot be written.
    """
    folder = paths.stall
    shutil.rmtree(folder, ignore_errors=True)  # it had hung before, and woke up
    folder.mkdir(mode=0o700)
    tree = descendants(supervisor)
    (folder / "processes.txt").write_text("".join(f"{facts(pid)}\n" for pid in tree))
    stacks = _all_stacks(tree)
    if stacks:
        (folder / STACKS).write_text("\n".join(stacks))
    for path, name in ((paths.output, "output.txt"), (paths.usage, "usage.jsonl")):
        (folder / name).write_bytes(_tail(path))
    return folder, _where(stacks)


def _all_stacks(tree: list[int]) -> list[str]:
    until = time.monotonic() + _ALL
    return [text for pid in tree[:_MOST] if time.monotonic() < until and (text := _stacks(pid))]


def _where(stacks: list[str]) -> str:
    """The innermost frame of the command's main thread, and who called it where that is a library's.

    Such as `Condition.wait (threading.py:327), called by forward (train.py:9)`.
    """
    lines = stacks[0].splitlines() if stacks else []
    pid = lines[0].removeprefix("Process ").partition(":")[0] if lines else ""
    main = next((index for index, line in enumerate(lines) if line.startswith(f"Thread {pid} ")), len(lines))
    frames = [line.strip() for line in takewhile(str.strip, lines[main + 1 :])]
    caller = next((frame for frame in frames if not _LIBRARY.search(frame)), "")
    parts = [*frames[:1], *([f"called by {caller}"] if caller and caller != frames[0] else [])]
    return ", ".join(_FOLDER.sub("(", part) for part in parts)


def known(paths: AttemptDir) -> bool:
    """Whether the stacks of the attempt could be read."""
    return (paths.stall / STACKS).exists()


def _stacks(pid: int) -> str:
    """What py-spy says of a Python process; empty for another one, and where it may not look.

    nonblocking: the process is not stopped for it. One that is stopped already, or waits in the kernel, cannot be.
    """
    tool = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if tool is None:
        return ""
    try:
        done = subprocess.run(
            [tool, "dump", "--nonblocking", "--full-filenames", "--pid", str(pid)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _tail(path: Path) -> bytes:
    """The last lines of a file; of the one that is cut, what there is, if it is the only one (a progress bar)."""
    try:
        with path.open("rb") as file:
            if (start := os.fstat(file.fileno()).st_size - _TAIL) <= 0:
                return file.read()
            file.seek(start - 1)
            data = file.read()
            return data.partition(b"\n")[2] or data
    except OSError:
        return b""
