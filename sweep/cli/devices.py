"""`sweep devices`: every device of this machine, its slots, and who has them, whether or not a sweep runs here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.cli import words
from sweep.errors import UsageError
from sweep.slots.survey import Standing, Survey

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

EVERY = 1.0  # seconds between two looks of --watch
_HOLDER = ("sweep", "trial", "attempt", "user", "pid")


def show_devices(*, watch: bool, as_json: bool) -> None:
    if watch and as_json:
        raise UsageError("--json prints one document", hint="leave out --watch, or call it again and again")
    survey = Survey(os.environ)
    try:
        if as_json:
            print(json.dumps(devices_document(survey)))
        elif watch:
            _watch(survey)
        else:
            from rich.console import Console

            console = Console()
            console.print(render(survey.look(), survey, time.time(), console.width))
    except KeyboardInterrupt:
        pass  # leaving --watch is no failure
    finally:
        survey.close()


def devices_document(survey: Survey) -> dict[str, Any]:
    """memory in bytes and utilisation 0 to 1, null where unknown; `health` is a word, `why` says more.

    auto: uuids of the devices that `devices: auto` takes here. left_out: GPUs that do not even tell their name.
    policy: what the administrator lets this user have, in words; null where all is allowed.
    """
    return {
        "devices": [_device(standing) for standing in survey.look()],
        "auto": survey.auto,
        "no_gpu": survey.no_gpu or None,
        "left_out": survey.left_out,
        "policy": survey.policy or None,
    }


def _device(standing: Standing) -> dict[str, Any]:
    device, numbers = standing.device, standing.reading.numbers
    used, total = (numbers.get(name) for name in ("memory_used", "memory_total"))
    return {
        "uuid": device.id,
        "kind": device.kind,
        "index": device.index,
        "name": device.name,
        "memory": {
            "total": int(total) if total is not None else device.memory or None,
            "used": None if used is None else int(used),
        },
        "utilisation": numbers.get("utilisation"),
        "foreign": standing.foreign,
        "slots": [
            {"slot": place.slot, "holder": None if place.holder is None else _holder(place.holder)}
            for place in standing.places
        ],
        "health": standing.health.word,
        "why": standing.health.why,
    }


def _holder(facts: Mapping[str, Any]) -> dict[str, Any]:
    """command: of `sweep exec`, which has no sweep. since: seconds since the epoch."""
    return {name: facts.get(name) for name in (*_HOLDER, "command", "since")}


# ---- for people ----------------------------------------------------------------------------------------------


def render(standings: Sequence[Standing], survey: Survey, now: float, cells: int) -> RenderableType:
    """A row for each slot, `cells` wide at most; below it, of each device that is not well, why."""
    from rich.console import Group
    from rich.text import Text

    measured = any(standing.reading.numbers for standing in standings)
    rows: list[list[Text]] = []
    notes: list[Text] = []
    for standing in standings:
        name, (word, why) = Text(_name(standing)), standing.health
        if why:
            notes.append(Text.assemble(name, "  ", (word, "yellow"), f": {words.clean(why)}"))
        health = Text(word, "green" if word == "ok" else "yellow")
        for place in standing.places:
            used, *who = map(Text, _used(place.holder, now))
            used.style = "bold" if place.holder is not None else "dim"
            slot = Text(_short(place.slot), "dim")
            rows.append([name, slot, used, *who, *(map(Text, _measured(standing)) if measured else ()), health])
            name = health = Text("")
    notes += [Text(words.clean(said), "yellow") for said in survey.left_out]
    if survey.policy:
        notes.append(Text(words.clean(f"what you may have: {survey.policy}"), "dim"))
    if survey.no_gpu:
        auto = words.plural(len(survey.auto), "CPU share")
        notes.append(Text(f"{survey.no_gpu}; `devices: auto` takes {auto}", "dim"))
    return Group(_table(rows, cells, measured=measured), *notes)


def _table(rows: Sequence[Sequence[Text]], cells: int, *, measured: bool) -> Table:
    """Where room is short the names give way: a number or an id cut short would mean another."""
    from rich.table import Table

    titles = [
        "device",
        "slot",
        "used by",
        "user",
        "pid",
        "for",
        *(["gpu", "memory"] if measured else []),
        "health",
    ]
    widths = [max([len(title), *(row[i].cell_len for row in rows)]) for i, title in enumerate(titles)]
    for title in ("device", "used by"):
        place = titles.index(title)
        widths[place] = max(8, min(widths[place], widths[place] + cells - sum(widths) - 2 * (len(titles) - 1)))
        for row in rows:
            row[place].truncate(widths[place], overflow="ellipsis")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title, width in zip(titles, widths, strict=True):
        right = title in ("pid", "for", "gpu", "memory")
        table.add_column(title, justify="right" if right else "left", no_wrap=True, width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _name(standing: Standing) -> str:
    device = standing.device
    return words.clean(
        f"{device.index}  {device.name}" if device.kind != "cpu" and device.index >= 0 else device.name
    )


def _short(slot: str) -> str:
    """The beginning of a UUID is enough, for people and for CUDA_VISIBLE_DEVICES."""
    whole, dot, share = slot.partition(".")
    return f"{whole[:12]}{dot}{share}"


def _measured(standing: Standing) -> tuple[str, str]:
    numbers = standing.reading.numbers
    if "memory_used" not in numbers:
        return "", ""
    rate = words.percent(numbers["utilisation"]) if "utilisation" in numbers else ""
    return rate, f"{words.size(numbers['memory_used'])}/{words.size(numbers['memory_total'])}"


def _used(holder: Mapping[str, Any] | None, now: float) -> tuple[str, str, str, str]:
    """By what, which user, pid, for how long."""
    if holder is None:
        return "free", "", "", ""
    since = holder.get("since")
    time_held = words.duration(now - since) if isinstance(since, (int, float)) else ""
    texts = [words.clean(str(holder.get(name) or "")) for name in ("user", "pid")]
    return words.clean(_what(holder)), texts[0], texts[1], time_held


def _what(holder: Mapping[str, Any]) -> str:
    sweep, trial, attempt = (holder.get(name) for name in ("sweep", "trial", "attempt"))
    if sweep is None:
        return str(holder.get("command") or "somebody")
    again = f" (attempt {attempt})" if isinstance(attempt, int) and attempt > 1 else ""
    return str(sweep) if trial is None else f"{sweep}  trial {trial}{again}"


# ---- --watch -------------------------------------------------------------------------------------------------


def _watch(survey: Survey) -> None:
    from rich.console import Console
    from rich.live import Live

    from sweep.cli.live import can_draw

    console = Console()
    if not can_draw(console):
        _watch_lines(survey)
        return

    def draw() -> RenderableType:
        return render(survey.look(), survey, time.time(), console.width)

    with Live(console=console, get_renderable=draw, auto_refresh=False, screen=True) as live:
        while True:
            live.refresh()
            time.sleep(EVERY)


def _watch_lines(survey: Survey) -> None:
    """One line for each slot, then one for each change."""
    before: dict[str, str] = {}
    while True:
        now = {
            place.slot: "  ".join(
                filter(None, (*_used(place.holder, 0.0)[:3], *map(words.clean, standing.health)))
            )
            for standing in survey.look()
            for place in standing.places
        }
        for slot in [*now, *(before.keys() - now.keys())]:
            if now.get(slot) != before.get(slot):
                print(f"{time.strftime('%H:%M:%S')}  {slot}  {now.get(slot, 'gone')}", flush=True)
        before = now
        time.sleep(EVERY)
