"""Commands that watch: the table of a sweep that somebody else drives, and logs as they grow."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console

from sweep import rundir
from sweep.cli.control import say
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


def attach(wanted: str | None, *, plain: bool, as_json: bool) -> None:
    """The live table until the sweep ends or its controller is gone; Ctrl-C only leaves."""
    directory = rundir.find(Path.cwd(), wanted)
    console = Console(stderr=as_json)
    table = None if plain or as_json or not can_draw(console) else LiveTable(console, Path.cwd(), attached=True)
    view: View = table or PlainLines(sys.stderr if as_json else sys.stdout)
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
        say(directory, as_json, f"goes on; `sweep attach {sweep.id}` comes back to it")
        return
    if as_json:
        say(directory, as_json, "")
    elif sweep.state.ended:
        print_summary(console, sweep, directory)
    else:
        print(f"{sweep.id} has no controller; `sweep resume {sweep.id}` goes on with it")


def logs(
    wanted: str | None, trial: int | None, *, attempt: int | None, follow: bool, lines: int | None, as_json: bool
) -> None:
    """The output of a trial, or of the controller; `follow` until that has ended."""
    directory = rundir.find(Path.cwd(), wanted)
    about = {"id": directory.id, "trial": trial, "attempt": None} if as_json else None
    if trial is None:
        path = directory.controller_log
        _show(path, lines, follow, lambda: rundir.locked(directory.controller_lock), about)
        return
    number = attempt or _newest(directory, trial)
    paths = directory.attempt(trial, number)
    if not paths.path.is_dir():
        raise NotFoundError(f"trial {trial} of {directory.id} has no attempt {number}")
    followed = Followed(directory)
    about = {**about, "attempt": number} if about else None
    _show(paths.output, lines, follow, lambda: not paths.exit.exists() and _runs(followed, trial, number), about)


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


def _show(
    path: Path, lines: int | None, follow: bool, grows: Callable[[], bool], about: dict[str, Any] | None
) -> None:
    """about: for a program, what its document says beside the lines; it comes when all of them are there."""
    out = sys.stdout.buffer
    chunks = _chunks(path, lines, follow, grows)
    try:
        if about is not None:
            text = b"".join(chunks).decode(errors="replace")
            found = text.removesuffix("\n").split("\n") if text else []
            print(json.dumps({**about, "path": str(path), "lines": found}))
            return
        for chunk in chunks:
            out.write(chunk)
            out.flush()
    except FileNotFoundError:
        raise NotFoundError(f"there is no {path}") from None
    except KeyboardInterrupt:
        os._exit(130)


def _chunks(path: Path, lines: int | None, follow: bool, grows: Callable[[], bool]) -> Iterator[bytes]:
    log = _Log(path)
    if lines is not None:
        yield from _last_lines(log.news(), lines)
    while True:
        last = not (follow and grows())
        yield from log.news()
        if last:
            return
        time.sleep(POLL)


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
