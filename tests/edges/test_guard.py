"""What the loop looks after once a second, with measurements and a clock of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep import guard as module
from sweep import rundir
from sweep.config.failures import Stall
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Rules, Sweep
from sweep.guard import Guard
from sweep.ports import Load

KEY = (0, 1)
FRESH = 15.0
IDLE = Load(until=0.0, cores=0.0, written=0, device=None)


class Bench:
    """One trial that runs, under a guard whose time is ours."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stall: Stall, **rules: object) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        self.directory = rundir.SweepDir(folder / "s-1")
        self.paths = self.directory.attempt(*KEY)
        self.paths.path.mkdir(parents=True)
        known = {"metrics": ("acc",), "directions": ("maximize",), "trials": 5, "ahead": 0, **rules}
        self.sweep: Sweep = open_sweep(e.SweepOpened(self.now, "s-1", Rules(**known), {}))  # type: ignore[arg-type]
        for event in (
            e.ControllerStarted(self.now, 1, 1, "boot"),
            e.SlotOffered(self.now, "cpu-0", "cpu-0"),
            e.TrialSampled(self.now, 0, {}),
            e.AttemptStarted(self.now, *KEY, os.getpid(), 1, "boot"),
        ):
            step(self.sweep, event)
        self.load: Load | None = None
        self.guard = Guard(self.directory, stall, lambda: {} if self.load is None else {KEY: self.load})

    def look(self, seconds: float, every: float = 1.0, measured: Load | None = IDLE) -> list[e.Event]:
        """What is said in so many seconds, look by look; a thread that keeps evidence is waited for."""
        said: list[e.Event] = []
        until = self.now + seconds
        while self.now < until:
            self.now += every
            if measured is not None:
                self.load = Load(self.now + FRESH, measured.cores, measured.written, measured.device)
            said += self.guard.look(self.sweep, self.now)
            for patient in self.guard._patients.values():
                if patient.examination is not None:
                    patient.examination.join()
        return said


@pytest.fixture(autouse=True)
def no_evidence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module.stacks, "gather", lambda paths, pid: (paths.path, "f (train.py:1)"))
    yield


def test_a_stall_is_said_with_where_and_for_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0))
    assert bench.look(58) == []
    seen = bench.look(4)[0]
    assert isinstance(seen, e.StallSeen) and seen.evidence == "trials/0/1"
    assert seen.why.startswith("hangs in f (train.py:1): for 6") and seen.why.endswith(
        "nothing written, its CPU idle"
    )
    step(bench.sweep, seen)
    assert bench.look(60) == [], "once it is said, that is all"


def test_what_nobody_has_measured_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0))
    assert bench.look(1000, measured=None) == []
    bench.look(40)
    assert bench.look(1000, measured=None) == [], "the gauge hangs itself, its last word holds for a moment only"
    assert bench.look(3) == [] and bench.look(10)


def test_where_no_measurement_counts_none_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0, signs=["report", "output"]))
    assert bench.look(70, measured=None)


def test_output_that_comes_at_the_last_moment_saves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0))
    for _ in range(5):
        assert bench.look(59) == []
        with bench.paths.output.open("a") as file:
            file.write("one more line\n")
    assert bench.look(62)


def test_what_wakes_up_while_its_evidence_is_kept_is_let_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0))
    while not bench.guard._patients or bench.guard._patients[KEY].examination is None:
        assert bench.look(1) == []
    assert bench.look(5, measured=Load(0, 1.0, 0, None)) == []
    assert bench.guard._patients[KEY].examination is None
    assert bench.look(58) == [] and bench.look(5)


def test_a_warning_is_said_once_a_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall(after=60.0, action="warn"))
    (said,) = bench.look(1000)
    assert isinstance(said, e.Noted) and said.trial == 0
    bench.look(2, measured=Load(0, 1.0, 0, None))
    assert len(bench.look(1000)) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 50.0), st.floats(5.1, 1e5)), max_size=8))
def test_a_controller_that_is_often_away_never_makes_a_stall(
    tmp_path_factory: pytest.TempPathFactory, spells: list[tuple[float, float]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module.stacks, "gather", lambda paths, pid: (paths.path, ""))
        bench = Bench(tmp_path_factory.mktemp("away"), monkeypatch, Stall(after=60.0))
        for there, away in spells:
            assert bench.look(there) == []
            assert bench.look(away, every=away) == []


def test_a_budget_is_said_once_and_limits_of_time_come_before_a_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(
        tmp_path, monkeypatch, Stall(after=60.0), slot_hours=50 / 3600, attempt_timeout=60.0, trial_timeout=70.0
    )
    assert bench.look(49) == []
    (up,) = bench.look(1)
    assert up == e.TimeUp(bench.now, budget=True)
    step(bench.sweep, up)
    assert bench.look(9) == []
    (late,) = bench.look(1)
    assert late == e.TimedOut(bench.now, *KEY, "its attempt_timeout of 60 s has passed")
    step(bench.sweep, late)
    assert bench.look(60) == []


def test_the_pace_of_before_a_resume_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, Stall())
    for number in range(1, 4):
        step(bench.sweep, e.Reported(1000.0 + 100 * number, *KEY, number, {"acc": 1.0}))
    bench.now = 1400.0
    assert bench.look(1990) == [] and bench.look(20), "20 times 100 s"
