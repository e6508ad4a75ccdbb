"""The live table: one picture of a sweep, drawn to fit the terminal.

Rules
1.  `render` is pure and never taller or wider than asked: what does not fit is folded into a line that says so.
2.  Meaning is in words first; colour repeats it. Only the terminal's own colours, so light and dark both serve.
3.  Room is given out in this order: head and progress, keys, notices, two lines of the best trial, the slots,
    more of the best trial's parameters, and what ended last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.text import Text

from sweep.cli import words
from sweep.cli.snapshot import Camera, Observer, Snapshot
from sweep.cli.tables import COLOURS, GAP, LABEL, STRONG, best_lines, ended_lines, line, slot_lines, slot_panes
from sweep.core.events import Event, Noted
from sweep.core.model import Sweep, SweepState, TrialState
from sweep.rundir import ROOT, SweepDir

ENDED = 20  # trials that ended last, at most: more is history, not news
BACKLOG = 1000  # events that MLflow may lag before anybody is told

_STATES = {
    SweepState.RUNNING: ("running", "green"),
    SweepState.PAUSED: ("paused", "yellow"),
    SweepState.DRAINING: ("finishing", "yellow"),
    SweepState.STOPPING: ("stopping", "yellow"),
    SweepState.FINISHED: ("finished", "green"),
    SweepState.FAILED: ("failed", "red"),
}


class LiveTable:
    """A `ports.View` that draws the newest picture four times a second, in a thread of its own, while entered.

    On leaving, the table is gone from the terminal. project: the folder that has `sweeps/`. detach: the caller
    reads the key `d`. attached: the sweep is driven by another process, and leaving stops nothing.
    """

    def __init__(self, console: Console, project: Path, *, detach: bool = False, attached: bool = False) -> None:
        self.console = console
        self._project = project
        self._detach, self._attached = detach, attached
        self._camera: Camera | None = None
        self._observer: Observer | None = None
        self._picture: Snapshot | None = None
        self._width = 0
        self._remarks: deque[str] = deque(maxlen=3)
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=4,
            transient=True,
            vertical_overflow="crop",
        )

    def saw(self, event: Event, sweep: Sweep) -> None:
        """The next picture has it, but for a remark that leaves no trace in the state."""
        if isinstance(event, Noted):
            self._remarks.append(event.text if event.trial is None else f"trial {event.trial}: {event.text}")

    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None:
        """In the thread that steps the sweep; drawn when it is next time to draw."""
        if self._camera is None:
            self._camera = Camera(sweep)
        self._picture = self._camera.snapshot(now, (*self._remarks, *notices))

    def _draw(self) -> RenderableType:
        if self._picture is None:
            return Text(" starting", style=LABEL)
        if self._observer is None:
            self._observer = Observer(SweepDir(self._project / ROOT / self._picture.id))
        picture = self._observer.observe(self._picture)
        width, height = self.console.size
        if self._width not in (0, width):  # lines that were wrapped anew cannot be overwritten where they stood
            self.console.control(Control.clear(), Control.home())
        self._width = width
        return render(picture, width, height - 1, detach=self._detach, attached=self._attached)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class LastingConsole(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: the sweep goes on all the same."""
        with suppress(SystemExit):
            super().on_broken_pipe()


def can_draw(console: Console) -> bool:
    """Whether a live table would work here; plain lines serve where it would not."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")


def render(
    picture: Snapshot,
    width: int,
    height: int,
    *,
    detach: bool = False,
    attached: bool = False,
    interrupt: str = "Ctrl-C",
) -> RenderableType:
    """The picture in at most `height` lines of `width` cells. interrupt: what it is called where this is shown."""
    inner = max(10, width - 2)
    airy = height >= 18
    top = [_head(picture, inner), *_progress(picture, inner)]
    keys = _keys(picture.state, interrupt, detach=detach, attached=attached)
    bottom = [*_notices(picture, inner, 3 if airy else 1), *([keys] if keys else [])]
    room = height - len(top) - len(bottom) - (4 if airy else 0)

    best = best_lines(picture, inner, room)
    slots = len(picture.running) + len(picture.idle)
    for_ended = 4 if airy and picture.recent else 0
    panes = slot_panes(slots, inner, room - for_ended - 2)
    for_slots = max(0, min(1 + -(-slots // panes), room - min(2, len(best)) - for_ended))
    for_best = min(len(best), max(2, min(room - for_slots - for_ended, room // 3)))
    for_ended = min(room - for_slots - for_best, ENDED + 1)

    sections = [
        top,
        slot_lines(picture, inner, for_slots, panes),
        best if for_best == len(best) else best_lines(picture, inner, for_best),
        ended_lines(picture, inner, for_ended),
        bottom,
    ]
    lines: list[Text] = []
    for section in filter(None, sections):
        lines += [Text(""), *section] if airy and lines else section
    for text in lines:
        text.pad_left(1)
    return Group(*lines)


# ---- head, progress, notices, keys ---------------------------------------------------------------------------


def _apart(left: Text, right: Text, cells: int) -> Text:
    """Left and right on one line; the left one is cut if need be."""
    left.truncate(max(0, cells - right.cell_len - GAP), overflow="ellipsis")
    left.append(" " * max(GAP, cells - left.cell_len - right.cell_len))
    left.append_text(right)
    left.truncate(cells, overflow="ellipsis")
    left.no_wrap = True
    return left


def _head(picture: Snapshot, cells: int) -> Text:
    word, colour = _STATES[picture.state]
    left = Text.assemble((words.clean(picture.id), STRONG), "  ", (word, colour))
    if picture.why and picture.why not in word:
        left.append(f": {words.clean(picture.why)}", LABEL)
    right = _times(picture)
    if cells < 60 and picture.eta is not None:
        right = right[right.plain.index("elapsed") + 10 :]
    return _apart(left, right, cells)


def _times(picture: Snapshot) -> Text:
    times = Text.assemble((words.duration(picture.elapsed), ""), (" elapsed", LABEL))
    if picture.eta is not None:
        rest = words.roughly(picture.eta)
        times.append("   " + (rest if rest.startswith("under") else f"about {rest}"))
        times.append(" to the timeout" if picture.eta_is_timeout else " left", LABEL)
    elif picture.state is SweepState.RUNNING:
        times.append("   time left not known yet" if picture.wanted else "   until stopped", LABEL)
    return times


def _progress(picture: Snapshot, cells: int) -> list[Text]:
    counts, wanted = picture.counts, picture.wanted
    ended = [(state, counts[state]) for state in COLOURS]
    total = sum(count for _, count in ended)
    waiting = counts[TrialState.WAITING]
    lines = []
    if wanted is not None:
        waiting = max(waiting, wanted - total - counts[TrialState.RUNNING])
        label = f" {total} of {wanted}"
        lines.append(_bar(ended, wanted, cells - len(label)).append(label))
    parts: list[tuple[str, str]] = []
    gap = "   " if cells > 60 else "  "
    named = [("complete", "green"), ("pruned", "yellow"), ("failed", "red")]
    for (name, colour), (_, count) in zip(named, ended, strict=True):
        parts += [(f"{count}", colour if count else LABEL), (f" {name}{gap}", "" if count else LABEL)]
    going_on = picture.state in (SweepState.RUNNING, SweepState.PAUSED)
    parts.append(
        (f"{counts[TrialState.RUNNING]} running{gap}{waiting} {'waiting' if going_on else 'not run'}", "")
    )
    return [*lines, line(*parts, cells=cells)]


def _bar(ended: Iterable[tuple[TrialState, int]], wanted: int, cells: int) -> Text:
    """Heavy where trials have ended, in the colours of how; light where they have not."""
    bar = Text(no_wrap=True)
    done = drawn = 0
    for state, count in ended:
        done += count
        until = min(cells, round(cells * done / max(1, wanted)))
        bar.append("━" * (until - drawn), COLOURS[state])
        drawn = until
    return bar.append("─" * (cells - drawn), LABEL)


def _notices(picture: Snapshot, cells: int, most: int) -> list[Text]:
    said = [*picture.notices]
    lag = picture.mlflow
    events, error = int(lag.get("events") or 0), lag.get("error")
    if error or events >= BACKLOG:
        since = f" for {words.duration(picture.at - lag['since'])}" if lag.get("since") else ""
        behind = f"MLflow is {words.plural(events, 'event')} behind"
        said.append(f"{behind}{since}: {error}" if error else behind)
    return [line(("! ", "yellow"), (words.clean(text), ""), cells=cells) for text in said[-most:]]


def _keys(state: SweepState, interrupt: str, *, detach: bool, attached: bool) -> Text | None:
    if attached:
        offered = [(interrupt, "leave; the sweep goes on")]
    elif state is SweepState.STOPPING or state.ended:
        return None
    elif state is SweepState.DRAINING:
        offered = [(interrupt, "stop the running trials")]
    else:
        offered = [(interrupt, "finish running trials"), ("twice", "stop them")]
    if detach and not attached:
        offered.append(("d", "detach"))
    return Text.assemble(
        *[part for key, does in offered for part in ((key, STRONG), (f"  {does}    ", LABEL))],
        no_wrap=True,
        overflow="ellipsis",
    )
