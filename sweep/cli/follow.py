"""Commands that watch: the table of a sweep that somebody else drives, and logs as they grow."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from sweep import rundir
from sweep.cli.live import LiveTable, can_draw
from sweep.cli.plain import PlainLines
from sweep.cli.state import Followed
from sweep.cli.summary import print_summary
from sweep.errors import NotFoundError
from sweep.launch.bounded import gap, read_on
from sweep.ports import View
from sweep.rundir import SweepDir

POLL = 0.1
CHUNK = 1 << 16


def attach(wanted: str | None, *, plain: bool) -> None:
    """The live table until the sweep ends or its controller is gone; Ctrl-C only leaves."""
    directory = rundir.find(Path.cwd(), wanted)
    console = Console()
    table = None if plain or not can_draw(console) else LiveTable(console, Path.cwd(), attached=True)
    view: View = table or PlainLines(sys.stdout)
    followed = Followed(directory)
    sweep = followed.sweep
    try:
        with table or nullcontext():
            while not sweep.state.ended and rundir.locked(directory.controller_lock):
                view.picture(sweep, time.time(), ())
                time.sleep(POLL)
                for event in followed.news():
                    view.saw(event, sweep)
    except KeyboardInterrupt:
        print(f"{sweep.id} goes on; `sweep attach {sweep.id}` comes back to it")
        return
    if sweep.state.ended:
        print_summary(console, sweep, directory)
    else:
        print(f"{sweep.id} has no controller; `sweep resume {sweep.id}` goes on with it")


def logs(wanted: str | None, trial: int | None, *, attempt: int | None, follow: bool, lines: int | None) -> None:
    """The output of a trial, or of the controller; `follow` until that has ended."""
    directory = rundir.find(Path.cwd(), wanted)
    if trial is None:
        _show(directory.controller_log, lines, follow, lambda: rundir.locked(directory.controller_lock))
        return
    number = attempt or _newest(directory, trial)
    paths = directory.attempt(trial, number)
    if not paths.path.is_dir():
        raise NotFoundError(f"trial {trial} of {directory.id} has no attempt {number}")
    followed = Followed(directory)
    _show(paths.output, lines, follow, lambda: not paths.exit.exists() and _runs(followed, trial, number))


def _newest(directory: SweepDir, trial: int) -> int:
    folder = directory.trials / str(trial)
    attempts = [int(path.name) for path in folder.glob("[0-9]*")] if folder.is_dir() else []
    if not attempts:
        raise NotFoundError(
            f"trial {trial} of {directory.id} has not run", hint=f"`sweep status {directory.id}` lists its trials"
        )
    return max(attempts)


def _runs(followed: Followed, trial: int, attempt: int) -> bool:
    for _ in followed.news():
        pass
    live = followed.sweep.trials[trial].attempt if trial in followed.sweep.trials else None
    return live is not None and live.number == attempt


def _show(path: Path, lines: int | None, follow: bool, grows: Callable[[], bool]) -> None:
    out = sys.stdout.buffer
    log = _Log(path)
    try:
        if lines is not None:
            out.writelines(_last_lines(log.news(), lines))
        while True:
            last = not (follow and grows())
            out.writelines(log.news())
            out.flush()
            if last:
                return
            time.sleep(POLL)
    except FileNotFoundError:
        raise NotFoundError(f"there is no {path}") from None
    except KeyboardInterrupt:
        os._exit(130)


class _Log:
    """Reads a file that grows, and may lose its middle or be begun anew; what is left out is a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._offset = 0

    def news(self) -> Iterator[bytes]:
        """Raises FileNotFoundError where it never was there."""
        if self._file is None:
            self._file = self._path.open("rb", buffering=0)
        handle = self._file.fileno()
        if os.fstat(handle).st_size < self._offset:
            self._offset = 0
        while True:
            left_out, data = read_on(handle, self._offset, CHUNK)
            if not data:
                return
            if left_out:
                yield gap(left_out)
            yield data
            self._offset += left_out + len(data)


def _last_lines(chunks: Iterable[bytes], count: int) -> list[bytes]:
    lines: deque[bytes] = deque(maxlen=count)
    unfinished = bytearray()
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            lines.append(bytes(unfinished) + part + b"\n")
            unfinished.clear()
        unfinished += rest
    if unfinished:
        lines.append(bytes(unfinished))
    return list(lines)
