"""All the checks, as a table or as one JSON document."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli import words
from sweep.cli.doctor import devices, limits, packages, places, stores
from sweep.cli.doctor.finding import Finding
from sweep.errors import DeviceError
from sweep.slots.survey import Standing, Survey

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def doctor(file: Path | None, *, as_json: bool) -> int:
    """Prints what was found; the exit code is 1 where something stands in the way."""
    found = list(findings(file))
    bad = sum(one.state == "bad" for one in found)
    if as_json:
        print(json.dumps({"ok": not bad, "findings": [asdict(one) for one in found]}))
        return 1 if bad else 0
    from rich.console import Console

    console = Console()
    console.print(_table(found))
    warned = sum(one.state == "warn" for one in found)
    nothing = "nothing stands in the way of a sweep here"
    said = f"{words.plural(bad, 'finding')} in the way of a sweep" if bad else nothing
    console.print(said + (f"; {words.plural(warned, 'warning')}" if warned else ""), highlight=False)
    return 1 if bad else 0


def findings(file: Path | None) -> Iterator[Finding]:
    folder, environ = Path.cwd(), os.environ
    yield from packages.packages()
    yield from devices.nvidia()
    standings: list[Standing] = []
    # an error of the lock folder, or of an administrator's file, is a finding of `lock_place`
    with suppress(DeviceError), closing(Survey(environ)) as survey:
        standings = survey.look()
        yield from devices.devices(standings, survey)
    yield from packages.trials_python(environ, gpu=any(one.device.kind == "gpu" for one in standings))
    yield from packages.py_spy()
    yield from places.lock_place(environ)
    yield from places.project(folder)
    yield from places.shared_memory()
    yield from limits.processes()
    yield from limits.cgroup()
    yield from limits.clock()
    if file is None:
        yield from stores.mlflow({}, folder, environ)
    else:
        from sweep.cli.doctor.space import space  # Optuna: half a second

        yield from space(file, folder, environ)


def _table(found: Sequence[Finding]) -> Table:
    """A row for each finding; its mend stands below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for one in found:
        said = Text(words.clean(one.what))
        if one.mend and one.state != "ok":
            said.append(f"\n→ {words.clean(one.mend)}", "dim")
        table.add_row(Text(one.state, _COLOURS[one.state]), one.topic, said)
    return table
