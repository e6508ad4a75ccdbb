"""A sweep that is watched from Python: a picture that changes in the cell, a table on a terminal, or lines."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from rich.console import Console

from sweep.api.reading import Reader
from sweep.cli.control import order
from sweep.cli.live import LiveTable, can_draw, render
from sweep.cli.plain import PlainLines
from sweep.cli.snapshot import Camera, Observer
from sweep.core.events import DrainAsked, Event, StopAsked
from sweep.core.model import Sweep
from sweep.errors import SweepError
from sweep.ports import View
from sweep.rundir import SweepDir
from sweep.tracking.lag import CATCH_UP, lag_of

POLL = 0.2  # seconds
WIDTH, HEIGHT = 100, 34  # cells and lines of the picture in a notebook
_PAGE = '<pre style="line-height:1.25;font-family:monospace;white-space:pre;overflow-x:auto">{code}</pre>'


def in_kernel() -> bool:
    """Whether this runs in a notebook, where output can be drawn anew."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def watch(reader: Reader) -> None:
    """Until the sweep has ended or its controller is gone.

    As at `sweep run`: an interrupt starts no new trials, a second one stops the running ones, a third one at once.
    """
    served = 0
    view, drawing = _view(reader)
    with drawing, _interrupts() as pressed:
        while not follow(reader, view, 0.0):
            if len(pressed) > served:
                served += 1
                drain = DrainAsked(0.0, "interrupted: running trials finish, no new ones start")
                stop = StopAsked(0.0, None, served > 2, "interrupted twice: stopped")
                with suppress(SweepError):  # it has just ended
                    order(reader.directory, drain if served == 1 else stop)
            time.sleep(POLL)
    if not reader.sweep.state.ended:
        log, name = reader.directory.controller_log, reader.directory.id
        print(
            f"{name} has no controller any more: see {log}; `sweep resume {name}` goes on with it", file=sys.stderr
        )
    with suppress(KeyboardInterrupt):
        catch_up(reader.directory)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that grows by one with each; as exceptions they would cut short the reading of a record.

    Only the main thread gets any.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def follow(reader: Reader, view: View | None, until: float | None) -> bool:
    """Until the sweep has ended, its controller is gone, or a time on the monotonic clock (then False)."""
    while True:
        driven = reader.driven  # first: what a controller writes last is then seen
        for event in reader.news():
            if view is not None:
                view.saw(event, reader.sweep)
        if view is not None:
            view.picture(reader.sweep, time.time(), ())
        if reader.sweep.state.ended or not driven:
            return True
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(POLL)


def catch_up(directory: SweepDir, until: float | None = None) -> None:
    """Gives MLflow's follower time to send the rest, unless it is in trouble."""
    until = min(until or float("inf"), time.monotonic() + CATCH_UP)
    while time.monotonic() < until:
        lag = lag_of(directory)
        if lag is None or not lag.followed or lag.outage:
            return
        time.sleep(POLL)


def _view(reader: Reader) -> tuple[View, AbstractContextManager[Any]]:
    console = Console()
    if in_kernel():
        return CellPicture(reader.directory), nullcontext()
    if can_draw(console):
        table = LiveTable(console, reader.directory.path.parent.parent)
        return table, table
    return PlainLines(sys.stdout), nullcontext()


class CellPicture:
    """A `ports.View` that draws the table of `sweep run` into the cell, in place of the picture before."""

    def __init__(self, directory: SweepDir) -> None:
        self._observer = Observer(directory)
        self._camera: Camera | None = None
        self._shown: Any = None
        self._last = ""

    def saw(self, event: Event, sweep: Sweep) -> None:
        """Nothing: the next picture has it."""

    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None:
        from IPython.display import display

        self._camera = self._camera or Camera(sweep)
        picture = self._observer.observe(self._camera.snapshot(now, notices))
        data = _drawn(render(picture, WIDTH, HEIGHT, interrupt="interrupt"))
        if data["text/html"] == self._last:
            return
        self._last = data["text/html"]
        if self._shown is None:
            self._shown = display(data, raw=True, display_id=True)
        else:
            self._shown.update(data, raw=True)


def _drawn(picture: Any) -> dict[str, str]:
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_jupyter=False)
    console.print(picture)
    html = console.export_html(inline_styles=True, code_format=_PAGE, clear=False)
    return {"text/html": html, "text/plain": console.export_text()}
