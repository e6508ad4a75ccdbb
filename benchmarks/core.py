"""What the core costs: a sweep of 100,000 trials on 1,000 slots in virtual time, and its journal.

    python -m benchmarks.core [--trials 100000] [--slots 1000]

The edges here do nothing but answer: the sampler at once, a process when its virtual hour or so is over. Of the
trials, one in 20 crashes once and is tried again, one in 10 is pruned at its second report. Timed is `step` alone,
in CPU time, so that others on the machine do not count. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import heapq
import random
import tempfile
import time
from collections import deque
from pathlib import Path

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Rules, Sweep
from sweep.journal import Keeper, Replay, Writer

REPORTS = 3


class Simulation:
    """Plays a whole sweep; `spent` is one (events, seconds in step) for each tenth of its trials."""

    def __init__(
        self,
        trials: int,
        slots: int,
        journal: Writer | None = None,
        *,
        reports: int = REPORTS,
        snapshots: bool = False,
    ) -> None:
        rules = Rules(("acc",), ("maximize",), trials=trials, retries={"CRASHED": 1}, fail_fast=0)
        opened = e.SweepOpened(0.0, "benchmark-1", rules, {})
        self.sweep: Sweep = open_sweep(opened)
        self.spent: list[tuple[int, float]] = []
        self._journal: Writer | Keeper | None = journal
        if journal is not None:
            journal.append(opened)
            self._journal = Keeper(journal, self.sweep) if snapshots else journal
        self._chance = random.Random(0)
        self._trials = trials
        self._reports = reports
        self._free = deque(f"GPU-{n}:0" for n in range(slots))
        self._coming: list[tuple[float, int, e.Event]] = []  # a heap, ordered by virtual time
        self._now: deque[e.Event] = deque()
        self._pruned: set[int] = set()
        self._count = self._number = 0
        self._time = 0.0

    def run(self) -> None:
        self._now.append(e.ControllerStarted(0.0, 1, 1, "boot"))
        events, seconds, tenth = 0, 0.0, 1
        while not self.sweep.state.ended:
            if self._now:
                event = self._now.popleft()
            elif self.sweep.demand() and self._free:
                event = e.SlotOffered(self._time, self._free.popleft(), "GPU")
            else:
                event = heapq.heappop(self._coming)[2]
                if event.trial in self._pruned and isinstance(event, e.Reported):  # type: ignore[attr-defined]
                    continue
            self._time = max(self._time, event.at)
            begun = time.thread_time()
            orders = step(self.sweep, event)
            seconds += time.thread_time() - begun
            events += 1
            if self._journal is not None:
                self._journal.append(event)
                if events % 100 == 0:
                    self._journal.commit(behind=True)
            self._follow(event, orders)
            if len(self.sweep.trials) * 10 >= tenth * self._trials and (tenth < 10 or self.sweep.state.ended):
                self.spent.append((events, seconds))
                events, seconds, tenth = 0, 0.0, tenth + 1

    def _follow(self, event: e.Event, orders: list[do.Effect]) -> None:
        if isinstance(event, e.AttemptEnded):
            self._free.append(self.sweep.trials[event.trial].attempts[-1].slot)
        for order in orders:
            if isinstance(order, do.Ask):
                params = {"lr": self._chance.random(), "width": 64, "optimizer": "sgd"}
                self._now.append(e.TrialSampled(self._time, self._number, params))
                self._number += 1
            elif isinstance(order, do.Launch):
                self._live(order)
            elif isinstance(order, do.Release):
                self._free.append(order.slot)
            elif isinstance(order, do.Judge) and order.trial % 10 == 3 and order.step == 2:
                self._now.append(e.PruneAdvised(self._time, order.trial, order.attempt, order.step))
            elif isinstance(order, do.Deliver):
                self._pruned.add(order.trial)

    def _live(self, order: do.Launch) -> None:
        """All that this attempt will say, ahead of time."""
        key = (order.trial, order.attempt)
        started = self._time + 0.01
        self._come(e.AttemptStarted(started, *key, 1000 + order.trial, 7, "boot"))
        length = 1800 + 3600 * self._chance.random()
        crashes = order.trial % 20 == 7 and order.attempt == 1
        for report in range(1, self._reports + 1):
            at = started + length * report / (self._reports + 1)
            self._come(e.Reported(at, *key, report, {"acc": self._chance.random(), "loss": self._chance.random()}))
        pruned = order.trial % 10 == 3
        end = started + length * (0.6 if pruned else 1.0)
        heeds = "prune" if pruned else None
        self._come(
            e.AttemptEnded(end, *key, code=int(crashes), acknowledged=heeds, cause="boom" if crashes else "")
        )

    def _come(self, event: e.Event) -> None:
        self._count += 1
        heapq.heappush(self._coming, (event.at, self._count, event))


def simulate(trials: int, slots: int) -> None:
    simulation = Simulation(trials, slots)
    begun = time.perf_counter()
    simulation.run()
    took = time.perf_counter() - begun
    costs = [seconds / events * 1e6 for events, seconds in simulation.spent]
    total = sum(events for events, _ in simulation.spent)
    counts = ", ".join(f"{count:,} {state.value}" for state, count in simulation.sweep.counts.items() if count)
    print(f"{trials:,} trials on {slots:,} slots: {total:,} events, {took:.1f} s with the simulation around it")
    print(f"  {counts}")
    print("  µs per event, by tenth of the sweep: " + "  ".join(f"{cost:.2f}" for cost in costs))
    print(f"  last tenth : first tenth = {costs[-1] / costs[0]:.2f}")


def measure_journal(trials: int, slots: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        writer = Writer(path)
        Simulation(trials, slots, writer).run()
        begun = time.perf_counter()
        writer.commit()
        wrote = time.perf_counter() - begun
        writer.close()
        begun = time.perf_counter()
        told = Replay(path)
        took = time.perf_counter() - begun
        sweep, count, size = told.sweep, told.last.seq + 1, told.last.end
        print(f"journal of {len(sweep.trials):,} trials: {count:,} records, {size / trials:,.0f} bytes a trial")
        print(f"  written and synced in {wrote:.2f} s; replayed in {took:.2f} s, {count / took:,.0f} records/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=1_000)
    given = parser.parse_args()
    simulate(given.trials, given.slots)
    measure_journal(max(1, given.trials // 10), given.slots)


if __name__ == "__main__":
    main()
