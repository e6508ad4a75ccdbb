"""Orders to a sweep from outside its controller: files, so that they outlive whoever is to read them.

`orders/<when>-<pid>.json` holds one event. The controller applies it and answers beside it: `.done`, empty or
with the reason of a refusal. Whoever gave the order takes the answer away. While no controller lives, an order
waits for the next one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sweep import doorbell, rundir
from sweep.core import events as e
from sweep.core.codec import from_json, to_json
from sweep.rundir import SweepDir

RING = b"orders"
ALLOWED = (e.StopAsked, e.DrainAsked, e.PauseAsked, e.ResumeAsked, e.LimitsSet, e.Enqueued)


def give(directory: SweepDir, event: e.Event) -> Path:
    """Leaves the order for the controller and wakes it. Raises OSError."""
    directory.orders.mkdir(mode=0o700, exist_ok=True)
    path = directory.orders / f"{time.time_ns()}-{os.getpid()}.json"
    rundir.write_json(path, to_json(event))
    doorbell.ring(directory, RING)
    return path


def waiting(directory: SweepDir, now: float) -> Iterator[tuple[Path, e.Event | str]]:
    """The orders that nobody has answered, oldest first: events of time `now`, or what is wrong with a file."""
    try:
        names = sorted(name for name in os.listdir(directory.orders) if name.endswith(".json"))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        path = directory.orders / name
        try:
            event = from_json({**json.loads(path.read_bytes()), "at": now})
        except (OSError, ValueError) as error:
            yield path, f"not an order: {error}"
            continue
        yield path, event if isinstance(event, ALLOWED) else f"{type(event).__name__} is not an order"


def answer(path: Path, refusal: str) -> None:
    """Takes the order away and says what became of it. Raises OSError."""
    rundir.write_atomic(path.with_suffix(".done"), refusal)
    path.unlink()


def answered(path: Path, seconds: float) -> str | None:
    """The controller's answer, empty where the order was carried out; None where none came in time."""
    done = path.with_suffix(".done")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            refusal = done.read_text()
        except OSError:
            time.sleep(0.01)
            continue
        done.unlink(missing_ok=True)
        return refusal
    return None
