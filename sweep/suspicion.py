"""Devices under suspicion: what the ends of attempts say of them, and who must leave one.

An attempt that failed while its device did is LOST, not CRASHED: its trial goes on elsewhere, uncharged. A device
on which different trials fail one after another, and only there (core/blame.py), is taken out of service for the
whole machine. One that is only slow is named and left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from sweep.core import events as e
from sweep.core.blame import failed_by_itself, slow, to_blame
from sweep.core.model import Phase, Sweep
from sweep.ports import Ward

log = logging.getLogger("sweep.suspicion")


@dataclass
class Suspicion:
    """yields: whether attempts leave a device on which somebody else computes."""

    ward: Ward
    yields: bool
    _named: set[str] = field(default_factory=set)

    def end(self, sweep: Sweep, end: e.AttemptEnded, note: Callable[[str], None]) -> e.AttemptEnded:
        """The same end, which the sweep has not heard of yet, with what speaks against its device."""
        attempt = sweep.trials[end.trial].attempts[-1]
        if attempt.number != end.attempt:
            return end
        if not failed_by_itself(attempt, end):
            self._name_slow(sweep, attempt.device, note)
            return end
        devices = attempt.device.split(",")
        for device in devices:
            if why := self.ward.failing(device):
                return replace(end, device_lost=f"{device}: {why}")
        why = to_blame(sweep, end) if len(devices) == 1 else ""  # of several, nobody knows which
        if why and self._take_out(sweep, attempt.device, why, note):
            return replace(end, device_lost=f"{attempt.device}: {why}")
        return end

    def look(self, sweep: Sweep, now: float) -> Iterator[e.Event]:
        """The attempts that must leave their devices. now: the journal's clock."""
        leave = self.ward.leave(yields=self.yields)
        for number in sorted(sweep.live) if leave else ():
            attempt = sweep.trials[number].attempts[-1]
            for device in attempt.device.split(","):
                if device in leave and attempt.phase is Phase.RUNNING and attempt.verdict is None:
                    yield e.Evicted(now, number, attempt.number, f"{device}: {leave[device]}")
                    break

    def _take_out(self, sweep: Sweep, device: str, why: str, note: Callable[[str], None]) -> bool:
        try:
            if not self.ward.take_out(device, why, sweep.id):
                return False
        except OSError as error:
            log.warning("%s: that it fails cannot be written down: %s", device, error)
        note(f"{device} is taken out of service: {why}; `sweep devices heal` brings it back")
        return True

    def _name_slow(self, sweep: Sweep, device: str, note: Callable[[str], None]) -> None:
        if device not in self._named and (why := slow(sweep, device)):
            self._named.add(device)
            note(f"{device} is slow: {why}")
