"""Sweeps to look at: histories made by the state machine itself, so that they can only hold what can happen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Rules, Sweep

START = 1_763_960_000.0
Params = Callable[[random.Random], dict[str, Any]]


def usual(draw: random.Random) -> dict[str, Any]:
    return {"lr": 10 ** draw.uniform(-4, -1), "width": draw.randrange(16, 129, 16), "optimizer": "adam"}


class Story:
    """One sweep; trials are sampled and launched as soon as they can be. `seen` is told of every event."""

    def __init__(
        self,
        *,
        slots: int = 2,
        trials: int | None = 50,
        metrics: tuple[str, ...] = ("val_acc",),
        directions: tuple[str, ...] = ("maximize",),
        params: Params = usual,
        config: dict[str, Any] | None = None,
        slot_name: str = "cpu-{}",
        seen: Callable[[e.Event, Sweep], None] = lambda event, sweep: None,
        **rules: Any,
    ) -> None:
        self.now = START
        self.draw = random.Random(7)
        self._params = params
        self._seen = seen
        given = {"name": "ocr-rec", "command": ["python", "train.py", "{args}"], **(config or {})}
        opened = Rules(metrics, directions, trials=trials, **rules)
        self.sweep = open_sweep(e.SweepOpened(self.now, "ocr-rec-3", opened, given))
        self.do(e.ControllerStarted(self.now, 4242, 1, "boot"))
        for index in range(slots):
            self.offer(slot_name.format(index))

    def do(self, event: e.Event) -> None:
        orders = step(self.sweep, event)
        self._seen(event, self.sweep)
        for order in orders:
            if isinstance(order, do.Ask):
                self.do(e.TrialSampled(self.now, len(self.sweep.trials), self._params(self.draw)))
            elif isinstance(order, do.Launch):
                self.do(e.AttemptStarted(self.now, order.trial, order.attempt, 5000 + order.trial, 1, "boot"))

    def offer(self, slot: str) -> None:
        self.do(e.SlotOffered(self.now, slot, slot))

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def attempt(self, trial: int) -> int:
        return self.sweep.trials[trial].attempts[-1].number

    def report(self, trial: int, at: int, **metrics: float) -> None:
        self.do(e.Reported(self.now, trial, self.attempt(trial), at, metrics))

    def end(self, trial: int, *, again: bool = True, **how: Any) -> None:
        """Exit code 0 unless said otherwise; the slot is offered again."""
        slot = self.sweep.trials[trial].attempts[-1].slot
        self.do(e.AttemptEnded(self.now, trial, self.attempt(trial), **(how or {"code": 0})))
        if again and not self.sweep.state.ended:
            self.offer(slot)

    def complete(self, trial: int, value: float, *, seconds: float = 60.0, steps: int = 10) -> None:
        self.wait(seconds)
        self.report(trial, steps, **dict.fromkeys(self.sweep.rules.metrics, value))
        self.end(trial)

    def prune(self, trial: int, at: int) -> None:
        self.do(e.PruneAdvised(self.now, trial, self.attempt(trial), at))
        self.end(trial, code=0, acknowledged="prune")

    def train(self, ended: int, steps: int = 8) -> Story:
        """Until so many have ended, of every kind: every second is pruned, some fail, one in nine reports NaN."""
        names = self.sweep.rules.metrics
        while sum(n for state, n in self.sweep.counts.items() if state.terminal) < ended and self.sweep.live:
            self.wait(self.draw.uniform(1, 9))
            number = self.draw.choice(sorted(self.sweep.live))
            at = (self.sweep.trials[number].attempts[-1].step or 0) + 1
            value = math.nan if number % 9 == 8 else self.draw.random()
            self.report(number, at, **{name: value * 30**place for place, name in enumerate(names)})
            if at == 3 and number % 2:
                self.prune(number, at)
            elif at == 2 and number % 7 == 6:
                self.end(number, code=1, cause="RuntimeError: CUDA out of memory", hint="oom")
            elif at == steps:
                self.end(number)
        return self
