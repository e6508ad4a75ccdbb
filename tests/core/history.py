"""How a history begins, and the steps that most of them take."""

from __future__ import annotations

from world import World, controller, opened

from sweep.core import effects as do
from sweep.core import events as e


def begin(slots: int = 3, enqueue: tuple[dict, ...] = (), **rules: object) -> World:
    world = World(opened(enqueue, **rules), slots)
    world.feed(controller(world.time()))
    return world


def sample(world: World) -> None:
    for _ in range(len(world.asks)):
        world.sample()


def launch(world: World) -> tuple[int, int]:
    """One more trial or retry, on the next free slot; its process is not there yet."""
    sample(world)
    orders = world.feed(e.SlotOffered(world.time(), world.free()[0], "cpu"))
    return next((o.trial, o.attempt) for o in orders if isinstance(o, do.Launch))


def run(world: World) -> tuple[int, int]:
    key = launch(world)
    world.start(key)
    return key


def crash(world: World, key: tuple[int, int], cause: str = "boom") -> list[do.Effect]:
    return world.feed(e.AttemptEnded(world.time(), *key, code=1, cause=cause))


def names(orders: list[do.Effect]) -> list[str]:
    return [type(order).__name__ for order in orders]
