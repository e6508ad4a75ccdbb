"""How many trials share a device: what fits, and what makes them fewer again."""

from __future__ import annotations

import pytest
from history import begin, names, sample
from hypothesis import given
from hypothesis import strategies as st
from world import World

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Outcome, TrialState
from sweep.core.sharing import GAIN, MARGIN, MOST, SOLO, Sample, Sharing, fitting

GB = 1e9


def solo(peak: float, rate: float = 0.0) -> Sample:
    return Sample(peak, 1, 1.0, rate)


def shared(by: int, rate: float, mean: float | None = None) -> Sample:
    return Sample(70 * GB, by, by if mean is None else mean, rate)


def told(sharing: Sharing, *samples: Sample) -> list[str]:
    return [said for one in samples if (said := sharing.learn(one))]


@given(st.lists(st.floats(0, 1e12), min_size=1), st.floats(1, 1e12))
def test_what_fits_leaves_the_margin_and_one_more_would_not(peaks: list[float], memory: float) -> None:
    number = fitting(peaks, memory)
    assert 1 <= number <= MOST
    if number > 1:
        assert number * max(peaks) <= memory * (1 - MARGIN) * 1.000001
    if number < MOST:
        assert (number + 1) * max(*peaks, 1.0) > memory * (1 - MARGIN) * 0.999999


samples = st.builds(
    Sample, st.floats(0, 2e11), st.integers(0, MOST), st.floats(0, MOST), st.floats(0, 1e3), st.booleans()
)


@given(st.lists(samples), st.floats(1e9, 2e11))
def test_it_is_raised_once_and_then_only_lowered_and_every_change_is_said(
    all_: list[Sample], memory: float
) -> None:
    sharing = Sharing(memory)
    levels = [sharing.level]
    for place, one in enumerate(all_):
        said = sharing.learn(one)
        assert 1 <= sharing.level <= MOST
        if sharing.level != levels[-1]:
            assert said.startswith(f"{sharing.level} trials share" if sharing.level > 1 else "each trial has")
            alone = [one for one in all_[: place + 1] if one.most == 1 and not one.crowded]
            assert sharing.level < levels[-1] or len(alone) == SOLO
        levels.append(sharing.level)
    assert sum(levels[place] < levels[place + 1] for place in range(len(all_))) <= 1


def test_the_first_run_alone_and_then_as_many_as_fit() -> None:
    sharing = Sharing(80 * GB)
    assert told(sharing, solo(4 * GB)) == [] and sharing.level == 1
    assert told(sharing, solo(20.1 * GB)) == ["3 trials share a device now: one took 20.1 of 80.0 GB"]
    assert told(sharing, solo(5 * GB)) == []
    assert told(sharing, solo(30 * GB)) == ["2 trials share a device now: one took 30.0 of 80.0 GB"]
    large = Sharing(80 * GB)
    assert told(large, solo(50 * GB), solo(50 * GB)) == [
        "each trial has a device of its own now: one took 50.0 of 80.0 GB"
    ]
    assert told(large, solo(1 * GB)) == [] and large.level == 1


def test_trials_too_short_to_be_measured_stay_alone_and_that_is_said_once() -> None:
    sharing = Sharing(80 * GB)
    said = ["each trial has a device of its own now: they end before they can be measured"]
    assert told(sharing, *[Sample(0.0, 0, 0.0, 9.0)] * 20) == said and sharing.level == 1
    told(sharing, solo(20 * GB), solo(20 * GB))
    assert sharing.level == 3, "until there are two that were"


def test_memory_that_runs_out_beside_others_makes_them_fewer() -> None:
    sharing = Sharing(80 * GB)
    told(sharing, solo(20 * GB), solo(20 * GB))
    out = Sample(75 * GB, 3, 3.0, 0.0, crowded=True)
    assert told(sharing, out) == ["2 trials share a device now: memory ran out beside others"]
    assert told(sharing, out, out) == ["each trial has a device of its own now: memory ran out beside others"]


@pytest.mark.parametrize(("rate", "level"), [(1.0, 4), (GAIN / 4 + 0.001, 4), (0.25, 2), (0.1, 2)])
def test_sharing_stays_where_more_gets_done_by_it(rate: float, level: int) -> None:
    sharing = Sharing(80 * GB)
    told(sharing, solo(16 * GB, 1.0), solo(16 * GB, 1.0))
    assert sharing.level == 4
    told(sharing, *[shared(4, rate)] * 4)
    assert sharing.level == level
    if level == 2:
        said = told(sharing, *[shared(4, 0.1)] * 9, *[shared(2, 0.5)] * 2)
        assert said == ["each trial has a device of its own now: 1 reports per second together, 1 alone"]
    else:
        assert told(sharing, *[shared(4, 0.0)] * 9) == [], "it was settled"


def test_trials_that_report_nothing_are_not_judged_by_their_reports() -> None:
    sharing = Sharing(80 * GB)
    told(sharing, solo(16 * GB), solo(16 * GB))
    assert told(sharing, *[shared(4, 0.0)] * 9) == [] and sharing.level == 4


# ---- the trial whose memory ran out beside others


def crowd(slots: tuple[str, ...] = ("g.0", "g.1"), **rules: object) -> World:
    world = begin(slots=0, trials=6, ahead=0, **rules)
    for slot in slots:
        world.feed(e.SlotOffered(world.time(), slot, "G"))
        sample(world)
    for key in [(number, 1) for number in sorted(world.sweep.live)]:
        world.start(key)
    return world


def out_of_memory(world: World, key: tuple[int, int], *, crowded: bool = True) -> list[do.Effect]:
    return world.feed(
        e.AttemptEnded(world.time(), *key, code=1, cause="out of memory", hint="oom", crowded=crowded)
    )


def test_it_is_tried_again_alone_and_that_is_not_charged() -> None:
    world = crowd(retries={"OOM": 1}, fail_fast=1)
    out_of_memory(world, (0, 1))
    trial = world.sweep.trials[0]
    assert trial.state is TrialState.WAITING and trial.alone and "on a device of its own" in trial.why
    assert world.sweep.ready[0] == 0 and world.sweep.wants_whole()
    assert names(world.feed(e.SlotOffered(world.time(), "g.0", "G"))) == ["Release"], "that would not do"
    assert "Launch" in names(world.feed(e.SlotOffered(world.time(), "h", "H")))
    assert trial.attempts[-1].slot == "h" and not world.sweep.wants_whole()
    world.start((0, 2))
    out_of_memory(world, (0, 2))
    assert not trial.attempts[-1].crowded and trial.state is TrialState.WAITING, "this one is charged: one retry"
    world.feed(e.SlotOffered(world.time(), "h", "H"))
    world.start((0, 3))
    out_of_memory(world, (0, 3))
    assert trial.state is TrialState.FAIL and [a.outcome for a in trial.attempts] == [Outcome.OOM] * 3


def test_shares_that_lie_idle_are_given_back_for_it() -> None:
    world = crowd()
    world.complete((1, 1))
    world.feed(e.SlotOffered(world.time(), "g.1", "G"))  # waits for the sampler
    assert list(world.sweep.offers) == ["g.1"]
    assert do.Release("g.1") in out_of_memory(world, (0, 1))
    assert not world.sweep.offers and world.sweep.demand()


def test_alone_it_is_as_ever() -> None:
    world = crowd(fail_fast=0)
    out_of_memory(world, (0, 1), crowded=False)
    assert world.sweep.trials[0].state is TrialState.FAIL
