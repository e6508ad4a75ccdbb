"""A file that was edited after its sweep began: what is taken over, what is refused, and that Optuna agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import check_distribution_compatibility
from search_kit import Bench

from sweep.cli.changed import change, has_changed, interrupted
from sweep.config.changes import Change, takeover
from sweep.config.load import load
from sweep.config.model import SweepConfig
from sweep.config.parameters import Constant
from sweep.config.rules import rules
from sweep.core import events as e
from sweep.core.machine import open_sweep, step
from sweep.core.model import Sweep, TrialState
from sweep.errors import ConfigError
from sweep.journal import Replay, Writer
from sweep.rundir import SweepDir
from sweep.search.space import distribution

BASE: dict[str, Any] = {
    "name": "s",
    "command": ["python", "train.py", "{args}"],
    "metric": "acc",
    "direction": "maximize",
    "trials": 50,
    "space": {
        "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "width": {"type": "int", "low": 16, "high": 64, "step": 16},
        "kind": ["a", "b"],
        "epochs": 20,
    },
}


def config(**keys: Any) -> SweepConfig:
    return SweepConfig.model_validate({**BASE, **{key: one for key, one in keys.items() if one is not None}})


def space(**parameters: Any) -> dict[str, Any]:
    whole = {**BASE["space"], **parameters}
    return {"space": {name: one for name, one in whole.items() if one is not None}}


def found(old: SweepConfig, new: SweepConfig) -> list[Change]:
    return takeover(old, new)[1]


LATER = "(taken, for trials that start from now on)"
NEXT = "(taken, for configurations from now on)"
FLOAT = {"type": "float", "low": 0, "high": 1}
TAKEN = [
    ({"trials": 80}, "trials: 50 -> 80 (taken)"),
    ({"timeout": "2h"}, "timeout: none -> 7200.0 (taken)"),
    (
        {"pruner": {"name": "median", "n_startup_trials": 3}},
        "pruner: none -> {name: median, options: {n_startup_trials: 3}} (taken)",
    ),
    ({"sampler": "random"}, "sampler: none -> {name: random} (taken)"),
    ({"retry": 2}, "retry: default -> {times: 2} (taken)"),
    ({"devices": "cpu:2"}, "devices: default -> {kind: cpu, count: 2} (taken)"),
    ({"mlflow": False}, "mlflow.enabled: true -> false (taken)"),
    ({"env": {"A": "hush"}}, f"env.A: added {LATER}"),
    ({"command": ["t.py", "{lr}"]}, f"command: python train.py {{args}} -> t.py {{lr}} {LATER}"),
    ({"enqueue": [{"lr": 0.01}]}, "enqueue: + lr=0.01 (taken)"),
    (
        space(lr={"type": "float", "low": 1e-3, "high": 1.0, "log": True}),
        f"space.lr: float 0.0001 .. 0.1 log -> float 0.001 .. 1.0 log {NEXT}",
    ),
    (
        space(width={"type": "int", "low": 8, "high": 64}),
        f"space.width: int 16 .. 64 step 16 -> int 8 .. 64 {NEXT}",
    ),
    (space(epochs=40), f"space.epochs: 20 -> 40 {NEXT}"),
    (space(epochs=True), f"space.epochs: 20 -> true {NEXT}"),
    (
        space(momentum={**FLOAT, "when": {"kind": "a"}}),
        "space.momentum: + float 0.0 .. 1.0 when kind is 'a' (taken, the trials so far have none)",
    ),
    (space(width=None), "space.width: int 16 .. 64 step 16 -> taken out (taken)"),
]


@pytest.mark.parametrize(("keys", "told"), TAKEN, ids=[told.partition(":")[0] for _, told in TAKEN])
def test_is_taken_and_told_in_a_line(keys: dict[str, Any], told: str) -> None:
    (one,) = found(config(), config(**keys))
    path = ".".join(map(str, one.path))
    assert (one.refusal, f"{path}: {one.told}") == ("", told)
    assert "hush" not in told


def test_it_says_where_a_sampler_loses_sight_of_a_parameter() -> None:
    old = config(sampler="cmaes")
    (one,) = found(old, config(sampler="cmaes", **space(width={"type": "int", "low": 16, "high": 32, "step": 16})))
    assert one.told.endswith(f"{NEXT[:-1]}; cmaes samples it apart from the others)")


REFUSED = [
    ({"metric": "loss"}, "metric"),
    ({"direction": "minimize"}, "direction"),
    ({"value": "best"}, "value"),
    ({"name": "other"}, "name"),
    ({"storage": "sqlite:///other.db"}, "storage"),
    ({"mlflow": "http://elsewhere:5000"}, "mlflow.tracking_uri"),
    ({"sampler": "grid"}, "sampler"),
    ({"report": "mlflow"}, "report"),
    ({"from_best": {"sweep": "s"}}, "from_best"),
    (space(kind=["a", "b", "c"]), "space.kind.choices"),
    (space(kind=["b", "a"]), "space.kind.choices"),
    (space(kind="a"), "space.kind.type"),
    (space(epochs=[20, 40]), "space.epochs.type"),
    (space(width={"type": "float", "low": 16, "high": 64}), "space.width.type"),
    (space(lr={"type": "float", "low": 1e-4, "high": 1e-1}), "space.lr.log"),
]


@pytest.mark.parametrize(("keys", "key"), REFUSED, ids=[key for _, key in REFUSED])
def test_is_refused_with_its_key_and_a_reason(keys: dict[str, Any], key: str) -> None:
    (one,) = found(config(), config(**keys))
    assert ".".join(map(str, one.path)) == key and one.refusal
    assert "other.db" not in one.text and "elsewhere" not in one.text, "an address may hold a password"


@pytest.mark.parametrize("keys", [keys for keys, _ in (*TAKEN, *REFUSED) if "space" in keys])
def test_optuna_takes_what_is_taken_of_the_space_and_refuses_the_rest(keys: dict[str, Any]) -> None:
    """But for a constant, which Optuna does not know."""
    old, new = config(), config(**keys)
    refused = any(one.refusal for one in found(old, new))
    for name in old.space.keys() & new.space.keys():
        one, other = old.space[name], new.space[name]
        if isinstance(one, Constant) or isinstance(other, Constant):
            continue
        try:
            check_distribution_compatibility(distribution(one), distribution(other))
        except ValueError:
            assert refused
        else:
            assert not refused or one == other


def test_the_space_is_for_good_where_a_sampler_counts_by_it() -> None:
    lists = {"space": {"kind": ["a", "b"], "width": {"type": "int", "low": 1, "high": 4}}, "sampler": "grid"}
    wider = {**lists, "space": {**lists["space"], "width": {"type": "int", "low": 1, "high": 8}}}
    (one,) = found(config(**lists), config(**wider))
    assert "counts by the space" in one.refusal


def test_a_wish_cannot_be_taken_back() -> None:
    (gone, new) = found(config(enqueue=[{"lr": 0.01}, {"lr": 0.02}]), config(enqueue=[{"lr": 0.02}, {"lr": 0.03}]))
    assert gone.refusal and gone.text == "1 of 2 configurations taken out"
    assert new.told == "+ lr=0.03 (taken)"


def test_what_from_best_made_stays() -> None:
    old = config(from_best={"sweep": "s-1"}, enqueue=[{"lr": 0.01}], **space(kind=["a"]))
    merged, said = takeover(old, config(from_best={"sweep": "previous"}, trials=80))
    assert (merged.space, merged.enqueue, merged.from_best) == (old.space, old.enqueue, old.from_best)
    assert [one.path for one in said] == [("trials",)]


def test_a_first_round_has_the_space_of_its_file() -> None:
    """`previous` was nothing when it began."""
    old = config(from_best={"sweep": "previous"})
    merged, said = takeover(old, config(from_best={"sweep": "previous"}, **space(width=None)))
    assert "width" not in merged.space and [one.path for one in said] == [("space", "width")]


# ---- of a sweep that is there ---------------------------------------------------------------------------------

FILE = """name: s
command: "true {lr}"
metric: acc
direction: maximize
space:
  lr: {type: float, low: 0.0, high: 1.0}
trials: 50
"""


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Sweep, SweepDir, Path]:
    """A sweep of space.yaml whose controller is gone."""
    space = tmp_path / "space.yaml"
    space.write_text(FILE)
    directory = SweepDir(tmp_path / "sweeps" / "s-1")
    directory.path.mkdir(parents=True)
    directory.space.write_text(FILE)
    given, _ = load(space)
    opened = e.SweepOpened(1.0, "s-1", rules(given), given.model_dump(mode="json"), "space.yaml", {"seed": 3})
    writer = Writer(directory.journal)
    writer.append(opened)
    writer.commit()
    writer.close()
    return open_sweep(opened), directory, space


def test_the_newest_sweep_of_the_file_is_found_where_it_was_interrupted(
    begun: tuple[Sweep, SweepDir, Path], tmp_path: Path
) -> None:
    _, directory, space = begun
    again = interrupted(space, tmp_path)
    assert again is not None and again[0].sweep.id == "s-1" and again[1].path == directory.path
    other = tmp_path / "other.yaml"
    other.write_text(FILE)
    assert interrupted(other, tmp_path) is None, "another file"
    writer = Writer(directory.journal, Replay(directory.journal).last)
    writer.append(e.StopAsked(2.0))
    writer.commit()
    writer.close()
    assert interrupted(space, tmp_path) is None, "it has ended"


def test_comments_alone_change_nothing(begun: tuple[Sweep, SweepDir, Path]) -> None:
    sweep, directory, space = begun
    assert has_changed(sweep, directory) is None
    space.write_text(f"# a remark\n{FILE}seed: 3\n")
    assert has_changed(sweep, directory) == space
    opened = SweepConfig.model_validate({**sweep.config, "seed": 3})
    sweep.config = opened.model_dump(mode="json")
    assert change(sweep, directory, space, {}) is None


def test_the_options_of_the_beginning_hold_and_newer_ones_go_over_them(
    begun: tuple[Sweep, SweepDir, Path],
) -> None:
    sweep, directory, space = begun
    event = change(sweep, directory, space, {"trials": 7})
    assert event is not None
    assert event.told == ["trials: 50 -> 7 (taken)", "seed: none -> 3 (taken)"]
    assert event.overrides == {"seed": 3, "trials": 7} and event.rules == {"trials": 7}


def test_a_refusal_names_the_line_and_what_to_do(begun: tuple[Sweep, SweepDir, Path]) -> None:
    sweep, directory, space = begun
    space.write_text(FILE.replace("metric: acc", "metric: loss").replace("type: float", "type: int"))
    with pytest.raises(ConfigError) as caught:
        change(sweep, directory, space, {})
    said = str(caught.value)
    assert (
        f"{space}:3: metric: acc -> loss: " in said
        and f"{space}:6: space.lr.type: float 0.0 .. 1.0 -> int" in said
    )
    assert f"sweep run --new {space}" in said and "sweep resume s-1 --frozen" in said


def test_a_file_that_is_broken_by_now_can_be_left_alone(begun: tuple[Sweep, SweepDir, Path]) -> None:
    sweep, directory, space = begun
    for text in (f"{FILE}trails: 5\n", f"{FILE}cwd: nowhere\n"):
        space.write_text(text)
        with pytest.raises(ConfigError, match=r"(?s)(trails|nowhere).*sweep resume s-1 --frozen"):
            change(sweep, directory, space, {})


def test_only_the_rules_that_the_file_changes_are_set(begun: tuple[Sweep, SweepDir, Path]) -> None:
    sweep, directory, space = begun
    step(sweep, e.LimitsSet(2.0, trials=100))
    space.write_text(f"{FILE}timeout: 60\nenqueue: [{{lr: 0.5}}]\n")
    event = change(sweep, directory, space, {})
    assert event is not None
    step(sweep, event)
    assert (sweep.rules.trials, sweep.rules.timeout, list(sweep.queue)) == (100, 60.0, [{"lr": 0.5}])
    assert sweep.config["timeout"] == 60.0 and event.text == space.read_text()


# ---- in the study ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True], ids=["with its study", "with the study rebuilt"])
def test_the_study_goes_on_with_what_it_learnt(tmp_path: Path, lost: bool) -> None:
    """Over a range that no longer holds what was tried, a parameter that is new, and one that is gone."""
    before = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "old": {"type": "int", "low": 1, "high": 4}}
    after = {"x": {"type": "float", "low": 0.0, "high": 0.25}, "new": ["p", "q"], "k": 7}
    first = Bench(config(space=before, seed=1), tmp_path / "study.log")
    for number in range(6):
        sampled = first.sample()
        first.tell(number, -sampled.params["x"]) if number < 4 else None
    first.close()
    values = {number: trial.values for number, trial in first.sweep.trials.items()}
    tried = {number: trial.params for number, trial in first.sweep.trials.items()}
    assert max(params["x"] for params in tried.values()) > 0.25
    if lost:
        (tmp_path / "study.log").unlink()
    new = config(space=after, seed=1)
    step(first.sweep, e.ConfigChanged(2.0, new.model_dump(mode="json")))
    again = Bench(new, tmp_path / "study.log", first)
    for _ in range(4):
        params = again.sample().params
        assert set(params) == {"x", "new", "k"} and params["x"] <= 0.25
    again.tell(5, 0.5)
    again.close()
    trials = again.search._study.get_trials()
    assert [t.values for t in trials[:4]] == [list(values[n] or ()) for n in range(4)]
    assert [t.params["x"] for t in trials[:6]] == pytest.approx([tried[n]["x"] for n in range(6)])
    assert trials[5].state is optuna.trial.TrialState.COMPLETE
    assert again.missed == []
    assert first.sweep.trials[4].state is TrialState.WAITING, "what was sampled before is run as it was"
