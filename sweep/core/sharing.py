"""How many trials share a device, where `slots_per_device: auto` leaves that to what is measured. Pure.

The first trials run alone. From then on as many share a device as fit by the largest of those that did. What
follows only ever lowers the number: a trial that needs more, memory that runs out beside others, or a device that
gets no more done by it, counted in reports per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST = 8  # that share one device
SOLO = 2  # trials that have to run alone before any share
UNSEEN = 5  # trials of which nothing was measured, before it is said
MARGIN = 0.1  # of a device's memory, that stays free
GAIN = 1.05  # times as much as alone has to get done on a shared device


@dataclass(frozen=True)
class Sample:
    """One attempt that has ended.

    peak: bytes, the most that was in use on its device. most, mean: how many attempts had a share of it, at most
    and on average; 0 where it ended unmeasured. rate: its reports per second. crowded: memory ran out while others
    had shares.
    """

    peak: float
    most: int
    mean: float
    rate: float
    crowded: bool = False


def fitting(peaks: Sequence[float], memory: float) -> int:
    """How many such trials a device of so many bytes takes, 1 to MOST."""
    return max(1, min(MOST, int(memory * (1 - MARGIN) // max(*peaks, 1.0))))


@dataclass
class Sharing:
    """level: how many share a device now. memory: bytes of the smallest device."""

    memory: float
    level: int = 1
    _decided: bool = False
    _proven: bool = False  # this level gets more done than one alone
    _unseen: int = 0  # attempts that ended before they were measured
    _peaks: list[float] = field(default_factory=list)
    _alone: list[float] = field(default_factory=list)
    _shared: list[float] = field(default_factory=list)

    def learn(self, sample: Sample) -> str:
        """What has been decided because of it, in words; empty where nothing changes."""
        if sample.crowded:
            return self._lower(self.level - 1, "memory ran out beside others") if self.level > 1 else ""
        if sample.most == 0 and not self._decided:
            self._unseen += 1
            return self._said("they end before they can be measured") if self._unseen == UNSEEN else ""
        if sample.most == 1:
            self._peaks.append(sample.peak)
            self._alone.append(sample.rate)
            return self._by_memory()
        if self.level > 1 and sample.most == self.level:
            self._shared.append(sample.rate * sample.mean)
            return self._by_throughput()
        return ""

    def _by_memory(self) -> str:
        if len(self._peaks) < SOLO:
            return ""
        fits = fitting(self._peaks, self.memory)
        words = f"one took {_gb(max(self._peaks))} of {_gb(self.memory)} GB"
        if self._decided:
            return self._lower(fits, words) if fits < self.level else ""
        self._decided, self.level = True, fits
        return self._said(words)

    def _by_throughput(self) -> str:
        alone = sum(self._alone) / max(1, len(self._alone))
        if self._proven or not alone or len(self._shared) < self.level:
            return ""
        shared = sum(self._shared) / len(self._shared)
        if shared >= alone * GAIN:
            self._proven = True
            return ""
        return self._lower(self.level // 2, f"{shared:.3g} reports per second together, {alone:.3g} alone")

    def _lower(self, level: int, why: str) -> str:
        self.level, self._proven = level, False
        self._shared.clear()
        return self._said(why)

    def _said(self, why: str) -> str:
        who = "each trial has a device of its own" if self.level == 1 else f"{self.level} trials share a device"
        return f"{who} now: {why}"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f}"
