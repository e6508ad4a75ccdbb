"""`constraints: oom`: what Optuna is told of a trial that ran out of memory, and what its sampler makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from search_kit import Bench, benches, config, study

from sweep.core import effects as do
from sweep.core.model import Attempt, Outcome, Phase, TrialState
from sweep.errors import ConfigError
from sweep.search import build_sampler

FITS = 256
SPACE = {
    "width": {"type": "int", "low": 16, "high": 512, "step": 16},
    "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
}


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path, caplog) as open_bench:
        yield open_bench


def ran_out(one: Bench, number: int, peak: float, *, told: bool = True) -> None:
    """As an attempt's end leaves it; told: whether the controller lived to tell it."""
    trial = one.sweep.trials[number]
    trial.attempts.append(Attempt(1, "cpu-0", "cpu-0", Phase.ENDED, outcome=Outcome.OOM, peak=peak))
    trial.state = TrialState.FAIL
    if told:
        one.search.tell(do.Tell(number, trial.state, None, trial.outcome, trial.ran_out))


def go_on(one: Bench, trials: int) -> list[int]:
    """More trials of a task that is the better the wider, where FITS is the widest that fits; their widths."""
    widths = []
    for _ in range(trials):
        sampled = one.sample()
        width, lr = sampled.params["width"], sampled.params["lr"]
        widths.append(width)
        if width > FITS:
            ran_out(one, sampled.number, 1e7 * width)
        else:
            one.tell(sampled.number, width / 512 - 0.1 * (math.log10(lr) + 2) ** 2)
    return widths


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_sampler_leaves_the_region(bench: Callable[..., Bench], tmp_path: Path, seed: int) -> None:
    share = {}
    for name, keys in {"with": {"constraints": "oom"}, "without": {}}.items():
        one = bench(storage=tmp_path / name, space=SPACE, seed=seed, trials=None, timeout=9, **keys)
        late = go_on(one, 50)[20:]
        share[name] = sum(width > FITS for width in late) / len(late)
    assert share["without"] > 0.9, "wider looks better, and a failure teaches nothing"
    assert share["with"] < 0.6, "the best width is the widest that fits, so half of its neighbours do not"


def test_a_sweep_that_was_taken_over_has_the_same_constraints_and_samples(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"space": SPACE, "seed": 1, "trials": None, "timeout": 9, "constraints": "oom"}
    straight = go_on(bench(storage=tmp_path / "straight", **keys), 30)
    first = bench(**keys)
    widths = go_on(first, 14)
    assert max(widths) > FITS
    first.close()
    again = bench(first, **keys)
    widths += go_on(again, 16)
    again.close()
    assert widths == straight


@pytest.mark.parametrize("several", [False, True])
def test_an_end_that_nobody_lived_to_tell_is_told_by_the_next(
    bench: Callable[..., Bench], tmp_path: Path, several: bool
) -> None:
    more = {"metric": ["acc", "loss"], "direction": ["maximize", "minimize"]} if several else {}
    first = bench(constraints="oom", **more)
    told, untold = first.sample().number, first.sample().number
    ran_out(first, told, 7.94e10)
    ran_out(first, untold, 0.0, told=False)
    first.close()
    bench(first, constraints="oom", **more).close()
    found = study(tmp_path / "study.log").trials
    assert [trial.state.name for trial in found] == ["PRUNED", "PRUNED"]
    assert [trial.constraints for trial in found] == [{"oom": pytest.approx(79.4)}, {"oom": 1.0}]


def test_without_the_key_it_is_a_failure(bench: Callable[..., Bench], tmp_path: Path) -> None:
    one = bench()
    ran_out(one, one.sample().number, 1e9)
    one.close()
    [trial] = study(tmp_path / "study.log").trials
    assert (trial.state.name, trial.constraints) == ("FAIL", {})


def test_what_ran_out_beside_others_says_nothing_of_its_configuration(bench: Callable[..., Bench]) -> None:
    one = bench(constraints="oom")
    number = one.sample().number
    ran_out(one, number, 1e9, told=False)
    trial = one.sweep.trials[number]
    assert trial.ran_out == 1e9
    trial.attempts[-1].crowded = True
    assert trial.ran_out is None


@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        "cmaes",
        "nsgaii",
        "qmc",
        {"name": "partialfixed", "fixed_params": {"x": 1}, "base_sampler": "random"},
    ],
)
def test_a_sampler_that_would_not_see_it_is_refused(sampler: Any) -> None:
    with pytest.raises(ConfigError, match="learns nothing from a trial without a value") as refused:
        build_sampler(config(constraints="oom", sampler=sampler), 1)
    assert refused.value.key == "constraints" and "tpe" in str(refused.value)


@pytest.mark.parametrize(
    "sampler", ["tpe", {"name": "partialfixed", "fixed_params": {"x": 1}, "base_sampler": "tpe"}]
)
def test_tpe_is_not_nor_within_another(sampler: Any) -> None:
    build_sampler(config(constraints="oom", sampler=sampler), 1)
