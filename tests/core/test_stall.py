"""Pulse: when an attempt counts as hung."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.core.stall import FLOOR, GAP, INTERVALS, Pulse, Signs

ALL = ("report", "output", "checkpoint", "device", "cpu")
IDLE = Signs(reports=0, output=0, written=0, cores=0.0, device=0.0)
HOUR = 3600.0


def seen(*looks: Signs, passed: float = 1.0) -> Pulse:
    pulse = Pulse()
    for signs in looks:
        pulse.look(signs, passed)
    return pulse


@pytest.mark.parametrize(
    ("sign", "alive"),
    [
        ("report", {"reports": 1}),
        ("report", {"reports": -1}),
        ("output", {"output": 1}),
        ("output", {"output": -1}),  # a script that begins its log anew
        ("checkpoint", {"written": 1}),
        ("checkpoint", {"written": -1}),  # a process that had written has ended
        ("cpu", {"cores": 0.06}),
        ("cpu", {"cores": None}),  # not known yet
        ("device", {"device": 0.03}),
    ],
)
def test_one_sign_is_enough_to_live_and_only_where_it_counts(sign: str, alive: dict[str, Any]) -> None:
    pulse = seen(IDLE, IDLE, replace(IDLE, **alive))
    assert pulse.silence(ALL) == pulse.silence([sign]) == 0.0
    assert pulse.silence([other for other in ALL if other != sign]) == 3.0


@pytest.mark.parametrize("idle", [{"cores": 0.05}, {"device": 0.02}, {"device": None}, {}])
def test_idling_is_no_sign(idle: dict[str, Any]) -> None:
    assert seen(IDLE, replace(IDLE, **idle)).silence(ALL) == 2.0


def test_what_was_seen_first_is_no_news() -> None:
    pulse = Pulse()
    pulse.look(Signs(10, 1000, 5000, 0.0, None), 1.0)
    assert pulse.silence(ALL) == 1.0


def test_the_clocks_restart_where_nobody_looked() -> None:
    pulse = seen(*[IDLE] * 500)
    assert pulse.silence(ALL) == 500.0
    pulse.look(IDLE, HOUR)
    assert pulse.silence(ALL) == 0.0
    pulse.look(IDLE, 1.0)
    assert pulse.silence(ALL) == 1.0


def reporting(every: int, count: int, pulse: Pulse | None = None) -> Pulse:
    pulse = pulse or Pulse()
    for second in range(every * count + 1):
        pulse.look(replace(IDLE, reports=second // every), 1.0)
    return pulse


@pytest.mark.parametrize(
    ("every", "limit"), [(1, FLOOR), (30, FLOOR), (60, 60 * INTERVALS), (300, 300 * INTERVALS)]
)
def test_the_trials_own_pace_says_what_is_too_long(every: int, limit: float) -> None:
    assert reporting(every, 5).too_long(None) == limit


def test_the_user_says_it_better_and_the_floor_holds_before_the_first_report() -> None:
    assert reporting(300, 5).too_long(7.0) == 7.0
    assert Pulse().too_long(None) == FLOOR


def test_one_long_pause_and_a_burst_do_not_change_the_pace() -> None:
    pulse = reporting(60, 5)
    for second in range(1, 2001):
        pulse.look(replace(IDLE, reports=5 + second // 2000), 1.0)
    pulse.look(replace(IDLE, reports=50), 1.0)
    assert pulse.too_long(None) == 60 * INTERVALS


def test_what_came_while_nobody_looked_has_no_pace() -> None:
    pulse = reporting(60, 3)
    pulse.look(replace(IDLE, reports=1000), HOUR)
    pulse.look(replace(IDLE, reports=1001), 1.0)
    assert pulse.too_long(None) == 60 * INTERVALS


def test_the_pace_is_known_to_the_next_controller() -> None:
    assert Pulse(pace=1800.0).too_long(None) == 1800 * INTERVALS
    assert reporting(60, 5, Pulse(pace=1800.0)).too_long(None) == 60 * INTERVALS


counts = st.integers(0, 3)
looks = st.lists(
    st.tuples(
        st.builds(
            Signs,
            counts,
            counts,
            counts,
            st.sampled_from([None, 0.0, 0.04, 1.0]),
            st.sampled_from([None, 0.0, 0.5]),
        ),
        st.floats(0.0, 2 * HOUR, allow_nan=False),
    ),
    max_size=30,
)
some = st.sets(st.sampled_from(ALL), min_size=1)


@given(looks, some)
def test_silence_is_never_more_than_what_was_looked_through_since_the_last_gap(
    seen: list[tuple[Signs, float]], signs: set[str]
) -> None:
    pulse, most = Pulse(), 0.0
    for one, passed in seen:
        pulse.look(one, passed)
        most = 0.0 if passed > GAP else most + passed
        assert 0.0 <= pulse.silence(signs) <= most + 1e-6
        assert pulse.too_long(None) >= FLOOR


@given(looks, some, some)
def test_more_signs_never_make_a_longer_silence(
    seen: list[tuple[Signs, float]], signs: set[str], more: set[str]
) -> None:
    pulse = Pulse()
    for one, passed in seen:
        pulse.look(one, passed)
        assert pulse.silence(signs | more) <= pulse.silence(signs)


@given(looks, st.sampled_from(ALL))
def test_a_look_at_a_living_one_ends_the_silence(seen: list[tuple[Signs, float]], sign: str) -> None:
    pulse = Pulse()
    for one, passed in seen:
        pulse.look(one, passed)
    last = seen[-1][0] if seen else IDLE
    alive = {"report": "reports", "output": "output", "checkpoint": "written"}
    pulse.look(last, 1.0)
    grown = {alive[sign]: 9} if sign in alive else {"cores" if sign == "cpu" else "device": 1.0}
    pulse.look(replace(last, **grown), 1.0)
    assert pulse.silence([sign]) == 0.0
