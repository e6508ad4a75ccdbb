"""The live table: it fits whatever terminal there is, says what it leaves out, and shows only what is true."""

from __future__ import annotations

import io
import json
import math
import random
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_story import Story, usual
from rich.cells import cell_len
from rich.console import Console

from sweep.cli import words
from sweep.cli.estimate import Lifetimes, makespan
from sweep.cli.live import LiveTable, can_draw, render
from sweep.cli.snapshot import CURVE, Camera, Observer, Snapshot, Vitals
from sweep.core import events as e
from sweep.core.model import TrialState
from sweep.rundir import SweepDir


def drawn(picture: Snapshot, width: int = 80, height: int = 24, **options: Any) -> list[str]:
    """The lines on an unstyled terminal."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(render(picture, width, height, **options))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def picture_of(story: Story, **vitals: Any) -> Snapshot:
    picture = Camera(story.sweep).snapshot(story.now)
    if not vitals:
        return picture
    return replace(picture, running=tuple(replace(row, vitals=Vitals(**vitals)) for row in picture.running))


def forty(draw: random.Random) -> dict[str, Any]:
    return {f"{'层' if n % 3 else 'layer'}_{n}_dropout_before_the_head": draw.random() for n in range(40)}


STORIES = {
    "two slots": Story().train(13),
    "nothing yet": Story(slots=0),
    "64 slots": Story(slots=64, trials=500, slot_name="GPU-5f3a9c1e-77aa-4f2b-9b0c-{:012}").train(90),
    "40 parameters": Story(params=forty, metrics=("eval/validation_set/macro_f1_over_all_classes",)).train(20),
    "Chinese": Story(
        metrics=("验证准确率",),
        params=lambda draw: {"优化器": "带动量的随机梯度下降" * 3, "学习率": draw.random()},
    ).train(20),
    "two objectives": Story(metrics=("acc", "ms"), directions=("maximize", "minimize"), trials=None).train(30),
    "a job": Story(metrics=(), directions=(), trials=1, slots=1, params=lambda draw: {}),
    "hostile": Story(
        params=lambda draw: {"a\x1b[2Jb": "\x1b]0;x\x07\r\n[red]y[/red]", "tab": "\t" * 50, "e": "e\u0301" * 90}
    ).train(20),
}


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("width", [20, 40, 80, 100, 200, 321])
@pytest.mark.parametrize("height", [6, 12, 24, 50, 120])
def test_fits_the_terminal(name: str, width: int, height: int) -> None:
    vitals = {
        "cpu": 11.25,
        "memory": 3e10,
        "device_utilisation": 1.0,
        "device_memory": 8e10,
        "curve": tuple(map(float, range(40))),
    }
    lag = {"events": 10**9, "since": 0, "error": "refused " * 90}
    picture = replace(picture_of(STORIES[name], **vitals), notices=("看" * 200, "x" * 400), mlflow=lag)
    lines = drawn(picture, width, height, detach=True)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert not any("\x1b" in line for line in lines)


def test_shows_slots_trials_values_and_how_long_they_run() -> None:
    story = Story()
    story.wait(75)
    story.report(0, 4, val_acc=0.75)
    story.report(0, 5, val_acc=0.5)
    lines = drawn(picture_of(story, cpu=1.5, memory=2**30, curve=(0.1, 0.75, 0.5)))
    assert lines[0].split()[:2] == ["ocr-rec-3", "running"]
    assert "slot   trial  try  step  val_acc    best  trend        time  cores   mem" in lines[4]
    assert lines[5].split() == ["cpu-0", "0", "1", "5", "0.5000", "0.7500", "▁▇▅", "1:15", "1.5", "1.0G"]
    assert lines[6].split()[:3] == ["cpu-1", "1", "1"]


@pytest.mark.parametrize(
    ("slot", "shown"),
    [
        ("gpu-9f8aaaaa-1111-2222-3333-444444444444+gpu-1bcbbbbb-1111-2222-3333-555555555555", "gpu…4444+gpu…5555"),
        ("cpu-0+cpu-1", "cpu-0+cpu-1"),
        ("+".join(f"gpu-{n}" for n in range(8)), "gpu-0 + 7 more"),
    ],
)
def test_a_trial_on_several_devices_shows_them(slot: str, shown: str) -> None:
    picture = picture_of(Story(slots=1))
    line = drawn(replace(picture, running=(replace(picture.running[0], slot=slot),)))[5]
    assert line.strip().startswith(f"{shown}  ")


def test_says_what_was_told_to_an_attempt() -> None:
    story = Story()
    story.do(e.PruneAdvised(story.now, 0, 1, 3))
    story.do(e.StopAsked(story.now, 1))
    lines = drawn(picture_of(story))
    assert "pruning" in lines[5]
    assert "stopping" in lines[6]


def test_a_value_that_is_no_number_is_shown_as_such() -> None:
    story = Story()
    story.report(0, 1, val_acc=math.nan)
    assert drawn(picture_of(story))[5].split()[4] == "nan"


def test_more_slots_than_rows_are_folded_and_counted() -> None:
    lines = drawn(picture_of(STORIES["64 slots"]), 80, 24)
    rows = [line for line in lines if line.startswith(" GPU-")]
    (folded,) = [line for line in lines if " more" in line]
    assert len(rows) >= 5
    assert int(folded.split()[1]) + len(rows) == 64


def test_of_many_slots_those_that_got_furthest_are_shown() -> None:
    story = Story(slots=64, trials=500)
    story.report(50, 9, val_acc=0.9)
    story.report(51, 1, val_acc=0.2)
    lines = drawn(picture_of(story), 80, 14)
    assert any(line.startswith(" cpu-50 ") for line in lines)
    assert any("+ 5" in line and "more" in line for line in lines)


def test_a_wide_terminal_shows_all_64_slots_in_two_tables() -> None:
    lines = "\n".join(drawn(picture_of(Story(slots=64, trials=500)), 200, 50))
    assert all(f"cpu-{n} " in lines for n in range(64))
    assert "more" not in lines


def test_slots_stand_in_the_order_of_their_numbers() -> None:
    lines = drawn(picture_of(Story(slots=12)))
    rows = [line.split()[0] for line in lines if line.startswith(" cpu-")]
    assert rows == sorted(rows, key=lambda name: int(name[4:]))


def test_40_parameters_are_cut_and_the_rest_is_counted() -> None:
    story = Story(params=lambda draw: {f"p{n:02}": n for n in range(40)}, trials=3, slots=1)
    story.complete(0, 0.9)
    text = "\n".join(drawn(picture_of(story), 60, 24))
    shown = sum(f" p{n:02} {n} " in text.replace("\n", " \n") for n in range(40))
    assert f"+ {40 - shown} more" in text
    assert 5 < shown < 40


def test_constants_of_the_space_are_not_repeated_for_every_trial() -> None:
    space = {"epochs": {"type": "constant", "value": 20}, "lr": {"type": "float", "low": 0, "high": 1}}
    story = Story(config={"space": space}, params=lambda draw: {"epochs": 20, "lr": 0.25}, slots=1)
    story.complete(0, 0.9)
    text = "\n".join(drawn(picture_of(story)))
    assert "lr 0.25" in text
    assert "epochs" not in text


def test_what_ended_last_comes_first_with_its_why() -> None:
    story = Story(fail_fast=0)
    story.complete(0, 0.875)
    story.end(1, code=1, cause="ValueError: \x1b[31mno data\x1b[0m")
    lines = drawn(picture_of(story))
    title = next(place for place, line in enumerate(lines) if line.split()[:2] == ["trial", "ended"])
    assert lines[title + 1].split()[:2] == ["1", "failed"]
    assert "ValueError: no data (exit code 1)" in lines[title + 1]
    assert lines[title + 2].split()[:4] == ["0", "complete", "0.8750", "10"]


def test_the_bar_and_the_counts_agree() -> None:
    story = Story(trials=20).train(10)
    lines = drawn(picture_of(story))
    bar = lines[1].removesuffix(" 10 of 20").strip()
    assert bar.count("━") == pytest.approx(bar.count("─"), abs=1)
    counts = {word: int(n) for n, word in zip(lines[2].split()[::2], lines[2].split()[1::2], strict=True)}
    by_state = story.sweep.counts
    assert counts == {
        "complete": by_state[TrialState.COMPLETE],
        "pruned": by_state[TrialState.PRUNED],
        "failed": by_state[TrialState.FAIL],
        "running": 2,
        "waiting": 8,
    }


def test_keys_are_those_that_work_now() -> None:
    story = Story()
    assert drawn(picture_of(story))[-1].split("  ")[0] == " Ctrl-C"
    assert "detach" not in drawn(picture_of(story))[-1]
    assert "d  detach" in drawn(picture_of(story), detach=True)[-1]
    assert "the sweep goes on" in drawn(picture_of(story), attached=True)[-1]
    story.do(e.DrainAsked(story.now))
    assert "stop the running trials" in drawn(picture_of(story))[-1]
    story.do(e.StopAsked(story.now))
    assert "Ctrl-C" not in drawn(picture_of(story))[-1]


def test_mlflow_is_mentioned_only_when_it_is_late_or_in_trouble() -> None:
    quiet = picture_of(Story())
    assert "MLflow" not in "".join(drawn(replace(quiet, mlflow={"events": 3, "since": None, "error": None})))
    late = drawn(replace(quiet, mlflow={"events": 2140, "since": None, "error": None}))
    assert any("MLflow is 2140 events behind" in line for line in late)
    broken = drawn(replace(quiet, mlflow={"events": 1, "since": quiet.at - 31, "error": "refused"}))
    assert any("MLflow is 1 event behind for 0:31: refused" in line for line in broken)


def test_meaning_does_not_hang_on_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    console.print(render(picture_of(Story().train(13)), 100, 30))
    output = console.file
    assert isinstance(output, io.StringIO)
    assert not any(f"\x1b[{code}m" in output.getvalue() for code in range(30, 38))
    for word in ("running", "complete", "pruned", "failed"):
        assert word in output.getvalue()


# ---- pictures ------------------------------------------------------------------------------------------------


def test_a_picture_does_not_change_when_the_sweep_goes_on() -> None:
    story = Story().train(13)
    picture = picture_of(story)
    before = drawn(picture, 200, 50)
    story.train(30)
    assert drawn(picture, 200, 50) == before


@given(st.lists(st.integers(1, 20), max_size=8), st.sampled_from([("acc",), ("acc", "ms")]), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_camera_that_saw_everything_and_a_new_one_take_the_same_picture(
    stops: list[int], metrics: tuple[str, ...], slots: int
) -> None:
    story = Story(metrics=metrics, directions=("maximize", "minimize")[: len(metrics)], trials=60, slots=slots)
    camera = Camera(story.sweep)
    ended = 0
    for more in stops:
        ended += more
        story.train(ended)
        seen, fresh = camera.snapshot(story.now), Camera(story.sweep).snapshot(story.now)
        assert sorted(one.number for one in seen.recent) == sorted(one.number for one in fresh.recent)
        assert replace(seen, recent=()) == replace(fresh, recent=())


def test_observes_usage_and_the_curve_as_they_grow(tmp_path: Path) -> None:
    story = Story(slots=1)
    directory = SweepDir(tmp_path)
    place = directory.attempt(0, 1)
    observer, picture = Observer(directory), picture_of(story)
    assert observer.observe(picture).running[0].vitals == Vitals()

    place.path.mkdir(parents=True)
    usage = {"at": story.now - 5, "metrics": {"cpu": 1.5, "memory": 1e9, "device_utilisation": 0.9}}
    place.usage.write_text(json.dumps({**usage, "at": 0}) + "\n" + json.dumps(usage) + '\n{"at": ')
    place.reports.write_text(
        '{"step": 1, "metrics": {"val_acc": 0.5}}\n{"checkpoint": 1, "directory": "x"}\n{"step": 2, '
    )
    assert observer.observe(picture).running[0].vitals == Vitals(1.5, 1e9, 0.9, None, (0.5,))

    with place.reports.open("a") as file:
        file.write('"metrics": {"val_acc": "NaN", "loss": 1}}\n{"step": 3, "metrics": {"loss": 1}}\n')
    (half, gap) = observer.observe(picture).running[0].vitals.curve
    assert (half, math.isnan(gap)) == (0.5, True)

    later = replace(picture, at=story.now + 3600)
    assert observer.observe(later).running[0].vitals.cpu is None


def test_of_a_long_curve_the_newest_part_is_kept(tmp_path: Path) -> None:
    story = Story(slots=1)
    place = SweepDir(tmp_path).attempt(0, 1)
    place.path.mkdir(parents=True)
    place.reports.write_text("".join(f'{{"step": {n}, "metrics": {{"val_acc": {n}}}}}\n' for n in range(50_000)))
    curve = Observer(SweepDir(tmp_path)).observe(picture_of(story)).running[0].vitals.curve
    assert curve == tuple(map(float, range(50_000 - CURVE, 50_000)))


# ---- the time that is left -----------------------------------------------------------------------------------


def test_the_end_is_not_known_before_a_trial_has_trained_to_its_end() -> None:
    story = Story(trials=10)
    story.wait(30)
    assert picture_of(story).eta is None
    story.report(0, 1, val_acc=0.1)
    story.prune(0, 1)
    story.wait(31)  # trial 1 is older than any that has ended
    assert picture_of(story).eta is None
    story.complete(1, 0.5)
    assert picture_of(story).eta is not None


def test_trials_that_take_alike_end_when_they_should() -> None:
    story = Story(trials=9, slots=1)
    for number in range(4):
        story.complete(number, 0.5, seconds=100)
    story.wait(30)
    assert picture_of(story).eta == pytest.approx(70 + 4 * 100)
    story.do(e.DrainAsked(story.now))
    assert picture_of(story).eta == pytest.approx(70)


def test_a_paused_sweep_has_no_end_and_one_without_limit_only_its_timeout() -> None:
    story = Story(trials=9, slots=1)
    story.complete(0, 0.5)
    story.do(e.PauseAsked(story.now))
    assert picture_of(story).eta is None

    endless = Story(trials=None, slots=1, timeout=600.0)
    endless.complete(0, 0.5, seconds=100)
    picture = picture_of(endless)
    assert (picture.eta, picture.eta_is_timeout) == (pytest.approx(500), True)


def test_the_earlier_of_trials_and_timeout_ends_it() -> None:
    for timeout, expected in (300.0, (200, True)), (3000.0, (900, False)):
        story = Story(trials=10, slots=1, timeout=timeout)
        story.complete(0, 0.5, seconds=100)
        picture = picture_of(story)
        assert (picture.eta, picture.eta_is_timeout) == (pytest.approx(expected[0]), expected[1])


@given(st.integers(1, 8), st.integers(0, 200), st.lists(st.floats(0, 99), max_size=8))
def test_makespan_is_that_of_handing_out_one_by_one(slots: int, ahead: int, ages: list[float]) -> None:
    ages = ages[:slots]
    free = sorted([100 - age for age in ages] + [0.0] * (slots - len(ages)))
    for _ in range(ahead):
        free = sorted([free[0] + 100, *free[1:]])
    assert makespan([100.0] * 5, ages, ahead, slots) == pytest.approx(max(free), abs=100)
    if ahead <= 2 * slots:
        assert makespan([100.0] * 5, ages, ahead, slots) == pytest.approx(max(free))


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=30), st.lists(st.floats(0, 1000), max_size=30))
def test_running_trials_only_lengthen_the_expectation(ended: list[float], ages: list[float]) -> None:
    alone = Lifetimes(ended, []).rest(0.0)
    assert alone == pytest.approx(sum(ended) / len(ended))
    with_running = Lifetimes(ended, [age for age in ages if age > max(ended)]).rest(0.0)
    assert with_running >= alone * (1 - 1e-9)
    assert 0 <= Lifetimes(ended, ages).rest(500.0) <= 500.0 * (1 + 1e-9)


# ---- the terminal --------------------------------------------------------------------------------------------


def test_the_table_is_drawn_in_its_thread_and_gone_afterwards(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24, color_system=None)
    story = Story()
    with LiveTable(console, tmp_path) as table:
        table.picture(story.sweep, story.now, ["a notice"])
        until = time.monotonic() + 10
        while "a notice" not in out.getvalue() and time.monotonic() < until:
            time.sleep(0.02)
        assert "ocr-rec-3" in out.getvalue()
        assert "a notice" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")  # the last line that it had drawn is erased
    assert "\x1b[?25h" in out.getvalue()  # and the cursor is back


def test_knows_where_it_cannot_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert can_draw(Console(file=io.StringIO(), force_terminal=True))
    assert not can_draw(Console(file=io.StringIO()))
    assert not can_draw(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), force_terminal=True))
    monkeypatch.setenv("TERM", "dumb")
    assert not can_draw(Console(file=io.StringIO(), force_terminal=True))


# ---- words ---------------------------------------------------------------------------------------------------


@given(st.text(max_size=60) | st.text("a层字 \u0301", max_size=60), st.integers(0, 30))
def test_cut_text_fits(text: str, cells: int) -> None:
    for cut in words.cut(words.clean(text), cells), words.cut_middle(words.clean(text), cells):
        assert cell_len(cut) <= cells


@given(st.text(), st.lists(st.floats()))
def test_nothing_that_moves_the_cursor_gets_through(text: str, values: list[float]) -> None:
    assert not any(unicodedata.category(char) == "Cc" or char in "\u202e\u2066" for char in words.clean(text))
    assert len(words.sparkline(values, 10)) <= 10
    assert len({len(text) for text in words.column(values)}) <= 1


def test_numbers_of_a_column_have_the_same_decimals() -> None:
    assert words.column([0.5, 12.25, None]) == [" 0.500", "12.250", "      "]
    assert words.column([1.0, 20.0]) == [" 1", "20"]
    assert words.column([1e-5, math.nan]) == ["1.00e-05", "     nan"]
    assert [words.number(v) for v in (0.98125, 12345.6, 3.0, 1.5e-7, math.inf)] == [
        *("0.9812", "12346", "3", "1.5e-07", "inf")
    ]


def test_times_and_sizes_as_people_say_them() -> None:
    assert [words.duration(s) for s in (0, 61.9, 3723, 90000)] == ["0:00", "1:01", "1:02:03", "1d 01h"]
    assert [words.roughly(s) for s in (20, 300, 8400, 273600)] == [
        "under a minute",
        "5 min",
        "2 h 20 min",
        "3 d 4 h",
    ]
    assert [words.size(b) for b in (512, 5e8, 2**30, 80 * 2**30)] == ["512B", "477M", "1.0G", "80G"]


def test_parameters_are_in_the_order_of_the_file() -> None:
    space = {name: {"type": "float"} for name in ("width", "lr", "optimizer")}
    story = Story(config={"space": space}, params=usual, slots=1)
    story.complete(0, 0.9)
    assert list(picture_of(story).best[0].params) == ["width", "lr", "optimizer"]
