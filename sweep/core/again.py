"""A configuration that was tried before: what `duplicates` of space.yaml makes of it. Pure.

Known again is a sampled configuration that equals one of a COMPLETE trial in every parameter. (Constants are
compared as well: in one config they are all the same, and a file that was edited in between makes another.)

repeat:  it is run as any other, and Optuna is told what it measured.
skip:    it is not run; it is COMPLETE at once with the first one's values. Configurations of the user's own run.
average: it is run, and its values become the mean of all that its equals and it have measured.
"""

from __future__ import annotations

import json
import math
from typing import Any

from sweep.core.model import Sweep, Trial, TrialState, Tried

MOST = 100  # copies in a row: a space that has no more to offer


def learn(sweep: Sweep, trial: Trial, values: tuple[float, ...], why: str) -> tuple[tuple[float, ...], str]:
    """Takes note of what a run has measured; returns what its trial is worth, and why."""
    if sweep.rules.duplicates == "repeat" or not all(map(math.isfinite, values)):
        return values, why
    earlier = sweep.tried.get(_key(trial.params))
    remember(sweep, trial, values)
    if earlier is None or sweep.rules.duplicates != "average":
        return values, why
    runs = earlier.runs + 1
    mean = tuple((before + value) / runs for before, value in zip(earlier.total, values, strict=True))
    measured = ", ".join(f"{value:g}" for value in values)
    words = f"the mean of {runs} runs like trial {earlier.first}; this one measured {measured}"
    return mean, f"{why}; {words}" if why else words


def remember(sweep: Sweep, trial: Trial, values: tuple[float, ...]) -> None:
    key = _key(trial.params)
    earlier = sweep.tried.get(key) or Tried(trial.number, 0, (0.0,) * len(values))
    total = tuple(before + value for before, value in zip(earlier.total, values, strict=True))
    sweep.tried[key] = Tried(earlier.first, earlier.runs + 1, total)


def look_back(sweep: Sweep) -> None:
    """Remembers what has been measured so far, where the rule came into force in the midst of a sweep."""
    if sweep.rules.duplicates != "repeat" and not sweep.tried:
        for trial in sweep.trials.values():
            if trial.state is TrialState.COMPLETE and trial.attempts and trial.values is not None:
                remember(sweep, trial, trial.values)


def originals(sweep: Sweep) -> list[tuple[Trial, Trial]]:
    """Trials in line that need no run, each with the one that it is a copy of."""
    if sweep.rules.duplicates != "skip" or not sweep.tried:
        return []
    in_line = [sweep.trials[number] for number in sweep.ready]
    fresh = [trial for trial in in_line if not trial.attempts and trial.origin == "sampler"]
    known = [(trial, sweep.tried.get(_key(trial.params))) for trial in fresh]
    return [(trial, sweep.trials[earlier.first]) for trial, earlier in known if earlier is not None]


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
