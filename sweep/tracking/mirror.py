"""From events to what MLflow should say. No I/O: the state machine tells what an event meant.

Rules
1.  Every event of the journal passes through `feed`, from the first on, so that the state is whole; `send` is
    false for those that MLflow has already.
2.  What is to be sent gathers in `pending`, one Batch for each run, whatever the number of events. Sending a batch
    twice does no harm (see __init__.py), so nothing here remembers what the store has taken.
3.  A trial has a run as soon as it has an attempt or an end; where runs are made ahead, as soon as it is sampled.
4.  A trial that logs to its run by itself must never meet a parameter of ours that it wants to write otherwise,
    for MLflow would fail its call: such a run gets our parameters at its end, and only those that it lacks.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core import machine
from sweep.core.model import Outcome, Sweep, Trial, TrialState
from sweep.tracking.limits import Names, param, tag

PARENT = -1  # the sweep's own run, among trial numbers


class Point(NamedTuple):
    key: str
    value: float
    at: int  # milliseconds since the epoch
    step: int


@dataclass
class Batch:
    """What one run has not been told yet."""

    metrics: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: str | None = None  # RUNNING, SCHEDULED, FINISHED, FAILED, KILLED
    ended: int | None = None  # milliseconds


@dataclass(frozen=True)
class Birth:
    """What a run is created with."""

    name: str
    start: int  # milliseconds
    tags: dict[str, str]


def millis(seconds: float) -> int:
    return max(0, round(seconds * 1000))


class Mirror:
    """uid: no other sweep has it. commit: of the source. own: trials log their metrics to MLflow by themselves."""

    def __init__(self, opened: e.SweepOpened, uid: str) -> None:
        self.commit: str | None = None
        self.sweep: Sweep = machine.open_sweep(opened)
        self.own = opened.config["report"]["mode"] == "mlflow"
        self.artifacts = bool(opened.config["mlflow"]["artifacts"])
        self.pending: dict[int, Batch] = {PARENT: Batch(params=_search_params(opened), status="RUNNING")}
        self.ended: list[tuple[int, int]] = []  # attempts whose end has not been taken note of: (trial, attempt)
        self._tags = _common_tags(opened, uid)
        self._said: dict[int, dict[str, str]] = {}  # tags and status last put into a batch, by trial not ended
        self.metric_names = Names()
        self.param_names = Names()

    def feed(self, event: e.Event, send: bool = True) -> None:
        """Applies one event. Raises IllegalEvent, and changes nothing, for one that does not fit."""
        sweep = self.sweep
        best = sweep.best
        effects = machine.step(sweep, event)
        if type(event) is e.Reported:
            self._points(event, send)
            return
        if type(event) in (e.AttemptEnded, e.LaunchFailed) and send:
            self.ended.append((event.trial, event.attempt))  # type: ignore[attr-defined]
        for number in self._touched(event, effects):
            if number in sweep.trials:
                self._look(sweep.trials[number], send)
        if sweep.best != best and send:
            self._lead()
        state = {"sweep.state": sweep.state.value, "sweep.why": tag(sweep.why)}
        self._differ(PARENT, state, None if sweep.state.ended else "RUNNING", send)

    def birth(self, number: int) -> Birth:
        """What the run of this trial, or of the sweep, is created with."""
        sweep = self.sweep
        git = {"mlflow.source.git.commit": self.commit, "sweep.git_commit": self.commit} if self.commit else {}
        common = {**self._tags, **git}
        if number == PARENT:
            return Birth(sweep.id, millis(sweep.opened), {**common, "sweep.state": sweep.state.value})
        trial = sweep.trials.get(number)
        start = trial.attempts[0].launched if trial and trial.attempts else sweep.at
        own = {key: value for key, value in _tags(trial).items() if value} if trial else {}
        return Birth(f"{sweep.id}/{number}", millis(start), {**common, "sweep.trial": str(number), **own})

    def batch(self, number: int) -> Batch:
        return self.pending.setdefault(number, Batch())

    def live(self) -> list[Trial]:
        return [self.sweep.trials[number] for number in sorted(self.sweep.live)]

    def _points(self, event: e.Reported, send: bool) -> None:
        names = [(self.metric_names[key], value) for key, value in event.metrics.items()]
        if send and not self.own:
            at = millis(event.at)
            points = [Point(key, value, at, event.step) for key, value in names]
            self.batch(event.trial).metrics.extend(points)

    def _touched(self, event: e.Event, effects: Iterable[do.Effect]) -> set[int]:
        """Trials whose state may have moved: the event's own, those in its orders, and at an end all that wait."""
        numbers = {getattr(event, "trial", None), getattr(event, "number", None)}
        numbers |= {getattr(effect, "trial", None) for effect in effects}
        if type(event) is e.ResumeAsked or any(type(effect) is do.Finish for effect in effects):
            numbers |= set(self.sweep.ready)
        return {number for number in numbers if number is not None}

    def _look(self, trial: Trial, send: bool) -> None:
        if not (trial.attempts or trial.state.terminal or self.own):
            return
        first, last = trial.number not in self._said, trial.state.terminal
        if send and (last if self.own else first):
            given = {self.param_names[name]: param(value) for name, value in trial.params.items()}
            self.batch(trial.number).params.update(given)
        self._differ(trial.number, _tags(trial), _status(trial, self.sweep), send)
        if trial.state.terminal:
            self._said.pop(trial.number)
            if send:
                at = trial.attempts[-1].ended if trial.attempts else self.sweep.at
                self.batch(trial.number).ended = millis(at or self.sweep.at)

    def _differ(self, number: int, tags: dict[str, str], status: str | None, send: bool) -> None:
        """Puts into the batch what is not as it was said last."""
        before = self._said.get(number, {})
        after = {**tags, "status": status or ""}
        self._said[number] = after
        if not send:
            return
        changed = {key: value for key, value in tags.items() if before.get(key, "") != value}
        if changed:
            self.batch(number).tags.update(changed)
        if status and status != before.get("status"):
            self.batch(number).status = status

    def _lead(self) -> None:
        """A new best trial: one more point of the sweep's own curve, over the number of trials that ended."""
        sweep = self.sweep
        if sweep.best is None:
            return
        values = sweep.trials[sweep.best].values or ()
        key = self.metric_names[f"best.{sweep.rules.metrics[0]}"]
        batch = self.batch(PARENT)
        batch.metrics.extend(Point(key, value, millis(sweep.at), ended(sweep)) for value in values[:1])
        batch.tags["sweep.best_trial"] = str(sweep.best)


def ended(sweep: Sweep) -> int:
    """How many trials have ended."""
    return sum(count for state, count in sweep.counts.items() if state.terminal)


def _status(trial: Trial, sweep: Sweep) -> str:
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return "FINISHED"
    if trial.state is TrialState.FAIL:
        return "KILLED" if trial.outcome in (Outcome.STOPPED, None) else "FAILED"
    if trial.state is TrialState.RUNNING:
        return "RUNNING"
    return "KILLED" if sweep.state.ended else "SCHEDULED"


def _tags(trial: Trial) -> dict[str, str]:
    last = trial.attempts[-1] if trial.attempts else None
    return {
        "sweep.state": trial.state.value,
        "sweep.outcome": trial.outcome.value if trial.outcome else "",
        "sweep.why": tag(trial.why),
        "sweep.value": ", ".join(repr(value) for value in trial.values or ()),
        "sweep.attempt": str(last.number) if last else "",
        "sweep.device": last.device if last else "",
        "sweep.slot": last.slot if last else "",
    }


def _common_tags(opened: e.SweepOpened, uid: str) -> dict[str, str]:
    config = opened.config
    wanted = Names()
    more = {wanted[key]: tag(value) for key, value in config["mlflow"]["tags"].items()}
    return {
        **more,
        "sweep.id": opened.id,
        "sweep.uid": uid,
        "sweep.name": str(config.get("name") or opened.id),
        "mlflow.user": _user(),
        "mlflow.source.name": tag(_source(config)),
        "mlflow.source.type": "LOCAL",
    }


def _source(config: dict[str, Any]) -> str:
    """The script, as far as the command tells; the UI shows the end of its path."""
    words: list[str] = config.get("command") or [str(config.get("objective"))]
    return next((word for word in words if word.endswith((".py", ".sh"))), words[0])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"


def _search_params(opened: e.SweepOpened) -> dict[str, str]:
    config = opened.config
    given: dict[str, Any] = {
        "metric": ", ".join(opened.rules.metrics),
        "direction": ", ".join(opened.rules.directions),
        "value": opened.rules.value,
        "trials": opened.rules.trials,
        "timeout": opened.rules.timeout,
        "seed": config.get("seed"),
    }
    for kind in ("sampler", "pruner"):
        named = config.get(kind)
        if named:
            given[kind] = named["name"]
            given |= {f"{kind}.{key}": value for key, value in (named.get("options") or {}).items()}
    names = Names()
    return {names[key]: param(value) for key, value in given.items() if value is not None}
