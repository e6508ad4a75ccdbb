"""Optuna behind its port: every sampler and pruner by name, and what is sampled in which order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_kit import SPACE, Bench, benches, config, study

from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import step
from sweep.core.model import TrialState
from sweep.errors import ConfigError
from sweep.search import build_pruner, build_sampler, preview

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
CONDITIONAL = {**SPACE, "deep": {"type": "int", "low": 0, "high": 9, "when": {"kind": ["a", "b"]}}}
COUNTABLE = {"n": {"type": "int", "low": 1, "high": 3}, "kind": ["a", "b"], "fixed": 7}
SAMPLERS = sorted(name for name in dir(optuna.samplers) if name.endswith("Sampler") and "Base" not in name)
PRUNERS = sorted(name for name in dir(optuna.pruners) if name.endswith("Pruner") and "Base" not in name)
NEEDED: dict[str, dict[str, Any]] = {  # arguments that Optuna gives no default
    "PartialFixedSampler": {"fixed_params": {"x": 0.5}, "base_sampler": "random"},
    "PatientPruner": {"wrapped_pruner": {"name": "median", "n_startup_trials": 1}, "patience": 1},
    "PercentilePruner": {"percentile": 25.0, "n_startup_trials": 1},
    "ThresholdPruner": {"upper": 10},
    "WilcoxonPruner": {"n_startup_steps": 1},
}


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path, caplog) as open_bench:
        yield open_bench


def value(params: dict[str, Any]) -> float:
    return float(params["x"]) + int(params["n"]) / 64


# ---- samplers and pruners by name ----------------------------------------------------------------------------


def named(name: str) -> Any:
    return {"name": name, **NEEDED[name]} if name in NEEDED else name


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_samples_by_its_name(name: str, tmp_path: Path, bench: Any) -> None:
    if name == "GPSampler" and find_spec("torch") is None:
        with pytest.raises(ConfigError, match=r"sampler: GPSampler needs torch\n +pip install torch"):
            bench(sampler=name, seed=1)
        return
    countable = name in ("GridSampler", "BruteForceSampler")
    here = bench(sampler=named(name), seed=1, space=COUNTABLE if countable else SPACE)
    found = []
    for number in range(4):
        sampled = here.sample()
        assert sampled.number == number and sampled.origin == "sampler" and sampled.params["fixed"] == 7
        assert list(sampled.params) == list(COUNTABLE if countable else SPACE)
        found.append(sampled.params)
        here.judge(number, 0.1, 0.2)
        here.tell(number, value({"x": 0, **sampled.params}))
    here.close()
    assert len({json.dumps(one) for one in found}) == 4
    theirs = study(tmp_path / "study.log").trials
    assert [{**trial.params, "fixed": 7} for trial in theirs] == found
    assert [trial.values for trial in theirs] == [[value({"x": 0, **params})] for params in found]
    assert all(trial.intermediate_values == {0: 0.1, 1: 0.2} for trial in theirs)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_judges_by_its_name(name: str, bench: Any) -> None:
    here = bench(pruner=named(name), seed=1)
    for number in range(4):
        here.judge(here.sample().number, *(0.1 * number + at for at in range(5)))
        here.tell(number, 4.0 + number)
    bad = here.sample().number
    here.judge(bad, *(-1.0 * at for at in range(4)), 99.0)  # losing, and above the threshold in the end
    here.tell(bad, None, TrialState.PRUNED)
    here.close()
    advised = []
    while not here._inbox.empty():
        advised.append(here._inbox.get())
    assert all(isinstance(one, e.PruneAdvised) for one in advised)
    if name in ("MedianPruner", "HyperbandPruner", "NopPruner", "WilcoxonPruner"):
        return  # those need more trials than this, or never prune
    assert any(one.trial == bad for one in advised)


@pytest.mark.parametrize(
    "keys",
    [
        {"sampler": "tpe"},
        {"sampler": "TPESampler"},
        {"sampler": {"name": "TPE", "n_startup_trials": 1, "multivariate": True}},
        {"sampler": {"name": "nsga-ii", "population_size": 4, "crossover": "sbx"}},
        {"sampler": {"name": "nsgaii", "crossover": {"name": "undx", "sigma_xi": 0.4}}},
        {"sampler": {"name": "cmaes", "independent_sampler": {"name": "qmc", "qmc_type": "halton"}}},
        {"sampler": {"name": "partial-fixed", "fixed_params": {"n": 3}, "base_sampler": {"name": "cma_es"}}},
        {"pruner": {"name": "patient", "wrapped_pruner": {"name": "successive-halving"}, "patience": 2}},
        {"pruner": {"name": "patient", "wrapped_pruner": "median", "patience": 2}},
    ],
    ids=str,
)
def test_names_may_be_spelled_and_nested(keys: dict[str, Any], bench: Any) -> None:
    here = bench(**keys, space={**SPACE, "kind": "a"})
    for _ in range(3):
        sampled = here.sample()
        here.judge(sampled.number, 1, 2)
        here.tell(sampled.number, 2)
    here.close()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sampler": "tpee"}, r"sampler: Optuna has no sampler 'tpee'\n.*tpe"),
        ({"sampler": "base"}, "sampler: Optuna has no sampler 'base'"),
        ({"pruner": "hiperband"}, r"pruner: Optuna has no pruner 'hiperband'\n.*hyperband"),
        (
            {"sampler": {"name": "tpe", "n_startup": 5}},
            r"sampler.n_startup: .*no such argument\n.*n_startup_trials",
        ),
        ({"pruner": {"name": "median", "warmup": 5}}, r"pruner.warmup: MedianPruner has no such argument"),
        ({"sampler": {"name": "tpe", "gamma": "half"}}, r"sampler.gamma: takes a Python function"),
        ({"pruner": {"name": "median", "n_startup_trials": -1}}, r"pruner: MedianPruner: .*negative"),
        ({"pruner": {"name": "percentile"}}, r"pruner: PercentilePruner needs `percentile`\n.*percentile: ..."),
        ({"sampler": {"name": "cmaes", "independent_sampler": "tpo"}}, r"independent_sampler: .*'tpo'\n.*tpe"),
        (
            {"pruner": {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "x"}}},
            r"wrapped_pruner: .*'x'",
        ),
        ({"sampler": "grid", "space": CONDITIONAL}, r"a grid cannot hold conditional.*\n.*bruteforce"),
        ({"sampler": "grid"}, r"space.x: has infinitely many values"),
        ({"sampler": "bruteforce"}, r"space.x: has infinitely many values"),
    ],
    ids=str,
)
def test_a_wrong_name_or_argument_is_a_named_mistake(keys: dict[str, Any], said: str) -> None:
    mistaken = config(**keys)
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        build_sampler(mistaken, None)
        build_pruner(mistaken)


# ---- what is sampled -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "cmaes", "nsgaii"])
def test_a_seed_gives_the_same_sequence_again(name: str, tmp_path: Path, bench: Any) -> None:
    def sequence(path: str) -> list[dict[str, Any]]:
        here = bench(storage=tmp_path / path, sampler=name, seed=3, space=CONDITIONAL)
        found = []
        for _ in range(14):  # TPE begins to think after ten
            sampled = here.sample()
            found.append(sampled.params)
            here.judge(sampled.number, 0.5)
            here.tell(sampled.number, value(sampled.params))
        here.close()
        return found

    first = sequence("one.log")
    assert sequence("other.log") == first
    assert all(("deep" in params) == (params["kind"] != "c") for params in first)


@pytest.mark.parametrize("seed", [{"seed": 3}, {"sampler": {"seed": 3}}], ids=["ours", "the sampler's"])
@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "cmaes", "nsgaii"])
def test_a_seed_gives_the_same_sequence_whoever_takes_it_over(
    name: str, seed: dict[str, Any], tmp_path: Path, bench: Any
) -> None:
    def sequence(path: str, *deaths: int) -> list[dict[str, Any]]:
        keys = {**seed, "sampler": {"name": name, **seed.get("sampler", {})}, "storage": tmp_path / path}
        here, found = bench(**keys), []
        for number in range(14):
            if number in deaths:
                here.close()
                here = bench(here, **keys)
            found.append(here.sample().params)
            if number:  # one behind, as on one slot
                here.judge(number - 1, 0.5)
                here.tell(number - 1, value(found[-2]))
        here.close()
        return found

    whole = sequence("whole.log")
    assert len({json.dumps(params) for params in whole}) == 14
    assert sequence("broken.log", 1, 2, 7, 12) == whole


def test_nor_what_the_journal_missed(bench: Any) -> None:
    first = bench(sampler="random", seed=3)
    known = first.sample().params
    lost = [first.ask() for _ in range(3)]
    first.close()
    second = bench(sampler="random", seed=3, before=first)
    after = [second.sample().params for _ in range(3)]
    second.close()
    assert len({json.dumps(one) for one in [known, *(one.params for one in lost), *after]}) == 7


def drain(here: Bench) -> tuple[list[dict[str, Any]], e.SamplerExhausted]:
    found = []
    for _ in range(50):
        event = here.ask()
        if isinstance(event, e.SamplerExhausted):
            return found, event
        assert isinstance(event, e.TrialSampled)
        here.sweep.asking += 1
        step(here.sweep, event)
        here.tell(event.number, 1.0)
        found.append(event.params)
    pytest.fail("it samples without end")


@pytest.mark.parametrize(
    ("sampler", "space", "count"),
    [("grid", COUNTABLE, 6), ("bruteforce", COUNTABLE, 6), ("bruteforce", {**COUNTABLE, "deep": {
        "type": "int", "low": 0, "high": 3, "when": {"kind": "a"}}}, 15)],
)  # fmt: skip
def test_an_exhaustive_sampler_ends_by_itself(sampler: str, space: Any, count: int, bench: Any) -> None:
    here = bench(sampler=sampler, space=space, trials=99)
    found, end = drain(here)
    here.close()
    assert len(found) == count == len({json.dumps(one, sort_keys=True) for one in found})
    assert not end.failed and end.why == f"all {count} configurations of the space have been sampled"


def test_an_exhaustive_sampler_goes_on_where_it_was(bench: Any) -> None:
    first = bench(sampler="grid", space=COUNTABLE, seed=1)
    before = [first.sample().params for _ in range(4)]
    first.tell(0, 1.0)
    first.close()
    second = bench(before=first, sampler="grid", space=COUNTABLE, seed=1)
    after, _ = drain(second)
    second.close()
    assert len({json.dumps(one) for one in [*before, *after]}) == 6 == len(before) + len(after)


def test_preview_shows_what_a_seeded_sweep_begins_with(bench: Any) -> None:
    wish = {"x": 0.25, "n": 8, "kind": "b"}
    keys = {"sampler": "random", "seed": 5, "enqueue": [wish]}
    here = bench(**keys)
    here.search.prefer(do.Prefer(wish))
    found = [here.sample() for _ in range(3)]
    here.close()
    assert preview(config(**keys), 3) == [one.params for one in found]
    assert found[0].params == {**wish, "fixed": 7}
    assert [one.origin for one in found] == ["enqueued", "sampler", "sampler"]
    assert len(preview(config(sampler="grid", space=COUNTABLE), 50)) == 6


def test_a_wish_may_leave_parameters_to_the_sampler(bench: Any) -> None:
    here = bench()
    here.search.prefer(do.Prefer({"x": 0.25, "fixed": 7}))
    params = here.sample().params
    here.close()
    assert params["x"] == 0.25 and params["n"] >= 1 and list(params) == list(SPACE)


def test_the_best_of_two_objectives_and_a_trial_that_gave_up(tmp_path: Path, bench: Any) -> None:
    here = bench(metric=["acc", "cost"], direction=["maximize", "minimize"], seed=1)
    for number in range(3):
        here.sample()
        state = TrialState.PRUNED if number == 1 else TrialState.COMPLETE
        here.search.tell(do.Tell(number, state, None if number == 1 else (1.0, 2.0)))
    here.close()
    theirs = study(tmp_path / "study.log").trials
    assert [trial.state.name for trial in theirs] == ["COMPLETE", "FAIL", "COMPLETE"], "Optuna has no PRUNED there"


def test_a_sampler_that_fails_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    here = bench()
    monkeypatch.setattr(optuna.samplers.TPESampler, "infer_relative_search_space", lambda *_: 1 / 0)
    event = here.ask()
    here.close()
    assert isinstance(event, e.SamplerExhausted)
    assert event.failed and event.why == "the sampler failed: division by zero"
    caplog.clear()
