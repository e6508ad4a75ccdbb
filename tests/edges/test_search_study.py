"""A study that is not as the sweep's journal says, and storage that refuses: mended, or said in words."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from search_kit import Bench, benches, study

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import step
from sweep.core.model import TrialState
from sweep.errors import StorageError
from sweep.search.storage import OwnJournal


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path, caplog) as open_bench:
        yield open_bench


# ---- a study that lags behind the journal, or is ahead of it -------------------------------------------------


def three(bench: Any, **keys: Any) -> Bench:
    """Three trials: one complete, one pruned, one that runs."""
    here = bench(seed=1, **keys)
    for number in range(3):
        here.sample()
        here.judge(number, 0.5, 0.25)
    here.tell(0, 0.25)
    here.tell(1, None, TrialState.PRUNED)
    here.close()
    return here


def test_what_the_study_lost_is_put_back(tmp_path: Path, bench: Any) -> None:
    path = tmp_path / "study.log"
    here = three(bench)
    whole = study(path).trials
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(2, len(lines)):
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][:9])  # as a crash of the machine may leave it
        again = bench(here)
        again.close()
        assert again.missed == []
        said = Counter(line for line in path.read_bytes().splitlines() if b'intermediate_value"' in line)
        assert set(said.values()) <= {1}, "a report is told once"
        for theirs, before in zip(study(path).trials, whole, strict=True):
            assert (theirs.number, theirs.params, theirs.state) == (before.number, before.params, before.state)
            assert theirs.intermediate_values == {0: 0.5, 1: 0.25}
            assert theirs.state.name != "COMPLETE" or theirs.values == before.values


def test_a_verdict_that_died_with_its_controller_is_asked_for_again(bench: Any) -> None:
    """The report is in the study, but that its trial should end never reached the journal."""
    here = bench(pruner={"name": "threshold", "lower": 0})
    for number, value in enumerate((1.0, -1.0)):
        here.sample()
        for event in (
            e.SlotOffered(1.0, f"slot-{number}", "cpu"),
            e.AttemptStarted(1.0, number, 1, 1, 1, "boot"),
            e.Reported(1.0, number, 1, 0, {"acc": value}),
        ):
            step(here.sweep, event)
        here.judge(number, value)
    here.close()
    lost = here.event()
    again = bench(here, pruner={"name": "threshold", "lower": 0})
    assert again.event() == lost == e.PruneAdvised(1.0, 1, 1, 0)
    step(again.sweep, lost)
    again.close()
    last = bench(again, pruner={"name": "threshold", "lower": 0})
    last.close()
    assert last._inbox.empty(), "now it is in the journal"


def test_a_study_that_is_gone_is_written_anew(tmp_path: Path, bench: Any) -> None:
    here = three(bench)
    (tmp_path / "study.log").unlink()
    bench(here).close()
    assert [trial.state.name for trial in study(tmp_path / "study.log").trials] == [
        "COMPLETE",
        "PRUNED",
        "RUNNING",
    ]


def test_what_the_journal_missed_is_found(bench: Any) -> None:
    here = three(bench)
    one = bench(here)
    lost = one.ask()
    one.search.prefer(do.Prefer({"x": 0.5}))
    wished = one.ask()
    one.close()
    assert isinstance(lost, e.TrialSampled) and isinstance(wished, e.TrialSampled)
    again = bench(here)
    again.close()
    assert again.missed == [
        {"number": 3, "params": lost.params, "origin": "sampler"},
        {"number": 4, "params": wished.params, "origin": "enqueued"},
    ]
    assert list(again.sweep.trials) == [0, 1, 2, 3, 4]


def test_a_wish_that_nobody_asked_for_is_given_up_and_made_again(tmp_path: Path, bench: Any) -> None:
    here = three(bench)
    one = bench(here)
    one.search.prefer(do.Prefer({"x": 0.5}))
    one.close()
    assert study(tmp_path / "study.log").trials[3].state.name == "WAITING"
    again = bench(here)
    assert again.missed == [] and again.sample().number == 4
    again.close()
    assert study(tmp_path / "study.log").trials[3].state.name == "FAIL"


def test_a_trial_that_was_only_half_sampled_in_a_shared_study_is_given_up(tmp_path: Path, bench: Any) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    here = three(bench, storage=url)
    theirs = optuna.load_study(study_name="s", storage=url)
    half = theirs.ask()
    half.set_user_attr("sweep", "s-1")
    half.suggest_float("x", 0.0, 1.0)
    other = theirs.ask()  # somebody else's
    again = bench(here, storage=url)
    again.close()
    assert again.missed == []
    states = {trial.number: trial.state.name for trial in theirs.trials}
    assert (states[half.number], states[other.number]) == ("FAIL", "RUNNING")


def test_sweeps_that_share_a_study_leave_each_others_wishes_alone(tmp_path: Path, bench: Any) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    here = bench(storage=url)
    theirs = optuna.load_study(study_name="s", storage=url)
    theirs.enqueue_trial({"x": 0.125}, user_attrs={"sweep": "s-2", "enqueued": True})
    theirs.enqueue_trial({"x": 0.375})  # by hand, for whoever comes
    here.search.prefer(do.Prefer({"x": 0.5}))
    found = [here.sample() for _ in range(3)]
    here.close()
    assert [one.params["x"] for one in found[:2]] == [0.375, 0.5] and found[2].params["x"] not in (
        0.125,
        0.375,
        0.5,
    )
    assert [one.number for one in found] == [1, 2, 3]
    assert theirs.trials[0].state.name == "WAITING"
    assert all(trial.user_attrs["sweep"] == "s-1" for trial in theirs.trials[1:])


def test_equal_seeds_on_one_study_sample_different_configurations(tmp_path: Path, bench: Any) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    one, other = bench(storage=url, seed=3), bench(storage=url, seed=3)
    found = [here.sample().params["x"] for _ in range(4) for here in (one, other)]
    assert len(set(found)) == 8


# ---- storage that refuses ------------------------------------------------------------------------------------


def test_a_full_disk_tears_nothing_and_loses_nothing(
    tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    here = bench(seed=1)
    here.sample()
    real, room = os.write, [50]

    def narrow(handle: int, data: Any) -> int:
        if Path(f"/proc/self/fd/{handle}").readlink().name == "study.log":
            if not room[0]:
                raise OSError(28, "No space left on device")
            data = bytes(data[: room[0]])
            room[0] -= len(data)
        return real(handle, data)

    monkeypatch.setattr(os, "write", narrow)
    here.judge(0, 0.5, 0.25)
    here.tell(0, 0.25)
    assert here.sample().number == 1
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1 and "No space left on device" in said[0]
    room[0] = 1 << 20
    here.judge(1, 1)
    here.close()
    assert here.sweep.trials[1].params == {**study(tmp_path / "study.log").trials[1].params, "fixed": 7}
    assert [trial.intermediate_values for trial in study(tmp_path / "study.log").trials] == [
        {0: 0.5, 1: 0.25},
        {0: 1},
    ]
    caplog.clear()


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "nonsense", "mysql+nodriver://host/x"])
def test_a_storage_that_does_not_open_is_named(url: str, bench: Any) -> None:
    with pytest.raises(StorageError, match=f"storage {re.escape(url)} does not open"):
        bench(storage=url)


def test_a_password_is_not_told(bench: Any) -> None:
    with pytest.raises(StorageError, match=r"mysql\+nodriver://\*\*\*@host/x") as caught:
        bench(storage="mysql+nodriver://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_a_study_of_that_name_with_other_directions_is_not_ours(tmp_path: Path, bench: Any) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="s", storage=url, direction="minimize")
    with pytest.raises(StorageError, match=r"study 's' already, and its direction is minimize\n.*another `name`"):
        bench(storage=url)


def test_a_study_that_was_damaged_can_be_written_anew(tmp_path: Path, bench: Any) -> None:
    here = three(bench)
    path = tmp_path / "study.log"
    path.write_bytes(path.read_bytes().replace(b'"op_code"', b'"op_c', 1))
    with pytest.raises(StorageError, match=r"(?s)study.log does not open.*move it away"):
        bench(here)
    path.rename(tmp_path / "away")
    bench(here).close()
    assert [trial.state.name for trial in study(path).trials] == ["COMPLETE", "PRUNED", "RUNNING"]


# ---- the study's file ----------------------------------------------------------------------------------------


def somebody_elses(path: Path) -> None:
    """A study beside ours."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(study_name="other", storage=storage).optimize(
        lambda trial: trial.suggest_int("n", 0, 9), 2
    )


def another_range(path: Path) -> None:
    wider = {"x": optuna.distributions.FloatDistribution(0.0, 2.0)}
    study(path).add_trial(optuna.create_trial(params={"x": 1.5}, distributions=wider, value=1.0))


@pytest.mark.parametrize("more", [lambda path: None, somebody_elses, another_range])
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii", "qmc"])
def test_it_is_opened_as_optuna_would(
    sampler: str, tmp_path: Path, bench: Any, more: Callable[[Path], None]
) -> None:
    """Trials of every state, with the attributes that samplers keep; and what others may write into it."""
    path = tmp_path / "study.log"
    here = three(bench, sampler=sampler)
    again = bench(here, sampler=sampler)
    for number in range(3, 9):
        again.sample()
        again.judge(number, math.nan if number == 3 else 0.125 * number)
        again.tell(number, 0.125 * number)
    again.search.prefer(do.Prefer({"x": 0.5}))
    again.sample()
    again.tell(2, None, TrialState.FAIL)
    again.search.prefer(do.Prefer({"x": 0.25}))
    again.close()
    more(path)
    theirs = study(path)
    theirs.set_user_attr("note", "by somebody's dashboard")
    storage = JournalStorage(OwnJournal(path))
    ours = optuna.load_study(study_name="s-1", storage=storage)
    assert {trial.state.name for trial in theirs.trials} == {"COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"}
    assert repr(ours.trials) == repr(theirs.trials)  # NaN does not equal itself
    assert ours.user_attrs == theirs.user_attrs
    kept = storage.get_study_system_attrs(ours._study_id)
    assert kept == theirs._storage.get_study_system_attrs(theirs._study_id)
