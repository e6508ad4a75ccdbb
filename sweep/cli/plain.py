"""A sweep as plain lines, for logs, CI and terminals that cannot draw: one line for what is worth telling.

`lines` and `heartbeat` need no memory of their own; `PlainLines` is the view that prints them.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, TextIO

from sweep.cli import words
from sweep.core import events as e
from sweep.core.model import Sweep, SweepState, Trial, TrialState

HEARTBEAT = 60.0  # seconds of silence after which a line says that all is well
# so they only remark on a sweep that ended before
_CANNOT_END = (e.Noted, e.RunLinked, e.Enqueued, e.ConfigChanged)


class PlainLines:
    """A `ports.View`. What nobody takes (a closed pipe, a pager, Ctrl-S) is dropped: the sweep goes on."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._dropped = 0
        self._last = 0.0
        self._notices: tuple[str, ...] = ()

    def saw(self, event: e.Event, sweep: Sweep) -> None:
        self._print(lines(event, sweep), sweep.at)

    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None:
        self._print([_at(now, words.clean(text)) for text in _new(self._notices, tuple(notices))], now)
        self._notices = tuple(notices)
        if not self._last:
            self._last = now
        elif now - self._last >= HEARTBEAT:
            self._print([heartbeat(sweep, now)], now)

    def _print(self, texts: list[str], now: float) -> None:
        if not texts:
            return
        self._last = now
        if not _takes(self._out):
            self._dropped += len(texts)
            return
        if self._dropped:
            texts = [_at(now, f"{words.plural(self._dropped, 'line')} could not be shown"), *texts]
            self._dropped = 0
        try:
            self._out.write("".join(f"{text}\n" for text in texts))
            self._out.flush()
        except (OSError, ValueError):
            pass


def _takes(out: TextIO) -> bool:
    """Whether a write would not wait for a reader (a pipe takes 4 KiB more then, pipe(7))."""
    try:
        return bool(select.select([], [out.fileno()], [], 0)[1])
    except (OSError, ValueError):
        return True  # no file, or closed: the write will say so


def _new(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """What was added to a list that forgets its oldest."""
    for same in range(min(len(before), len(now)), 0, -1):
        if before[-same:] == now[:same]:
            return now[same:]
    return now


def lines(event: e.Event, sweep: Sweep) -> list[str]:
    """What `sayings` has, each with its time of day."""
    return [_at(event.at, text) for text in sayings(event, sweep)]


def sayings(event: e.Event, sweep: Sweep) -> list[str]:
    """What to say of an event that the sweep has just been stepped by; mostly nothing."""
    say = _SAY.get(type(event))
    said = say(event, sweep) if say is not None else ""
    texts = [said] if said else []
    if sweep.state.ended and not isinstance(event, _CANNOT_END):
        texts.append(_ended(sweep))
    return texts


def heartbeat(sweep: Sweep, now: float) -> str:
    """Where the sweep stands: for a caller that has said nothing for a minute."""
    ended = sum(count for state, count in sweep.counts.items() if state.terminal)
    of = f" of {sweep.rules.trials}" if sweep.rules.trials is not None else ""
    parts = [f"{ended}{of} ended", f"{len(sweep.live)} running"]
    if sweep.state is not SweepState.RUNNING:
        parts.insert(0, sweep.state.value.lower())
    running = [sweep.trials[number] for number in sorted(sweep.live)]
    parts += [f"trial {t.number} at step {t.step}" for t in running[:4] if t.step is not None]
    if sweep.best is not None:
        parts.append(f"best is {_named(sweep.trials[sweep.best], sweep)}")
    return _at(now, ", ".join(parts))


def _at(when: float, text: str) -> str:
    return f"{datetime.fromtimestamp(when):%H:%M:%S}  {text}"


def _named(trial: Trial, sweep: Sweep) -> str:
    values = zip(sweep.rules.metrics, trial.values or (), strict=False)
    return "  ".join([f"trial {trial.number}", *(f"{words.clean(name)} {words.number(v)}" for name, v in values)])


def _sampled(event: e.TrialSampled, sweep: Sweep) -> str:
    trial = sweep.trials[event.number]
    return f"{_named(trial, sweep)}  not run: {trial.why}" if trial.state is TrialState.COMPLETE else ""


def _started(event: e.AttemptStarted, sweep: Sweep) -> str:
    trial = sweep.trials[event.trial]
    again = f" again (attempt {event.attempt})" if event.attempt > 1 else ""
    slot = trial.attempts[-1].slot
    return f"trial {trial.number} started{again} on {slot}  {words.parameters(trial.params)}".rstrip()


def _attempt_over(event: e.AttemptEnded | e.LaunchFailed, sweep: Sweep) -> str:
    trial = sweep.trials[event.trial]
    if trial.state is TrialState.WAITING:
        attempt = trial.attempts[-1]
        how = words.result(TrialState.FAIL, attempt.outcome)
        return f"trial {trial.number} {how}: {words.clean(attempt.why)}; another attempt follows"
    if trial.state is TrialState.COMPLETE:
        values = zip(sweep.rules.metrics, trial.values or (), strict=False)
        shown = "".join(f"  {words.clean(name)} {words.number(value)}" for name, value in values)
        best = "  (best so far)" if sweep.best == trial.number else ""
        return f"trial {trial.number} complete{shown}{best}{_copied(trial, sweep)}"
    return _over(trial, sweep)


def _copied(trial: Trial, sweep: Sweep) -> str:
    """Which trials, sampled while this one ran, were copies of it and have ended with it."""
    if sweep.rules.duplicates != "skip":
        return ""
    later = takewhile(lambda one: one.number > trial.number, reversed(sweep.trials.values()))
    copies = [str(one.number) for one in later if one.state is TrialState.COMPLETE and one.params == trial.params]
    return f"; trial {' and '.join(reversed(copies))} was the same, and is not run" if copies else ""


def _over(trial: Trial, sweep: Sweep) -> str:
    why, how = words.clean(trial.why), words.result(trial.state, trial.outcome)
    if trial.state is not TrialState.PRUNED:
        return f"trial {trial.number} {how}: {why}"
    metric = next(iter(sweep.rules.metrics), "")
    last = f"  {words.clean(metric)} {words.number(trial.latest[metric])}" if metric in trial.latest else ""
    return f"trial {trial.number} {why if why.startswith(how) else f'{how}: {why}'}{last}"


def _stop_asked(event: e.StopAsked, sweep: Sweep) -> str:
    why = words.clean(event.why)
    if event.trial is None:
        return f"{why}; {words.plural(len(sweep.live), 'running trial')} told to stop"
    trial = sweep.trials[event.trial]
    return _over(trial, sweep) if trial.state.terminal else f"trial {trial.number} told to stop: {why}"


def _driven(event: e.ControllerStarted, sweep: Sweep) -> str:
    if sweep.trials:
        return f"{sweep.id} goes on in process {event.pid}, {words.plural(len(sweep.live), 'trial')} running"
    goals = [f"{d} {words.clean(m)}" for m, d in zip(sweep.rules.metrics, sweep.rules.directions, strict=True)]
    limit = sweep.rules.trials
    return ", ".join(
        [f"{sweep.id} begins", words.plural(limit, "trial") if limit else "no limit of trials", *goals]
    )


def _limits(event: e.LimitsSet, sweep: Sweep) -> str:
    limits = []
    if event.trials is not None:
        limits.append(f"trials={event.trials}")
    if event.slots is not None:
        limits.append(f"slots={event.slots or 'all'}")
    if event.priority is not None:
        limits.append(f"priority={event.priority}")
    return f"new limits: {' '.join(limits)}"


def _ended(sweep: Sweep) -> str:
    took = words.duration(sweep.active + sweep.at - sweep.resumed)
    counts = [(TrialState.COMPLETE, "complete"), (TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed")]
    parts = [f"{sweep.id} {sweep.state.value.lower()} after {took}"]
    parts += [words.clean(sweep.why)] if sweep.why else []
    parts.append(", ".join(f"{sweep.counts[state]} {name}" for state, name in counts))
    if sweep.best is not None:
        parts.append(f"best is {_named(sweep.trials[sweep.best], sweep)}")
    return "; ".join(parts)


_SAY: dict[type[e.Event], Callable[[Any, Sweep], str]] = {
    e.ConfigChanged: lambda event, sweep: f"its file was changed: {words.clean('; '.join(event.told))}",
    e.ControllerStarted: _driven,
    e.TrialSampled: _sampled,
    e.AttemptStarted: _started,
    e.AttemptEnded: _attempt_over,
    e.LaunchFailed: _attempt_over,
    e.SamplerExhausted: lambda event, sweep: f"nothing more to sample: {words.clean(event.why)}",
    e.StopAsked: _stop_asked,
    e.DrainAsked: lambda event, sweep: f"{words.clean(event.why)}; {len(sweep.live)} running",
    e.PauseAsked: lambda event, sweep: "paused: no new trials",
    e.ResumeAsked: lambda event, sweep: "goes on",
    e.TimeUp: lambda event, sweep: f"no new trials: {sweep.why}" if sweep.why else "",
    e.LimitsSet: _limits,
    e.Enqueued: lambda event, sweep: f"enqueued {words.parameters(event.params)}",
    e.LaunchesHeld: lambda event, sweep: words.clean(event.why) or "room on the disk again: going on",
    e.CheckpointDropped: lambda event, sweep: f"removed {event.directory}: {event.why}",
    e.Noted: lambda event, sweep: words.clean(
        event.text if event.trial is None else f"trial {event.trial}: {event.text}"
    ),
}
