"""What a handle says of a journal, whole or still growing: all of it, once, and in the words of the commands."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from live_story import START
from matplotlib import pyplot
from written import SPACE, Written

import sweep
from sweep import snapshot
from sweep.api import start
from sweep.cli import state as followed
from sweep.core import events as e
from sweep.core import machine
from sweep.core.model import TrialState
from sweep.errors import JournalError, NotFoundError, SweepError, UsageError
from sweep.journal import records

matplotlib.use("Agg")


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_says_what_the_state_machine_says(written: Written, tmp_path: Path) -> None:
    state = written.story.train(30).sweep
    found = sweep.load("ocr-rec", project=written.write().folder.parents[1])
    assert (found.id, found.status) == ("ocr-rec-3", "INTERRUPTED")  # nobody drives it
    assert found.counts == {kind.value: count for kind, count in state.counts.items()}
    assert state.best is not None and found.best is not None
    assert found.best.number == state.best
    assert found.best.params == state.trials[state.best].params
    assert found.best.value == max(t.values[0] for t in state.trials.values() if t.values)
    assert found.best.command.endswith(f"--optimizer={found.best.params['optimizer']}")
    assert [trial.number for trial in found.front] == [found.best.number]
    top = found.top(3)
    assert top[0] == found.best
    assert [t.value for t in top] == sorted((t.value or 0.0 for t in top), reverse=True)
    assert found.checkpoint() is None
    assert dict(found.space) == dict(sweep.Space(SPACE))


def test_what_a_snapshot_has_is_not_worked_out_again(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    written.story.train(20)
    path = written.write().writer.path
    snapshot.save(path, written.story.sweep, written.writer.mark)
    state = written.story.train(30).sweep
    written.write()
    steps: list[e.Event] = []
    monkeypatch.setattr(followed, "step", lambda *given: (steps.append(given[1]), machine.step(*given)))
    found = sweep.load(written.folder)
    count = sum(1 for _ in records(path))
    assert 0 < len(steps) < count / 2
    table, curves = found.dataframe().drop(columns="duration"), found.curves()  # of running trials: until now
    assert found.counts == {kind.value: count for kind, count in state.counts.items()}
    snapshot.beside(path).unlink()
    whole = sweep.load(written.folder)
    assert (
        table.equals(whole.dataframe().drop(columns="duration"))
        and curves.equals(whole.curves())
        and len(curves) > 20
    )


def test_the_table_has_a_row_a_trial(written: Written) -> None:
    state = written.story.train(30).sweep
    table = sweep.load(written.write().folder).dataframe()
    assert list(table.index) == sorted(state.trials)
    assert list(table.columns)[:6] == [
        *("state", "outcome", "values_val_acc", "params_lr", "params_width", "params_optimizer")
    ]
    for number, trial in state.trials.items():
        row = table.loc[number]
        assert (row["state"], row["why"]) == (trial.state.value, trial.why)
        assert row["params_lr"] == trial.params["lr"]
        assert np.isnan(row["values_val_acc"]) == (trial.state is not TrialState.COMPLETE)
        if trial.attempts and trial.attempts[-1].ended:
            assert row["duration"].total_seconds() == pytest.approx(
                trial.attempts[-1].ended - trial.attempts[0].launched
            )
            assert row["started"].timestamp() == pytest.approx(trial.attempts[0].launched)
    waiting = table[table["state"] == "WAITING"]
    assert len(waiting) and waiting[["outcome", "step", "started", "device"]].isna().all(axis=None)


def test_a_growing_journal_is_read_once(written: Written) -> None:
    story = written.story
    found = sweep.load(written.write().folder)
    expected: list[tuple[int, int, str, float]] = []
    for step in range(1, 5):
        story.wait(1)
        story.report(0, step, val_acc=step / 10, loss=math.nan)
        expected += [(0, step, "val_acc", step / 10), (0, step, "loss", math.nan)]
        written.write()
        curves = found.curves()
        rows = list(curves[["trial", "step", "metric", "value"]].itertuples(index=False, name=None))
        assert repr(rows) == repr(expected)  # NaN is not equal to itself
        assert curves["time"].iloc[-1].timestamp() == story.now
    assert found.trials[0].latest["val_acc"] == 0.4
    story.end(0)
    written.write()
    assert found.best is not None
    assert found.best.number == 0


def test_an_end_that_the_machine_lost_is_read_anew(written: Written) -> None:
    written.story.report(0, 1, val_acc=0.1)
    journal = written.write().folder / "journal.jsonl"
    whole = journal.stat().st_size
    written.story.report(0, 2, val_acc=0.2)
    found = sweep.load(written.write().folder)
    assert len(found.curves()) == 2
    os.truncate(journal, whole)
    assert len(found.curves()) == 1
    assert found.trials[0].step == 1


def test_several_objectives_have_a_front_and_no_best(tmp_path: Path) -> None:
    written = Written(tmp_path, metrics=("val_acc", "speed"))
    for number, values in enumerate([(0.5, 0.5), (0.9, 0.1), (0.4, 0.4), (0.1, 0.9)]):
        written.story.report(number, 1, val_acc=values[0], speed=values[1])
        written.story.end(number)
    found = sweep.load(written.write().folder)
    with pytest.raises(UsageError, match="several objectives"):
        found.best  # noqa: B018
    assert [trial.number for trial in found.front] == [0, 1, 3]
    assert found.front[1].values == {"val_acc": 0.9, "speed": 0.1}
    assert found.plot.history("speed").get_ylabel() == "speed"


def test_curves_are_drawn_with_their_ends(written: Written) -> None:
    state = written.story.train(24).sweep
    axes = sweep.load(written.write().folder).plot.curves()
    lines = [line for line in axes.lines if line.get_marker() == "None"]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    reported = [trial for trial in state.trials.values() if trial.latest]
    assert len(lines) == len(reported)
    ended_early = (TrialState.PRUNED, TrialState.FAIL)
    assert len(crosses) == sum(trial.state in ended_early for trial in reported)
    assert axes.get_ylabel() == "val_acc"


@pytest.mark.parametrize("kind", ["history", "importances", "parallel", "slice", "timeline"])
def test_pictures_are_drawn_and_leave_no_style_behind(kind: str, written: Written) -> None:
    written.story.train(30)
    before = dict(matplotlib.rcParams)
    drawn = getattr(sweep.load(written.write().folder).plot, kind)()
    figure = drawn.flat[0].figure if kind == "slice" else drawn.figure
    figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before


def test_history_knows_trials_by_their_own_numbers(written: Written) -> None:
    state = written.story.train(30).sweep
    axes = sweep.load(written.write().folder).plot.history()
    drawn = {(int(x), y) for x, y in axes.collections[0].get_offsets()}
    assert drawn == {(t.number, t.values[0]) for t in state.trials.values() if t.values}


def test_a_timeline_has_a_bar_an_attempt(written: Written) -> None:
    state = written.story.train(12).sweep
    axes = sweep.load(written.write().folder).plot.timeline()
    assert len(axes.patches) == sum(len(trial.attempts) for trial in state.trials.values())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cpu-0", "cpu-1"]


def test_what_cannot_be_drawn_says_why(written: Written) -> None:
    found = sweep.load(written.write().folder)
    with pytest.raises(SweepError, match="0 completed trials so far"):
        found.plot.importances()
    with pytest.raises(UsageError, match="reported was nothing yet"):
        found.plot.curves()
    with pytest.raises(UsageError, match="is no objective"):
        found.plot.history("loss")


def test_a_sweep_is_found_as_by_the_commands(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write()
    monkeypatch.chdir(tmp_path)
    for wanted in (None, "ocr-rec", "ocr-rec-3", "sweeps/ocr-rec-3", written.folder):
        assert sweep.load(wanted).directory == written.folder
    with pytest.raises(NotFoundError, match="no sweep 'ocr'"):
        sweep.load("ocr")
    with pytest.raises(NotFoundError, match="no folder of a sweep"):
        sweep.load("./ocr-rec-3")


def test_a_journal_that_does_not_fit_together_is_an_error_for_people(written: Written) -> None:
    written.write().writer.append(e.RetryDue(START, 0))
    with pytest.raises(JournalError, match="does not fit together"):
        sweep.load(written.write().folder)


def test_a_trial_is_not_told_what_concerns_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "LANG": "C"})
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert start.environment() == os.environ
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert start.environment() == {"LANG": "C"}
