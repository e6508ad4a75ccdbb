"""`slots_per_device: auto`: what attempts used of their devices, and so how many share one from now on.

It is judged in `core/sharing.py`. What is learnt is in the attempts' usage.jsonl, so the next controller learns it
again from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sweep.core.events import AttemptEnded
from sweep.core.model import Attempt, Outcome, Sweep
from sweep.core.sharing import Sample, Sharing
from sweep.ports import Devices
from sweep.rundir import SweepDir, read_json


class Sharer:
    """Of one sweep. note: told each decision, in words."""

    def __init__(self, sweep: Sweep, directory: SweepDir, devices: Devices, note: Callable[[str], None]) -> None:
        self._sweep = sweep
        self._directory = directory
        self._devices = devices
        self._note = note
        self._sharing = Sharing(min(slot.memory for slot in devices.slots))
        ended = [(a.ended, t.number, a) for t in sweep.trials.values() for a in t.attempts if a.ended is not None]
        for when, trial, attempt in sorted(ended, key=lambda one: one[:2]):
            crowded = attempt.crowded and attempt.outcome is Outcome.OOM
            self._sharing.learn(self._sample(trial, attempt, when, crowded=crowded))
        devices.share(self._sharing.level)

    def ended(self, end: AttemptEnded) -> AttemptEnded:
        """Learns from an attempt that ends; says of it whether it ran out of memory beside others."""
        attempt = self._sweep.trials[end.trial].attempts[end.attempt - 1]
        sample = self._sample(end.trial, attempt, end.at, crowded=False)
        others = (self._sweep.trials[number].attempts[-1] for number in self._sweep.live if number != end.trial)
        beside = sample.most > 1 or any(other.device == attempt.device for other in others)
        crowded = end.hint == "oom" and beside and not self._over_its_own(end)
        if said := self._sharing.learn(replace(sample, crowded=crowded)):
            self._note(said)
            self._devices.share(self._sharing.level)
        return replace(end, crowded=crowded)

    def _over_its_own(self, end: AttemptEnded) -> bool:
        """Whether it was `memory` of space.yaml that it went over, in which nobody else has a part."""
        facts = read_json(self._directory.attempt(end.trial, end.attempt).exit) or {}
        return bool(facts.get("limits", {}).get("over"))

    def _sample(self, trial: int, attempt: Attempt, ended: float, *, crowded: bool) -> Sample:
        used = _readings(self._directory.attempt(trial, attempt.number).usage)
        holders = [int(one["device_holders"]) for one in used]
        return Sample(
            peak=max((one["device_memory"] for one in used), default=0.0),
            most=max(holders, default=0),
            mean=sum(holders) / max(1, len(holders)),
            rate=attempt.lines / max(0.001, ended - attempt.launched),
            crowded=crowded,
        )


def _readings(usage: Path) -> list[dict[str, float]]:
    """Those that tell of the device."""
    found = []
    try:
        for line in usage.read_bytes().splitlines():
            metrics = json.loads(line)["metrics"]
            if "device_holders" in metrics and "device_memory" in metrics:
                found.append(metrics)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return found
