"""Whether a device is to blame for what failed on it: by what became of attempts there and elsewhere.

A broken script fails on every device, a broken device fails every script. So a device is to blame when different
trials, one after another, have failed on it, when some have gone well elsewhere, and when at the rate at which
attempts fail elsewhere no such row was to be expected among all that are looked at. An attempt that lives
elsewhere and has outlived all of those counts as one that went well: a broken device fails in seconds, and has had
every trial before the first elsewhere ends. What was ended from outside, or lost with its supervisor, speaks
neither for nor against a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sweep.core.events import AttemptEnded
from sweep.core.model import Attempt, Outcome, Sweep
from sweep.core.policy import from_outside

IN_A_ROW = 3
# Rows of so many failures to be expected by chance, from which on it is none. It is asked at every failure: of
# sweeps of 200 trials that fail by chance, however often, 3 % at most blame a device (with 0.05, up to 28 %). At
# the beginning of a sweep it takes 7 failures where there is one other device, 5 where there are three.
CHANCE = 0.005
MEMORY = 200  # newest trials that are looked at
SLOW = 3.0  # times the others' seconds for a report
ENOUGH_REPORTS = 20  # of an attempt, to know its pace
ENOUGH_ATTEMPTS = 3  # here, and elsewhere


def failed_by_itself(attempt: Attempt, end: AttemptEnded) -> bool:
    """Whether nobody told it to end, and it did not run out of memory."""
    badly = end.code != 0 or end.signal is not None
    return badly and attempt.verdict is None and not end.acknowledged and not end.signalled and not end.hint


def to_blame(sweep: Sweep, end: AttemptEnded) -> str:
    """Why the device of this attempt, which is about to end, must be what fails, in words; empty if not."""
    if from_outside(end) or end.code is end.signal is None:
        return ""
    last = sweep.trials[end.trial].attempts[-1]
    row, longest = {end.trial}, end.at - last.launched
    for number, attempt in sorted(_ended(sweep), key=lambda one: one[1].ended or 0.0, reverse=True):
        if attempt.device != last.device or attempt.outcome is Outcome.LOST or attempt.outside:
            continue
        if not _failed(attempt):
            break
        row.add(number)
        longest = max(longest, (attempt.ended or 0.0) - attempt.launched)
    if len(row) < IN_A_ROW:
        return ""
    others = [one for _, one in _ended(sweep) if one.device != last.device]
    living = [sweep.trials[number].attempts[-1] for number in sweep.live]
    well = sum(one.outcome in (Outcome.COMPLETED, Outcome.PRUNED) for one in others)
    well += sum(one.device != last.device and end.at - one.launched > longest for one in living)
    failed = sum(map(_failed, others))
    if not well:
        return ""
    ended = well + failed
    expected = (ended + len(row)) * ((failed + 1) / (ended + 2)) ** len(row)  # Laplace's rule: nobody never fails
    if expected >= CHANCE:
        return ""
    return f"{len(row)} trials failed on it one after another; elsewhere {failed} of {ended} did"


def may_be_a_device(sweep: Sweep) -> bool:
    """Whether one device may have failed all that failed so far: it alone did, and elsewhere an attempt lives.

    How that one fares will tell: see `to_blame`. Shares of a CPU are all the same device.
    """
    failing = {attempt.device for _, attempt in _ended(sweep) if _failed(attempt)}
    if len(failing) != 1:
        return False
    (one,) = failing
    elsewhere = any(sweep.trials[number].attempts[-1].device != one for number in sweep.live)
    return elsewhere and "," not in one and not one.startswith("cpu")


def doubted(sweep: Sweep) -> set[str]:
    """The devices on which the newest attempt to end has failed."""
    newest: dict[str, Attempt] = {}
    for _, attempt in _ended(sweep) if sweep.failures else ():
        known = newest.get(attempt.device)
        if known is None or (known.ended or 0.0) < (attempt.ended or 0.0):
            newest[attempt.device] = attempt
    return {device for device, attempt in newest.items() if _failed(attempt)}


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
    mine, others = (sorted(each)[len(each) // 2] for each in (here, there))  # `statistics` loads `random`
    if mine <= SLOW * others:
        return ""
    return f"a report takes {mine:.3g} s on it, {others:.3g} s elsewhere"


def _failed(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.CRASHED and not attempt.outside


def _ended(sweep: Sweep) -> Iterator[tuple[int, Attempt]]:
    """The attempts that have ended, each with its trial's number, of the newest trials."""
    for trial in islice(reversed(sweep.trials.values()), MEMORY):
        for attempt in trial.attempts:
            if attempt.outcome is not None:
                yield trial.number, attempt
