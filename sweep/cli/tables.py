"""The tables of the live view, as lines that fit a number of cells: slots, the best trial, what ended last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sweep.cli import words
from sweep.cli.snapshot import Ended, Running, Snapshot
from sweep.core.model import JOINT, Outcome, TrialState

LABEL = "dim"
STRONG = "bold"
COLOURS = {TrialState.COMPLETE: "green", TrialState.PRUNED: "yellow", TrialState.FAIL: "red"}
GAP = 2  # cells between columns
PANE = 80  # cells that a second table of slots beside the first is worth
METRIC = 16  # cells of a metric's name as a title
TREND = 10  # cells of a running trial's curve
_SHOWN_OBJECTIVES = 4

Cell = tuple[str, str]  # text, style


def line(*parts: Cell, cells: int) -> Text:
    """One line that ends in an ellipsis where it does not fit."""
    text = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
    text.truncate(cells, overflow="ellipsis")
    return text


@dataclass
class _Column:
    """`rank` 0 always stays; of the others the highest goes first where room is short.

    least: cells that it has at any time, so that columns do not jump. flex: takes what is left over, or less.
    optional: not there while nothing in it is known.
    """

    title: str
    cells: list[Cell]
    right: bool = True
    rank: int = 0
    least: int = 0
    flex: bool = False
    optional: bool = False

    @property
    def width(self) -> int:
        return max([self.least, cell_len(self.title), *(cell_len(text) for text, _ in self.cells)])


def _table(columns: Iterable[_Column], cells: int) -> list[Text]:
    """Title and rows, aligned, without rules; those columns that fit.

    By hand, since rich.table measures every cell anew: 64 slots took 78 ms a frame with it, and take 11 ms so.
    """
    shown = [c for c in columns if not c.optional or any(text for text, _ in c.cells)]

    def needed() -> int:
        return sum(GAP + (min(8, c.width) if c.flex else c.width) for c in shown) - GAP

    while needed() > cells and any(c.rank for c in shown):
        shown.remove(max(shown, key=lambda c: c.rank))
    spare = max(0, cells - needed())
    widths = [min(c.width, 8 + spare) if c.flex else c.width for c in shown]
    rows = [tuple((c.title, LABEL) for c in shown), *zip(*(c.cells for c in shown), strict=True)]
    return [_row(row, shown, widths, cells) for row in rows]


def _row(row: Sequence[Cell], columns: Sequence[_Column], widths: Sequence[int], cells: int) -> Text:
    parts: list[Cell] = []
    for (text, style), column, width in zip(row, columns, widths, strict=True):
        shown = words.cut(text, width)
        blank = " " * (width - cell_len(shown))
        gap = " " * GAP if parts else ""
        parts += [(gap + blank, ""), (shown, style)] if column.right else [(gap, ""), (shown, style), (blank, "")]
    return line(*parts, cells=cells)


def _titles(picture: Snapshot) -> list[str]:
    return [words.cut_middle(words.clean(name), METRIC) for name in picture.metrics]


def _metric(values: Sequence[float | None]) -> list[Cell]:
    return [(text, "yellow" if text.strip() in ("nan", "inf", "-inf") else "") for text in words.column(values)]


# ---- slots ---------------------------------------------------------------------------------------------------


def slot_panes(slots: int, cells: int, lines: int) -> int:
    """How many tables side by side show the most slots."""
    return max(1, min(cells // PANE, -(-slots // max(1, lines))))


def slot_lines(picture: Snapshot, cells: int, lines: int, panes: int) -> list[Text]:
    """A title and the slots by name; where they are too many, those whose trials got furthest, and a summary."""
    if lines <= 0:
        return []
    busy = sorted(
        picture.running, key=lambda row: (-1 if row.step is None else row.step, -row.launched), reverse=True
    )
    everyone: list[Running | str] = [*busy, *sorted(picture.idle, key=words.natural)]
    if not everyone:
        return [] if picture.state.ended else [Text("no slot is free yet", style=LABEL)]
    room = (lines - 1) * panes
    if room < len(everyone):
        room = max(0, lines - 2) * panes
    shown, hidden = everyone[:room], everyone[room:]
    shown.sort(key=lambda row: words.natural(row if isinstance(row, str) else row.slot))
    rows: list[Text] = []
    if shown:
        deep = -(-len(shown) // panes)
        pane = (cells - 2 * GAP * (panes - 1)) // panes
        parts = [shown[i : i + deep] for i in range(0, len(shown), deep)]
        rows = _beside([_table(_slot_columns(part, picture), pane) for part in parts], pane + 2 * GAP)
    return [*rows, _folded(hidden, bool(shown), picture, cells)] if hidden else rows


def _beside(tables: Sequence[list[Text]], apart: int) -> list[Text]:
    """Tables side by side, each so many cells from the one before; the first is the longest."""
    rows = tables[0]
    for place, table in enumerate(tables[1:], start=1):
        for row, more in zip(rows, table, strict=False):
            row.append(" " * (place * apart - row.cell_len)).append_text(more)
    return rows


def _slot_columns(shown: Sequence[Running | str], picture: Snapshot) -> list[_Column]:
    rows = [None if isinstance(row, str) else row for row in shown]
    slots = [row if isinstance(row, str) else row.slot for row in shown]

    def column(title: str, text: Callable[[Running], str], rank: int, least: int) -> _Column:
        return _Column(title, [("" if row is None else text(row), "") for row in rows], rank=rank, least=least)

    def measured(title: str, name: str, show: Callable[[float], str], rank: int) -> _Column:
        known = [None if row is None else getattr(row.vitals, name) for row in rows]
        cells = [("" if value is None else show(value), "") for value in known]
        return _Column(title, cells, rank=rank, least=4, optional=True)

    names = [(_slot_name(slot), "") for slot in slots]
    trials = [("idle", LABEL) if row is None else (str(row.trial), STRONG) for row in rows]
    return [
        _Column("slot", names, right=False),
        _Column("trial", trials),
        column("try", lambda row: str(row.attempt), rank=4, least=3),
        column("step", lambda row: "" if row.step is None else str(row.step), rank=0, least=4),
        *_objective_columns(rows, picture),
        _Column(
            "trend", [_trend(row) for row in rows], right=False, rank=5, least=TREND, optional=not picture.metrics
        ),
        column("time", lambda row: words.duration(picture.at - row.launched), rank=1, least=5),
        measured("cores", "cpu", "{:.1f}".format, rank=8),
        measured("mem", "memory", words.size, rank=9),
        measured("gpu", "device_utilisation", words.percent, rank=6),
        measured("gpu mem", "device_memory", words.size, rank=7),
    ]


def _slot_name(slot: str) -> str:
    """All members of one that is made of several devices, as long as they can be told apart."""
    members = words.clean(slot).split(JOINT)
    if len(members) > 4:
        return f"{words.cut_middle(members[0], 16)} + {len(members) - 1} more"
    return JOINT.join(words.cut_middle(one, max(8, 16 // len(members))) for one in members)


def _objective_columns(rows: Sequence[Running | None], picture: Snapshot) -> list[_Column]:
    """Latest and best of one objective; of several only the latest, since no step is best in all of them."""
    latest = [[None if row is None else row.latest[i] for row in rows] for i in range(len(picture.metrics))]
    titles = _titles(picture)
    if len(titles) != 1:
        shown = zip(titles, latest, range(_SHOWN_OBJECTIVES), strict=False)
        return [_Column(title, _metric(values), rank=i and 9 + i, least=6) for title, values, i in shown]
    best = [None if row is None else row.best[0] for row in rows]
    both = _metric([*latest[0], *best])
    return [_Column(titles[0], both[: len(rows)], least=6), _Column("best", both[len(rows) :], rank=3, least=6)]


def _trend(row: Running | None) -> Cell:
    if row is None:
        return "", ""
    return (row.doing, "yellow") if row.doing else (words.sparkline(row.vitals.curve, TREND), "cyan")


def _folded(hidden: Sequence[Running | str], more: bool, picture: Snapshot, cells: int) -> Text:
    """What the slots that are not shown are at, in one line."""
    busy = [row for row in hidden if not isinstance(row, str)]
    said = [f"+ {len(hidden)} more" if more else words.plural(len(hidden), "slot")]
    if len(busy) < len(hidden):
        said.append(f"{len(hidden) - len(busy)} idle")
    steps = sorted(row.step for row in busy if row.step is not None)
    if steps:
        said.append(f"step {_span(str(steps[0]), str(steps[-1]))}")
    values = sorted(v for row in busy for v in row.latest[:1] if v is not None and math.isfinite(v))
    if values:
        low, high = words.column([values[0], values[-1]])
        said.append(f"{_titles(picture)[0]} {_span(low.strip(), high.strip())}")
    return line(("   ".join(said), LABEL), cells=cells)


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


# ---- the best trial ------------------------------------------------------------------------------------------


def best_lines(picture: Snapshot, cells: int, lines: int) -> list[Text]:
    """The best trial so far and its parameters, or the Pareto set."""
    if not picture.best or lines <= 0:
        return []
    if len(picture.metrics) > 1:
        return _pareto_lines(picture, cells, lines)
    best = picture.best[0]
    name = words.cut_middle(words.clean(picture.metrics[0]), cells // 2)
    parts: list[Cell] = [
        ("best   ", LABEL),
        (f"trial {best.number}", STRONG),
        (f"   {name} ", LABEL),
        (words.number(best.values[0] or 0.0), f"{STRONG} green"),
    ]
    if best.step is not None:
        parts.append((f"   at step {best.step}", LABEL))
    parts.append((f"   in {words.duration(best.seconds)}", LABEL))
    return [line(*parts, cells=cells), *_parameter_lines(best, 7, cells, lines - 1)]


def _pareto_lines(picture: Snapshot, cells: int, lines: int) -> list[Text]:
    """One line a trial; where they are too many, the newest."""
    count = len(picture.best)
    title = line(
        ("best   ", LABEL), (words.plural(count, "trial"), STRONG), (" on the Pareto front", LABEL), cells=cells
    )
    room = min(lines - 1, 6)
    newest = sorted(picture.best, key=lambda trial: trial.at, reverse=True)[:room]
    newest.sort(key=lambda trial: trial.values[0] or 0.0)
    texts = [words.column([trial.values[i] for trial in newest]) for i in range(len(picture.metrics))]
    rows = []
    for place, trial in enumerate(newest):
        parts: list[Cell] = [(f"       trial {trial.number:<5}", "")]
        for title_text, column in zip(_titles(picture), texts, strict=True):
            parts += [(f"  {title_text} ", LABEL), (column[place], STRONG)]
        parts.append((f"   {words.parameters(trial.params)}", LABEL))
        rows.append(line(*parts, cells=cells))
    return [title, *rows]


def _parameter_lines(trial: Ended, indent: int, cells: int, lines: int) -> list[Text]:
    """Name and value, as many as fit; the last line says how many do not."""
    items = [
        (words.cut_middle(words.clean(n), 32), words.cut(words.parameter(v), 40)) for n, v in trial.params.items()
    ]
    rows: list[Text] = []
    row = Text(no_wrap=True)
    for place, (name, value) in enumerate(items):
        item = Text.assemble((name + " ", LABEL), value)
        more = f"+ {len(items) - place} more"
        last = len(rows) + 1 >= lines
        rest = 0 if place + 1 == len(items) or not last else 3 + len(more)
        used = row.cell_len + (3 if row.plain else 0) + item.cell_len + rest
        if row.plain and indent + used > cells:
            if last:
                row.append(f"   {more}", LABEL)
                break
            rows.append(row)
            row = Text(no_wrap=True)
        row.append("   " if row.plain else "").append_text(item)
    if row.plain and lines > 0:
        rows.append(row)
    for one in rows:
        one.pad_left(indent)
        one.truncate(cells, overflow="ellipsis")
    return rows


# ---- what ended last -----------------------------------------------------------------------------------------


def ended_lines(picture: Snapshot, cells: int, lines: int) -> list[Text]:
    """A title and the trials that ended last, newest first, each with its why or its parameters."""
    trials = picture.recent[: max(0, lines - 1)]
    if not trials:
        return []
    results = [(words.result(t.state, t.outcome), COLOURS.get(t.state, "")) for t in trials]
    titles = _titles(picture)[:_SHOWN_OBJECTIVES]
    values = [_metric([trial.values[i] for trial in trials]) for i in range(len(titles))]
    columns = [
        _Column("trial", [(str(trial.number), "") for trial in trials]),
        _Column("ended", results, right=False),
        *(_Column(titles[i], values[i], rank=i and 9 + i) for i in range(len(titles))),
        _Column("step", [("" if t.step is None else str(t.step), "") for t in trials], rank=3),
        _Column("time", [(words.duration(t.seconds) if t.seconds else "", "") for t in trials], rank=2),
        _Column("", _remarks(trials), right=False, flex=True),
    ]
    return _table(columns, cells)


def _remarks(trials: Sequence[Ended]) -> list[Cell]:
    """Why a trial failed or was taken to hang; of others their parameters, each below its like."""
    texts = [
        {
            words.clean(name): f"{words.clean(name)}={words.parameter(value)}"
            for name, value in trial.params.items()
        }
        for trial in trials
    ]
    widths: dict[str, int] = {}
    for trial, text in zip(trials, texts, strict=True):
        if not _tells_why(trial):
            for name, item in text.items():
                widths[name] = max(widths.get(name, 0), cell_len(item))
    return [
        (words.clean(trial.why), "")
        if _tells_why(trial)
        else (
            "  ".join(set_cell_size(text.get(name, ""), width) for name, width in widths.items()).rstrip(),
            LABEL,
        )
        for trial, text in zip(trials, texts, strict=True)
    ]


def _tells_why(trial: Ended) -> bool:
    return trial.state is TrialState.FAIL or trial.outcome is Outcome.STALLED
