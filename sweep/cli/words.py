"""Numbers, times and texts as a person reads them; widths are terminal cells, so that a Chinese name lines up.

What a trial wrote may hold anything: control characters are taken out here, before a terminal sees them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from sweep.core.model import Outcome, TrialState

if TYPE_CHECKING:
    from sweep.config.model import Parameter

DIGITS = 4  # significant digits of a metric: enough to tell two trials apart, few enough to read
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BARS = "▁▂▃▄▅▆▇"  # never the full block: curves on neighbouring lines would melt into one


def clean(text: str) -> str:
    """One line without escape sequences or control characters; after a carriage return, what overwrote it."""
    line = _ESCAPES.sub("", text).rstrip("\r\n").rpartition("\r")[2]
    return _CONTROLS.sub(" ", line)


def cut(text: str, cells: int) -> str:
    """At most so many cells, with an ellipsis where something is missing."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 1 else "…"[:cells]


def cut_middle(text: str, cells: int) -> str:
    """Keeps both ends: names such as `eval/macro_f1_score` differ at either."""
    if cell_len(text) <= cells or cells < 8:
        return cut(text, cells)
    head = (cells - 1) // 2
    tail = text
    while cell_len(tail) > cells - 1 - head:
        tail = tail[1:]
    return set_cell_size(text, head).rstrip() + "…" + tail.lstrip()


def number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.{DIGITS}g}" if not 1e4 <= abs(value) < 1e9 else f"{value:.0f}"


def column(values: Sequence[float | None]) -> list[str]:
    """Numbers with the same decimals and of one width, so that they compare at a glance; None is blank."""
    known = [abs(v) for v in values if v is not None and math.isfinite(v)]
    top = max(known, default=0.0)
    if all(v == int(v) for v in known) and top < 1e9:
        form = ".0f"
    elif top >= 1e9 or top < 1e-3:
        form = f".{DIGITS - 2}e"
    else:
        form = f".{max(0, DIGITS - max(0, math.floor(math.log10(top))))}f"
    texts = ["" if v is None else format(v, form) if math.isfinite(v) else str(v) for v in values]
    return [text.rjust(max(map(len, texts))) for text in texts]


def parameter(value: Any) -> str:
    """A parameter's value as short as it can be read; the exact one is in the command."""
    if isinstance(value, float):
        return number(value) if math.isfinite(value) and value != int(value) else str(value)
    return clean(str(value))


def parameters(params: dict[str, Any], gap: str = " ") -> str:
    return gap.join(f"{clean(name)}={parameter(value)}" for name, value in params.items())


def possible(kind: Parameter) -> str:
    """The values that a parameter of the space can have."""
    if kind.type == "categorical":
        return ", ".join(map(parameter, kind.choices))
    if kind.type == "constant":
        return parameter(kind.value)
    scale = ", log" if kind.log else f", step {kind.step:g}" if kind.step else ""
    return f"{kind.low:g} to {kind.high:g}{scale}"


def duration(seconds: float) -> str:
    """`0:41`, `12:31`, `1:02:03`, `2d 03h`."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400}d {whole // 3600 % 24:02}h"


def roughly(seconds: float) -> str:
    """An estimate, no more exact than it is: `under a minute`, `14 min`, `2 h 20 min`, `3 d 4 h`."""
    if seconds < 55:
        return "under a minute"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        tens = round(minutes / 10) * 10
        return f"{tens // 60} h {tens % 60} min" if tens % 60 else f"{tens // 60} h"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def size(count: float) -> str:
    """Bytes in powers of 1024, in at most five cells: `533M`, `1.2G`, `78G`."""
    value, unit = float(count), "B"
    for larger in "KMGT":
        if abs(value) < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}{unit}" if value < 9.95 and unit in "GT" else f"{value:.0f}{unit}"


def percent(share: float) -> str:
    return f"{share * 100:.0f}%"


def sparkline(values: Sequence[float], cells: int) -> str:
    """The course of the values as bars, scaled between their ends; a gap is where none is finite."""
    bins = min(cells, len(values))
    edges = [len(values) * i // bins for i in range(bins + 1)] if bins else []
    means = [_mean(values[low:high]) for low, high in pairwise(edges)]
    known = [v for v in means if v is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), max(known) - min(known)
    if not 0 < span < math.inf:
        return "".join(" " if v is None else _BARS[0] for v in means)
    return "".join(" " if v is None else _BARS[round((v - low) / span * (len(_BARS) - 1))] for v in means)


def _mean(values: Sequence[float]) -> float | None:
    known = [v for v in values if math.isfinite(v)]
    return math.fsum(v / len(known) for v in known) if known else None


def result(state: TrialState, outcome: Outcome | None) -> str:
    """How a trial ended, in a word or two."""
    if state is TrialState.FAIL and outcome in (None, Outcome.COMPLETED):
        return "failed"
    if state is TrialState.PRUNED and outcome is not Outcome.STALLED:
        return "pruned"
    return _RESULTS.get(outcome, state.value.lower()) if outcome else state.value.lower()


_RESULTS = {
    Outcome.COMPLETED: "complete",
    Outcome.STALLED: "stalled",
    Outcome.TIMED_OUT: "timed out",
    Outcome.OOM: "out of memory",
    Outcome.CRASHED: "failed",
    Outcome.STOPPED: "stopped",
    Outcome.LOST: "lost",
}


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `gpu-2` before `gpu-10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
