"""Whether a device is to blame for what failed on it: by what became of attempts there and elsewhere.

A broken script fails on every device, a broken device fails every script. So a device is to blame when different
trials, one after another, have failed on it, and when at the rate at which attempts fail elsewhere no such row was
to be expected among all that are looked at. An attempt that lives elsewhere and has outlived all of those counts
as one that went well: a broken device fails in seconds, and has had every trial before the first elsewhere ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import islice

from sweep.core.events import AttemptEnded
from sweep.core.model import Attempt, Outcome, Sweep, Verdict

IN_A_ROW = 3
CHANCE = 0.05  # rows of so many failures to be expected by chance, from which on it is none
MEMORY = 200  # newest trials that are looked at
SLOW = 3.0  # times the others' seconds for a report
ENOUGH_REPORTS = 20  # of an attempt, to know its pace
ENOUGH_ATTEMPTS = 3  # here, and elsewhere

_FAILURES = (Outcome.CRASHED, Outcome.LOST)


def failed_by_itself(attempt: Attempt, end: AttemptEnded) -> bool:
    """Whether nobody told it to end, and it did not run out of memory."""
    badly = end.code != 0 or end.signal is not None
    return badly and attempt.verdict is None and not end.acknowledged and not end.signalled and end.hint != "oom"


def to_blame(sweep: Sweep, end: AttemptEnded) -> str:
    """Why the device of this attempt, which is about to end, must be what fails, in words; empty if not."""
    last = sweep.trials[end.trial].attempts[-1]
    row, longest = {end.trial}, end.at - last.launched
    for number, attempt in sorted(_ended(sweep), key=lambda one: one[1].ended or 0.0, reverse=True):
        if attempt.device != last.device or attempt.verdict is Verdict.MOVE:
            continue
        if attempt.outcome not in _FAILURES:
            break
        row.add(number)
        longest = max(longest, (attempt.ended or 0.0) - attempt.launched)
    if len(row) < IN_A_ROW:
        return ""
    others = [one for _, one in _ended(sweep) if one.device != last.device]
    living = [sweep.trials[number].attempts[-1] for number in sweep.live]
    well = sum(one.outcome in (Outcome.COMPLETED, Outcome.PRUNED) for one in others)
    well += sum(one.device != last.device and end.at - one.launched > longest for one in living)
    failed = sum(one.outcome in _FAILURES for one in others if one.verdict is not Verdict.MOVE)
    ended = well + failed
    expected = (ended + len(row)) * ((failed + 1) / (ended + 2)) ** len(row)  # Laplace's rule: nobody never fails
    if expected >= CHANCE:
        return ""
    return f"{len(row)} trials failed on it one after another; elsewhere {failed} of {ended} did"


def slow(sweep: Sweep, device: str) -> str:
    """Why the device is suspiciously slow, in words: a report takes SLOW times as long there as elsewhere."""
    paces: dict[bool, list[float]] = {True: [], False: []}
    for _, attempt in _ended(sweep):
        if attempt.lines >= ENOUGH_REPORTS and attempt.started is not None and attempt.heard is not None:
            seconds = max(0.0, attempt.heard - attempt.started) / attempt.lines
            paces[attempt.device == device].append(seconds)
    here, there = paces[True], paces[False]
    if min(len(here), len(there)) < ENOUGH_ATTEMPTS:
        return ""
    mine, others = statistics.median(here), statistics.median(there)
    if mine <= SLOW * others:
        return ""
    return f"a report takes {mine:.3g} s on it, {others:.3g} s elsewhere"


def _ended(sweep: Sweep) -> Iterator[tuple[int, Attempt]]:
    """The attempts that have ended, each with its trial's number, of the newest trials."""
    for trial in islice(reversed(sweep.trials.values()), MEMORY):
        for attempt in trial.attempts:
            if attempt.outcome is not None:
                yield trial.number, attempt
