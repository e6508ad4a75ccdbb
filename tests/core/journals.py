"""A sweep of 30 trials that was played to its end, and its journal."""

from __future__ import annotations

import math
from pathlib import Path

from world import World, controller, opened

from sweep.core import events as e
from sweep.journal import Writer


def played(trials: int) -> World:
    """A whole sweep with retries, prunes, odd numbers and words that are not ASCII."""
    world = World(opened(trials=trials, retries={"CRASHED": 1}))
    world.feed(controller(0.0))
    while not world.sweep.state.ended:
        while world.asks:
            world.sample()
        while world.sweep.demand() and world.free():
            world.feed(e.SlotOffered(world.time(), world.free()[0], "cpu"))
        for key in list(world.launches):
            world.start(key)
        for number, attempt in list(world.running):
            value = math.nan if number % 3 == 0 else number / 7
            world.feed(e.Reported(world.time(), number, attempt, attempt, {"acc": value, "lr": math.inf}))
            if number % 5 == 2:
                world.feed(e.PruneAdvised(world.time(), number, attempt, attempt))
            code = 1 if number % 4 == 1 and attempt == 1 else 0
            cause = "训练失败\n  in train.py" if code else ""
            world.feed(e.AttemptEnded(world.time(), number, attempt, code=code, cause=cause))
    return world


WORLD = played(30)


def write(path: Path, events: list[e.Event]) -> Path:
    writer = Writer(path)
    for event in events:
        writer.append(event)
    writer.commit()
    writer.close()
    return path
