"""Every event in every situation: heard or refused, written out, and what the situations turn into."""

from __future__ import annotations

from dataclasses import replace

import pytest
from world import check, controller, opened, picture, through_json

from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Phase, Sweep, SweepState, Trial, TrialState
from sweep.errors import IllegalEvent

# Trial 1 is the one that the events are about; trial 0 runs beside it and keeps the sweep from ending. `told`: it
# has a verdict. `retrying`: WAITING after an attempt.
SITUATIONS = (
    "none",
    "waiting",
    "launching",
    "launching told",
    "running",
    "running told",
    "retrying",
    "COMPLETE",
    "PRUNED",
    "FAIL",
)
_OVER = (SweepState.FINISHED, SweepState.FAILED)
# What cannot be: a sweep that has ended has no attempts and has given up its retries, one that stops has told all.
UNREACHABLE = {
    *((state, situation) for state in _OVER for situation in SITUATIONS[2:7]),
    (SweepState.STOPPING, "launching"),
    (SweepState.STOPPING, "running"),
}

# +: heard, .: refused. An event is heard where both columns say so.
#   by the sweep's state: RUNNING PAUSED DRAINING STOPPING, FINISHED FAILED
#   by the trial's situation: none waiting, launching (told) running (told), retrying, COMPLETE PRUNED FAIL
ANY = "++ ++++ + +++"
LIVE = ".. ++++ . ..."
TABLE = {
    "SweepOpened": (".... ..", ANY),
    "ConfigChanged": ("++++ ++", ANY),
    "ControllerStarted": ("++++ ++", ANY),
    "ControllerStarted, with trial 0": (".... ..", ANY),
    "ControllerStarted, with a trial": ("++++ ++", ANY),
    "TrialSampled": ("++++ ..", ANY),
    "TrialSampled, a number again": (".... ..", ANY),
    "SamplerExhausted": ("++++ ..", ANY),
    "SamplerExhausted, failed": ("++++ ..", ANY),
    "SlotOffered": ("++++ ..", ANY),
    "SlotOffered, of trial 0": (".... ..", ANY),
    "RunLinked": ("++++ ++", ".+ ++++ + +++"),
    "AttemptStarted": ("++++ ..", ".. ++.. . ..."),
    "AttemptStarted, next": (".... ..", ANY),
    "Reported": ("++++ ..", LIVE),
    "Reported, next": (".... ..", ANY),
    "Checkpointed": ("++++ ..", LIVE),
    "PruneAdvised": ("++++ ..", ".. +.+. . ..."),
    "StallSeen": ("++++ ..", ".. +.+. . ..."),
    "TimedOut": ("++++ ..", ".. +.+. . ..."),
    "Evicted": ("++++ ..", ".. +.+. . ..."),
    "RetryDue": ("++++ ..", ".. .... . ..."),  # the retry here has no pause
    "AttemptEnded": ("++++ ..", LIVE),
    "AttemptEnded, next": (".... ..", ANY),
    "LaunchFailed": ("++++ ..", ".. ++.. . ..."),
    "StopAsked": ("++++ ..", ANY),
    "StopAsked, now": ("++++ ..", ANY),
    "StopAsked, of a trial": ("++++ ..", ".+ ++++ + ..."),
    "DrainAsked": ("+++. ..", ANY),
    "PauseAsked": ("+... ..", ANY),
    "ResumeAsked": (".++. ++", ANY),
    "TimeUp": ("++++ ..", ANY),
    "LimitsSet": ("++++ ++", ANY),
    "Enqueued": ("++++ ++", ANY),
    "LaunchesHeld": ("++++ ..", ANY),
    "CheckpointDropped": (".... ..", ANY),  # of a trial that has none: see test_room.py
    "Noted": ("++++ ++", ANY),
}


def event_of(name: str, sweep: Sweep) -> e.Event:
    """The event of a row, about trial 1's newest attempt (or the one after it)."""
    at = 100.0
    trial = sweep.trials.get(1)
    attempt = max(1, len(trial.attempts)) if trial else 1
    if name.endswith(", next"):
        attempt += 1
    return {
        "SweepOpened": lambda: opened(),
        "ConfigChanged": lambda: e.ConfigChanged(
            at, {"trials": 8}, {"seed": 1}, {"grace": 2.0}, [], ["told"], "text"
        ),
        "ControllerStarted": lambda: controller(at),
        "ControllerStarted, with trial 0": lambda: controller(at, [_sampled(0)]),
        "ControllerStarted, with a trial": lambda: controller(at, [_sampled(9)]),
        "TrialSampled": lambda: e.TrialSampled(at, 9, {"lr": 0.1}),
        "TrialSampled, a number again": lambda: e.TrialSampled(at, 0, {"lr": 0.1}),
        "SamplerExhausted": lambda: e.SamplerExhausted(at, "the grid is done"),
        "SamplerExhausted, failed": lambda: e.SamplerExhausted(at, "the storage is gone", failed=True),
        "SlotOffered": lambda: e.SlotOffered(at, "c", "cpu"),
        "SlotOffered, of trial 0": lambda: e.SlotOffered(at, "a", "cpu"),
        "RunLinked": lambda: e.RunLinked(at, 1, "run1"),
        "AttemptStarted": lambda: e.AttemptStarted(at, 1, attempt, 11, 7, "boot"),
        "Reported": lambda: e.Reported(at, 1, attempt, 9, {"acc": 0.5}),
        "Checkpointed": lambda: e.Checkpointed(at, 1, attempt, 9, "trials/1/1/checkpoints/9"),
        "PruneAdvised": lambda: e.PruneAdvised(at, 1, attempt, 9),
        "StallSeen": lambda: e.StallSeen(at, 1, attempt, "nothing moved for 600 s", "trials/1/1/stall"),
        "TimedOut": lambda: e.TimedOut(at, 1, attempt, "its limit of 60 s has passed"),
        "Evicted": lambda: e.Evicted(at, 1, attempt, "its GPU has failed"),
        "RetryDue": lambda: e.RetryDue(at, 1),
        "AttemptEnded": lambda: e.AttemptEnded(at, 1, attempt, code=0),
        "LaunchFailed": lambda: e.LaunchFailed(at, 1, attempt, "the nursery died"),
        "StopAsked": lambda: e.StopAsked(at),
        "StopAsked, now": lambda: e.StopAsked(at, now=True),
        "StopAsked, of a trial": lambda: e.StopAsked(at, 1),
        "DrainAsked": lambda: e.DrainAsked(at),
        "PauseAsked": lambda: e.PauseAsked(at),
        "ResumeAsked": lambda: e.ResumeAsked(at),
        "TimeUp": lambda: e.TimeUp(at),
        "LimitsSet": lambda: e.LimitsSet(at, 8, 2),
        "Enqueued": lambda: e.Enqueued(at, {"lr": 0.2}),
        "LaunchesHeld": lambda: e.LaunchesHeld(at, "the disk is full"),
        "CheckpointDropped": lambda: e.CheckpointDropped(at, 1, "trials/1/1/checkpoints/3", "no room"),
        "Noted": lambda: e.Noted(at, "hello", 1),
    }[name.removesuffix(", next")]()


def _sampled(number: int) -> dict:
    return {"number": number, "params": {"lr": 0.1}, "origin": "sampler"}


def arrive(state: SweepState, situation: str) -> Sweep:
    """A sweep in this state whose trial 1 is in this situation. Until it ends, something is being sampled."""
    sweep = open_sweep(opened(trials=8, slots=3, ahead=2, timeout=1000.0, retries={"CRASHED": 1}))
    history = [
        controller(1.0),
        e.TrialSampled(2.0, 0, {"lr": 0.1}),
        e.SlotOffered(3.0, "a", "cpu"),
        e.AttemptStarted(4.0, 0, 1, 10, 7, "boot"),
        *_TO[situation],
        *_THEN[state],
    ]
    for event in history:
        step(sweep, event)
    if state in _OVER:
        while sweep.asking:
            step(sweep, e.SamplerExhausted(20.0, "the grid is done"))
    return sweep


_WAITING = [e.TrialSampled(5.0, 1, {"lr": 0.2})]
_LAUNCHING = [*_WAITING, e.SlotOffered(6.0, "b", "cpu")]
_RUNNING = [*_LAUNCHING, e.AttemptStarted(7.0, 1, 1, 11, 7, "boot"), e.Reported(8.0, 1, 1, 1, {"acc": 0.3})]
_TO: dict[str, list[e.Event]] = {
    "none": [],
    "waiting": _WAITING,
    "launching": _LAUNCHING,
    "launching told": [*_LAUNCHING, e.StopAsked(9.0, 1)],
    "running": _RUNNING,
    "running told": [*_RUNNING, e.PruneAdvised(9.0, 1, 1, 1)],
    "retrying": [*_RUNNING, e.AttemptEnded(9.0, 1, 1, code=1)],
    "COMPLETE": [*_RUNNING, e.AttemptEnded(9.0, 1, 1, code=0)],
    "PRUNED": [*_RUNNING, e.AttemptEnded(9.0, 1, 1, code=1, acknowledged="prune")],
    "FAIL": [*_RUNNING, e.StopAsked(9.0, 1), e.AttemptEnded(9.5, 1, 1, code=1)],
}
_END = [e.Reported(11.0, 0, 1, 1, {"acc": 0.4}), e.AttemptEnded(12.0, 0, 1, code=0)]
_THEN: dict[SweepState, list[e.Event]] = {
    SweepState.RUNNING: [],
    SweepState.PAUSED: [e.PauseAsked(10.0)],
    SweepState.DRAINING: [e.DrainAsked(10.0)],
    SweepState.STOPPING: [e.StopAsked(10.0)],
    SweepState.FINISHED: [e.DrainAsked(10.0), *_END],
    SweepState.FAILED: [e.SamplerExhausted(10.0, "the storage is gone", failed=True), *_END],
}


def situation_of(trial: Trial | None) -> str:
    if trial is None:
        return "none"
    if trial.state.terminal:
        return trial.state.value
    attempt = trial.attempt
    if attempt is None:
        return "retrying" if trial.attempts else "waiting"
    return attempt.phase.value.lower() + (" told" if attempt.verdict else "")


PLACES = [(state, one) for state in SweepState for one in SITUATIONS if (state, one) not in UNREACHABLE]


def test_the_table_is_complete() -> None:
    assert {name.partition(",")[0] for name in TABLE} == set(e.EVENTS)
    for by_state, by_situation in TABLE.values():
        assert len(by_state.replace(" ", "")) == len(SweepState)
        assert len(by_situation.replace(" ", "")) == len(SITUATIONS)
    said = {situation_of(None), situation_of(Trial(1, {})), "retrying", "COMPLETE", "PRUNED", "FAIL"}
    said |= {f"{p.value.lower()}{told}" for p in (Phase.LAUNCHING, Phase.RUNNING) for told in ("", " told")}
    assert said == set(SITUATIONS) and {s.value for s in TrialState if s.terminal} <= said


@pytest.mark.parametrize(("state", "situation"), PLACES, ids=lambda one: getattr(one, "value", one))
def test_the_place_is_where_it_says(state: SweepState, situation: str) -> None:
    sweep = arrive(state, situation)
    assert (sweep.state, situation_of(sweep.trials.get(1))) == (state, situation)
    check(sweep)
    assert state.ended or sweep.asking


@pytest.mark.parametrize("name", TABLE)
def test_every_event_in_every_place(name: str) -> None:
    by_state, by_situation = (column.replace(" ", "") for column in TABLE[name])
    for state, situation in PLACES:
        sweep = arrive(state, situation)
        event = event_of(name, sweep)
        wanted = by_state[list(SweepState).index(state)] + by_situation[SITUATIONS.index(situation)] == "++"
        where = f"where the sweep is {state.value} and the trial {situation}"
        before = picture(sweep)
        try:
            step(sweep, event)
        except IllegalEvent as error:
            assert not wanted, f"{name} is refused {where}: {error}"
            assert picture(sweep) == before
        else:
            assert wanted, f"{name} is heard {where}"
            check(sweep)


@pytest.mark.parametrize("name", TABLE)
def test_every_event_survives_the_journal(name: str) -> None:
    event = event_of(name, arrive(SweepState.RUNNING, "running"))
    assert through_json(event) == event
    assert through_json(replace(event, at=1763960000.123456)).at == 1763960000.123456


def test_nothing_is_answered_that_was_not_asked() -> None:
    sweep = open_sweep(opened(trials=1))
    step(sweep, controller(1.0))
    step(sweep, e.TrialSampled(2.0, 0, {}))
    for event in (e.TrialSampled(3.0, 1, {}), e.SamplerExhausted(3.0, "done")):
        before = picture(sweep)
        with pytest.raises(IllegalEvent):
            step(sweep, event)
        assert picture(sweep) == before


def test_what_has_no_room_and_no_timeout_is_refused() -> None:
    sweep = open_sweep(opened(trials=1))
    step(sweep, controller(1.0))
    for event in (e.Enqueued(2.0, {"lr": 0.1}), e.TimeUp(2.0)):
        before = picture(sweep)
        with pytest.raises(IllegalEvent):
            step(sweep, event)
        assert picture(sweep) == before
