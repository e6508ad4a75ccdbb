"""A seeded sweep on one slot orders the same in the same order, whatever the timing of its edges."""

from __future__ import annotations

import random

import pytest
from world import World, controller, opened

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Verdict

SAMPLING = (do.Ask, do.Prefer, do.Judge, do.Tell)  # what a sampler can see


def played(seed: int, trials: int = 6, **rules: object) -> list[do.Effect]:
    """What the search was told, in order, where chance picks which edge answers next.

    A trial's fate depends on its number alone: 1 crashes twice, 3 is pruned, 4 has no metric.
    """
    chance = random.Random(seed)
    world = World(opened(({"lr": 1.0},), trials=trials, retries={"CRASHED": 2}, **rules), slots=1)
    world.feed(controller(world.time()))
    reports: dict[tuple[int, int], int] = {}

    def answer(key: tuple[int, int]) -> None:
        number, attempt = key
        said = reports.get(key, 0)
        crashes = number == 1 and attempt < 3
        if said < (1 if crashes else 3) and number != 4:
            reports[key] = said + 1
            world.feed(e.Reported(world.time(), number, attempt, said, {"acc": number + said / 10}))
        elif number != 3:
            world.feed(e.AttemptEnded(world.time(), number, attempt, code=1 if crashes else 0))
        elif world.delivered.get(key) is Verdict.PRUNE:
            world.feed(e.AttemptEnded(world.time(), number, attempt, code=1, acknowledged="prune"))

    def judge() -> None:
        order = world.judges.pop(0)
        if (order.trial, order.step) == (3, 1):
            world.feed(e.PruneAdvised(world.time(), order.trial, order.attempt, order.step))

    while not world.sweep.state.ended:
        possible = [lambda key=key: answer(key) for key in world.running]
        possible += [lambda key=key: world.start(key) for key in world.launches]
        if world.asks:
            possible.append(world.sample)
        if world.judges:
            possible.append(judge)
        if world.sweep.demand() and world.free():
            possible.append(lambda: world.feed(e.SlotOffered(world.time(), "s0", "cpu")))
        if world.runs:
            possible.append(lambda: world.feed(e.RunLinked(world.time(), world.runs[0], "run")))
        chance.choice(possible)()
    return [order for order in world.orders if isinstance(order, SAMPLING)]


@pytest.mark.parametrize("rules", [{}, {"ahead": 0}, {"ahead": 2}, {"needs_run": True}], ids=str)
def test_the_sequence_does_not_depend_on_the_timing(rules: dict) -> None:
    first = played(0, **rules)
    told = [order.trial for order in first if isinstance(order, do.Tell)]
    assert told == list(range(6)) and first.count(do.Ask()) == 6
    for seed in range(1, 12):
        assert played(seed, **rules) == first
