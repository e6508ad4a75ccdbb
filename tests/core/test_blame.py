"""Which device is to blame: histories of attempts, each as (trial, device, launched, ended or None, outcome)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from world import World, opened

from sweep.core.blame import doubted, failed_by_itself, may_be_a_device, slow, to_blame
from sweep.core.effects import Launch
from sweep.core.events import AttemptEnded, Evicted, SlotOffered
from sweep.core.machine import open_sweep
from sweep.core.model import Attempt, Outcome, Phase, Sweep, SweepState, Trial, Verdict

Row = tuple[int, str, float, float | None, Outcome | None]


def sweep_of(*rows: Row) -> Sweep:
    sweep = open_sweep(opened())
    for number, device, launched, ended, outcome in rows:
        trial = sweep.trials.setdefault(number, Trial(number, {}))
        phase = Phase.RUNNING if ended is None else Phase.ENDED
        attempt = Attempt(len(trial.attempts) + 1, device, device, phase, launched=launched, ended=ended)
        attempt.outcome = outcome
        trial.attempts.append(attempt)
        if ended is None:
            sweep.live.add(number)
    return sweep


def crashed(*numbers: int, device: str = "bad", first: float = 0.0) -> list[Row]:
    """One after another, a second each."""
    return [
        (number, device, first + place, first + place + 1, Outcome.CRASHED) for place, number in enumerate(numbers)
    ]


def well(count: int, device: str = "good", first: int = 100) -> list[Row]:
    return [(first + number, device, 0.0, 9.0, Outcome.COMPLETED) for number in range(count)]


def living(count: int, launched: float = 0.0) -> list[Row]:
    return [(200 + number, f"good-{number}", launched, None, None) for number in range(count)]


def last(number: int = 2, at: float = 10.0) -> AttemptEnded:
    return AttemptEnded(at, number, 1, code=1)


NOW: Row = (2, "bad", 9.0, None, None)  # what is about to end


@pytest.mark.parametrize(
    ("rows", "blamed"),
    [
        ([*crashed(0, 1), *well(13)], True),
        ([*crashed(0, 1), *well(11), (110, "good", 0.0, 9.0, Outcome.PRUNED), *living(1)], True),
        ([*crashed(0, 1, 3, 4), *living(3)], True),  # the first trials of a sweep: they outlive those that fail
        ([*crashed(0), (9, "bad", 1.0, 2.0, Outcome.LOST), *crashed(1, first=2.0), *well(13)], True),
        ([*crashed(0, 1, first=3.0), (9, "bad", 0.0, 2.0, Outcome.COMPLETED), *well(13)], True),
        # not enough of them, or not in a row
        ([*crashed(0), *well(50)], False),
        ([*crashed(0, 1), *well(12)], False),
        ([*crashed(0, 1), (9, "bad", 2.0, 3.0, Outcome.COMPLETED), *well(50)], False),
        ([*crashed(0, 1), (9, "bad", 2.0, 3.0, Outcome.PRUNED), *well(50)], False),
        ([(0, "bad", 0.0, 1.0, Outcome.OOM), *crashed(1, first=2.0), *well(50)], False),
        ([(0, "bad", 0.0, 1.0, Outcome.LOST), *crashed(1, first=2.0), *well(50)], False),
        # nobody knows how it goes elsewhere
        ([*crashed(0, 1)], False),
        ([*crashed(*range(3, 60))], False),
        ([*crashed(*range(3, 60)), *crashed(60, 61, 62, device="good")], False),
        # of two devices, the other must have outlived more of them
        ([*crashed(0, 1, 3, 4, 5), *living(1)], False),
        ([*crashed(0, 1, 3, 4, 5, 6), *living(1)], True),
        ([*crashed(0, 1), *living(3, launched=9.5)], False),
        # elsewhere it goes no better: the script is broken, or fails now and then
        ([*crashed(0, 1), *crashed(*range(20, 30), device="good")], False),
        ([*crashed(0, 1), *well(6), *crashed(*range(20, 24), device="good")], False),
        ([*crashed(0, 1), *well(150), *crashed(*range(20, 40), device="good")], False),
        ([*crashed(0, 1, 3), *well(150), *crashed(*range(20, 40), device="good")], False),
        ([*crashed(0, 1, 3, 4), *well(150), *crashed(*range(20, 40), device="good")], True),
    ],
)
def test_which_device_is_to_blame(rows: list[Row], blamed: bool) -> None:
    assert bool(to_blame(sweep_of(*rows, NOW), last())) is blamed


def test_one_trial_that_fails_again_and_again_says_nothing_of_the_device() -> None:
    rows = [(2, "bad", float(at), at + 1.0, Outcome.CRASHED) for at in range(5)]
    assert not to_blame(sweep_of(*rows, *well(50), NOW), AttemptEnded(10.0, 2, 6, code=1))


def test_who_was_sent_away_neither_failed_nor_went_well() -> None:
    sweep = sweep_of((0, "bad", 0.0, 1.0, Outcome.LOST), *crashed(1, first=2.0), *well(13), NOW)
    sweep.trials[0].attempts[0].verdict = Verdict.MOVE
    assert not to_blame(sweep, last())


def test_who_was_killed_from_outside_speaks_neither_for_nor_against_the_device() -> None:
    sweep = sweep_of(*crashed(0, 1), *well(13), NOW)
    assert to_blame(sweep, last())
    for end in (AttemptEnded(10.0, 2, 1, signal=9), AttemptEnded(10.0, 2, 1), replace(last(), hint="limit")):
        assert not to_blame(sweep, end)
    sweep.trials[1].attempts[0].outside = True
    assert not to_blame(sweep, last())


DEVICE_AND_SCRIPT: list[tuple[list[Row], bool]] = [
    ([*crashed(0, 1, 2), *living(1)], True),
    ([*crashed(0, 1, 2), *living(1, launched=99.0)], True),  # it is waited for its end
    ([*crashed(0, 1, 2)], False),  # nobody is there to tell
    ([*crashed(0, 1, 2), (9, "bad", 0.0, None, None)], False),
    ([*crashed(0, 1), *crashed(2, device="good"), *living(1)], False),
    ([*crashed(0, 1, 2, device="cpu-0"), (9, "cpu-1", 0.0, None, None)], False),
    ([*crashed(0, 1, 2, device="a,b"), (9, "c,d", 0.0, None, None)], False),
]


@pytest.mark.parametrize(("rows", "device"), DEVICE_AND_SCRIPT)
def test_first_failures_that_may_be_a_devices_are_told_from_a_scripts(rows: list[Row], device: bool) -> None:
    assert may_be_a_device(sweep_of(*rows)) is device


def test_who_fails_by_chance_alone_is_hardly_ever_blamed() -> None:
    chance, blamed = random.Random(3), 0
    for rate in (0.1, 0.5, 0.8):
        for _ in range(15):
            sweep = sweep_of()
            for number in range(150):
                device, at = chance.choice("ab"), float(number)
                attempt = Attempt(1, device, device, launched=at - chance.random(), ended=at)
                sweep.trials[number] = Trial(number, {}, attempts=[attempt])
                attempt.outcome = Outcome.CRASHED if chance.random() < rate else Outcome.COMPLETED
                if attempt.outcome is Outcome.CRASHED and to_blame(sweep, AttemptEnded(at, number, 1, code=1)):
                    blamed += 1
                    break
    assert blamed <= 2, "of 45 sweeps"


def test_a_device_is_doubted_while_the_newest_on_it_has_failed() -> None:
    sweep = sweep_of(*crashed(0), (1, "good", 0.0, 5.0, Outcome.COMPLETED), *crashed(2, device="mended"))
    assert doubted(sweep) == set(), "nothing is looked at before a first failure"
    sweep.failures = 1
    assert doubted(sweep) == {"bad", "mended"}
    sweep.trials[3] = Trial(3, {}, attempts=[Attempt(1, "mended", "mended", ended=9.0, outcome=Outcome.COMPLETED)])
    assert doubted(sweep) == {"bad"}


def test_a_sweep_waits_with_fail_fast_until_it_knows_whether_it_is_the_device() -> None:
    from history import begin, crash, sample

    def launch(world: World, device: str) -> tuple[int, int]:
        sample(world)
        orders = world.feed(SlotOffered(world.time(), world.free()[0], device))
        key = next((order.trial, order.attempt) for order in orders if isinstance(order, Launch))
        world.start(key)
        return key

    world = begin(slots=2, trials=20, fail_fast=2)
    elsewhere = launch(world, "good")
    for _ in range(4):
        crash(world, launch(world, "bad"))
    assert world.sweep.state is SweepState.RUNNING
    crash(world, elsewhere)
    assert world.sweep.why.startswith("the first 5 trials failed alike"), "everywhere: it is the script"


@pytest.mark.parametrize(
    ("end", "verdict", "itself"),
    [
        (AttemptEnded(1.0, 0, 1, code=1), None, True),
        (AttemptEnded(1.0, 0, 1, signal=11), None, True),
        (AttemptEnded(1.0, 0, 1), None, True),
        (AttemptEnded(1.0, 0, 1, code=0), None, False),
        (AttemptEnded(1.0, 0, 1, code=1, hint="oom"), None, False),
        (AttemptEnded(1.0, 0, 1, code=1, acknowledged="prune"), None, False),
        (AttemptEnded(1.0, 0, 1, signal=15, signalled=True), None, False),
        (AttemptEnded(1.0, 0, 1, code=1), Verdict.STOP, False),
    ],
)
def test_who_failed_by_itself(end: AttemptEnded, verdict: Verdict | None, itself: bool) -> None:
    assert failed_by_itself(Attempt(1, "s", "d", verdict=verdict), end) is itself


@pytest.mark.parametrize(
    ("seconds", "lines", "attempts", "named"),
    [(40, 20, 3, True), (25, 20, 3, False), (40, 19, 3, False), (40, 20, 2, False)],
)
def test_a_device_is_slow_by_many_reports_of_several_attempts(
    seconds: float, lines: int, attempts: int, named: bool
) -> None:
    sweep = sweep_of(*well(3), *well(attempts, device="slow", first=50))
    for trial in sweep.trials.values():
        (one,) = trial.attempts
        one.started, one.heard, one.lines = 0.0, seconds if one.device == "slow" else 10.0, lines
    assert bool(slow(sweep, "slow")) is named and not slow(sweep, "good")


def test_an_eviction_survives_the_journal_and_retries_without_end() -> None:
    from history import begin, run

    world = begin(trials=1, retries={})
    for attempt in range(1, 6):
        key = run(world) if attempt == 1 else (0, attempt)
        world.feed(Evicted(world.time(), *key, "somebody computes on it"))
        world.feed(AttemptEnded(world.time(), *key, code=1, acknowledged="stop"))
        trial = world.sweep.trials[0]
        assert trial.attempts[attempt - 1].outcome is Outcome.LOST and not trial.state.terminal
        if not world.launches:
            run(world)
        else:
            world.start(next(iter(world.launches)))
    assert world.sweep.taken > 0, "the slots that it had are paid for"
