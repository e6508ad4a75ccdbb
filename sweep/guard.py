"""What the loop looks after once a second: attempts that hang, limits of time, retries that are due.

A stall is judged in `core/stall.py`. Before it is said to the machine, what the attempt was doing is written down,
in a thread, for that takes a second or more; an attempt that wakes up meanwhile is let alone. Where nobody has
measured an attempt of late, its silence is not counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep.config.failures import Stall
from sweep.core import events as e
from sweep.core.model import Attempt, Phase, Sweep, SweepState, Trial
from sweep.core.policy import spent
from sweep.core.stall import GAP, Pulse, Signs
from sweep.launch import stacks
from sweep.ports import Load
from sweep.rundir import SweepDir

log = logging.getLogger("sweep.guard")
Key = tuple[int, int]  # trial, attempt
_MEASURED = {"checkpoint", "device", "cpu"}
_MISSED = {
    "report": "no report",
    "output": "no output",
    "checkpoint": "nothing written",
    "device": "its device idle",
    "cpu": "its CPU idle",
}


@dataclass
class _Patient:
    """One attempt that is watched. place: where it hangs, such as `forward (train.py:9)`, if that is known."""

    pulse: Pulse
    output: Path
    examination: threading.Thread | None = None
    evidence: str = ""  # its folder, relative to the sweep's
    place: str = ""
    warned: bool = False

    def woke_up(self) -> None:
        self.examination, self.evidence, self.place, self.warned = None, "", "", False


@dataclass
class Guard:
    """loads: the last measurement of every attempt that runs."""

    directory: SweepDir
    stall: Stall
    loads: Callable[[], Mapping[Key, Load]]
    _patients: dict[Key, _Patient] = field(default_factory=dict)
    _looked: float | None = None

    def look(self, sweep: Sweep, now: float) -> list[e.Event]:
        """What there is to say to the machine. now: the journal's clock."""
        before, self._looked = self._looked, time.monotonic()
        passed = 0.0 if before is None else self._looked - before
        live = {(n, sweep.trials[n].attempts[-1].number) for n in sweep.live}
        for key in self._patients.keys() - live:
            del self._patients[key]
        events: list[e.Event] = []
        loads = self.loads() if self.stall.enabled else {}
        for key in sorted(live):
            trial = sweep.trials[key[0]]
            attempt = trial.attempts[-1]
            if attempt.phase is Phase.RUNNING and attempt.verdict is None:
                overdue = _overdue(sweep, trial, attempt, now)
                events += overdue
                if self.stall.enabled and not overdue:
                    events += self._watch(key, attempt, passed, loads.get(key), now)
        events += [e.RetryDue(now, number) for number, due in sweep.resting.items() if due <= now]
        budget = sweep.rules.slot_hours
        if budget is not None and sweep.state is SweepState.RUNNING and sweep.slot_seconds(now) >= budget * 3600:
            events.append(e.TimeUp(now, budget=True))
        return events

    def _watch(
        self, key: Key, attempt: Attempt, passed: float, load: Load | None, now: float
    ) -> Iterator[e.Event]:
        patient = self._patients.get(key)
        if patient is None:
            patient = _Patient(Pulse(_pace(attempt)), self.directory.attempt(*key).output)
            self._patients[key] = patient
        assert self._looked is not None
        if load is None or self._looked > load.until:
            if passed <= GAP and not _MEASURED.isdisjoint(self.stall.signs):
                return
            load = Load(self._looked, None, 0, None)
        patient.pulse.look(
            Signs(attempt.lines, _size(patient.output), load.written, load.cores, load.device), passed
        )
        silence = patient.pulse.silence(self.stall.signs)
        if silence < patient.pulse.too_long(self.stall.after):
            if patient.examination is not None and not patient.examination.is_alive():
                patient.woke_up()
        elif patient.examination is None:
            self._examine(key, patient, attempt)
        elif not patient.examination.is_alive():
            why = self._why(patient, silence, load)
            if self.stall.action != "warn":
                yield e.StallSeen(now, *key, why, patient.evidence)
            elif not patient.warned:
                patient.warned = True
                yield e.Noted(now, f"{why}; it is left alone (stall: warn)", key[0])

    def _why(self, patient: _Patient, silence: float, load: Load) -> str:
        signs = [sign for sign in self.stall.signs if sign != "device" or load.device is not None]
        missed = ", ".join(_MISSED[sign] for sign in signs)
        return f"hangs{patient.place and ' in '}{patient.place}: for {silence:.0f} s {missed}"

    def _examine(self, key: Key, patient: _Patient, attempt: Attempt) -> None:
        paths, supervisor = self.directory.attempt(*key), attempt.pid
        assert supervisor is not None

        def write() -> None:
            try:
                folder, patient.place = stacks.gather(paths, supervisor)
                patient.evidence = str(folder.relative_to(self.directory.path))
            except OSError as error:
                log.warning("trial %d: what it hangs in cannot be kept: %s", key[0], error)

        patient.examination = threading.Thread(target=write, name=f"stacks of {key[0]}/{key[1]}", daemon=True)
        patient.examination.start()


def _pace(attempt: Attempt) -> float | None:
    """Seconds between two reports of an attempt that an earlier controller has watched, on average."""
    if not attempt.lines or attempt.started is None or attempt.heard is None:
        return None
    return max(0.0, attempt.heard - attempt.started) / attempt.lines


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _overdue(sweep: Sweep, trial: Trial, attempt: Attempt, now: float) -> list[e.Event]:
    """The attempt's own limit, or its trial's, which counts all its attempts."""
    for what, limit, taken in (
        ("attempt_timeout", sweep.rules.attempt_timeout, now - attempt.launched),
        ("trial_timeout", sweep.rules.trial_timeout, spent(trial, now)),
    ):
        if limit is not None and taken >= limit:
            return [e.TimedOut(now, trial.number, attempt.number, f"its {what} of {limit:g} s has passed")]
    return []
