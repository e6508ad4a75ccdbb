"""Commands that change a sweep from another terminal: by an order to its controller, or by taking it over."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sweep import journal, orders, rundir
from sweep.cli.document import sweep_document
from sweep.cli.state import Followed
from sweep.config.checks import params_problems
from sweep.config.model import SweepConfig
from sweep.config.scalars import HIGHEST_PRIORITY
from sweep.core import events as e
from sweep.core.model import Sweep, TrialState
from sweep.errors import BusyError, NotFoundError, SweepError, UsageError
from sweep.notify import tell
from sweep.rundir import SweepDir

ANSWER = 10.0  # seconds that a controller may take to answer
POLL = 0.1


def stop(wanted: str | None, trial: int | None, *, now: bool, as_json: bool) -> None:
    """Ends a sweep, or one trial of it, and waits until its processes are gone."""
    sweep, directory = _find(wanted)
    if trial is not None and trial not in sweep.trials:
        raise NotFoundError(f"{sweep.id} has no trial {trial}", hint=f"`sweep status {sweep.id}` lists them")
    if sweep.state.ended:
        raise UsageError(f"{sweep.id} has ended already ({sweep.state.value})")
    event = e.StopAsked(0.0, trial, now)
    if not order(directory, event):
        _drive(directory, event, until=lambda state: _is_over(state, trial))
    followed = Followed(directory)
    while not _is_over(followed.sweep, trial):
        time.sleep(POLL)
        for _ in followed.news():
            pass
    say(directory, as_json, "stopped" if trial is None else f"trial {trial} stopped")


def pause(wanted: str | None, *, as_json: bool) -> None:
    _change(wanted, e.PauseAsked(0.0), "paused: running trials go on, no new ones start", as_json)


def set_limits(wanted: str, settings: Mapping[str, Any], *, as_json: bool) -> None:
    """`trials`, `slots` and `priority` of a sweep; 0 slots means no limit."""
    odd = [f"{key}={value}" for key, value in settings.items() if not _is_limit(key, value)]
    if odd or not settings:
        raise UsageError(
            f"{', '.join(odd) or 'nothing'} cannot be set",
            hint="what can be: trials=100, slots=2 (0: no limit), and priority=5 (-100 to 100)",
        )
    told = ", ".join(f"{key}={value}" for key, value in settings.items())
    _change(wanted, e.LimitsSet(0.0, **settings), told, as_json)


def _is_limit(key: str, value: Any) -> bool:
    limits = {"trials": (1, None), "slots": (0, None), "priority": (-HIGHEST_PRIORITY, HIGHEST_PRIORITY)}
    least, most = limits.get(key, (None, None))
    if least is None or not isinstance(value, int) or isinstance(value, bool):
        return False
    return value >= least and (most is None or value <= most)


def enqueue(wanted: str, params: Mapping[str, Any], *, as_json: bool) -> None:
    """A configuration of the user's own, next in line."""
    sweep, _ = _find(wanted)
    _change(wanted, wish(sweep, params), "next in line", as_json)


def wish(sweep: Sweep, params: Mapping[str, Any]) -> e.Enqueued:
    """The order to try this configuration. Raises UsageError where the sweep's space cannot have it."""
    config = SweepConfig.model_validate(sweep.config)
    for problem in params_problems(config.space, params):
        raise UsageError(f"{'.'.join(map(str, problem.path))}: {problem.message}", hint=problem.hint)
    if not params:
        raise UsageError("no parameters", hint="such as: sweep enqueue SWEEP lr=0.01")
    return e.Enqueued(0.0, dict(params))


def _change(wanted: str | None, event: e.Event, told: str, as_json: bool) -> None:
    sweep, directory = _find(wanted)
    if not place(sweep, directory, event):
        told = f"its controller is gone: `sweep resume {sweep.id}` brings it back, and then this is done"
    say(directory, as_json, told)


def place(sweep: Sweep, directory: SweepDir, event: e.Event) -> bool:
    """Has it carried out; False where it waits for the next controller. Raises UsageError after the end."""
    if sweep.state.ended:
        hint = f"`sweep resume {sweep.id} --trials N` extends it"
        raise UsageError(f"{sweep.id} has ended ({sweep.state.value})", hint=hint)
    if order(directory, event):
        return True
    orders.give(directory, event)
    return False


def order(directory: SweepDir, event: e.Event) -> bool:
    """Has the living controller carry it out; False where none lives. Raises UsageError for a refusal."""
    if not rundir.locked(directory.controller_lock):
        return False
    refusal = orders.answered(orders.give(directory, event), ANSWER)
    if refusal is None:
        raise BusyError(
            f"the controller of {directory.id} does not answer", hint=f"see {directory.controller_log}"
        )
    if refusal:
        raise UsageError(refusal)
    return True


def _drive(directory: SweepDir, event: e.Event, until: Callable[[Sweep], bool]) -> None:
    """Takes a sweep without a controller over for as long as the event needs."""
    from sweep import session

    taken = session.resume(directory, os.environ, events=[event])
    taken.controller.look_on(_Until(until, taken.controller.leave))
    try:
        taken.run()
    finally:
        taken.close()
    tell(taken.sweep, directory, sweep_document, os.environ, lambda _: None)


class _Until:
    """A `ports.View` that ends the drive once what it was for is done."""

    def __init__(self, done: Callable[[Sweep], bool], leave: Callable[[], None]) -> None:
        self._done = done
        self._leave = leave

    def saw(self, event: e.Event, sweep: Sweep) -> None:
        pass

    def picture(self, sweep: Sweep, now: float, notices: Sequence[str]) -> None:
        if self._done(sweep):
            self._leave()


def _is_over(sweep: Sweep, trial: int | None) -> bool:
    return sweep.state.ended or (trial is not None and sweep.trials[trial].state.terminal)


def _find(wanted: str | None) -> tuple[Sweep, SweepDir]:
    directory = rundir.find(Path.cwd(), wanted)
    return journal.replay(directory.journal), directory


def say(directory: SweepDir, as_json: bool, told: str) -> None:
    """What has been done; for a program the sweep as it is now."""
    if not as_json:
        click.echo(f"{directory.id}: {told}")
        return
    sweep = journal.replay(directory.journal)
    alive = rundir.locked(directory.controller_lock)
    click.echo(json.dumps(sweep_document(sweep, directory, controller_alive=alive)))


def failed_again(sweep: Sweep) -> list[e.Event]:
    """What `sweep resume --failed` orders: every FAIL trial's configuration once more, as a trial of its own."""
    failed = [trial for trial in sweep.trials.values() if trial.state is TrialState.FAIL]
    if not failed:
        raise SweepError(f"{sweep.id} has no failed trial")
    events: list[e.Event] = [e.Enqueued(0.0, dict(trial.params)) for trial in failed]
    if sweep.rules.trials is not None:  # first: what the limit leaves no room for is refused
        events.insert(0, e.LimitsSet(0.0, trials=max(sweep.rules.trials, len(sweep.trials)) + len(failed)))
    return events
