"""`sweep.Space`: Optuna's distributions, plain values and the file's own words are one thing, written and read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

import sweep
from sweep.config.load import load
from sweep.errors import ConfigError, UsageError
from sweep.search.space import distribution

REST = {"command": "true {args}", "metric": "acc", "direction": "maximize"}
finite = st.floats(-1e6, 1e6)


@st.composite
def distributions(draw: st.DrawFn) -> BaseDistribution:
    kind = draw(st.sampled_from(["float", "log", "stepped", "int", "int log", "choice"]))
    if kind == "choice":
        return CategoricalDistribution(draw(st.lists(st.text("abc -:#", max_size=4), min_size=1, unique=True)))
    if kind.startswith("int"):
        low = draw(st.integers(1, 1000))
        step = 1 if kind == "int log" else draw(st.integers(1, 50))
        return IntDistribution(low, low + draw(st.integers(0, 20)) * step, log=kind == "int log", step=step)
    low = draw(st.floats(1e-9, 1.0) if kind == "log" else finite)
    if kind == "stepped":
        return FloatDistribution(float(round(low)), round(low) + 4 * 0.25, step=0.25)
    return FloatDistribution(low, low + draw(st.floats(1e-6, 1e6)), log=kind == "log")


@given(
    kinds=st.dictionaries(st.from_regex(r"p[a-z]{1,5}", fullmatch=True), distributions(), min_size=1, max_size=5)
)
def test_distributions_are_the_same_after_a_file(
    kinds: dict[str, BaseDistribution], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = sweep.Space(kinds).save(tmp_path_factory.mktemp("space") / "space.yaml", **REST)
    config, _ = load(file)
    assert {name: distribution(one) for name, one in config.space.items()} == kinds  # type: ignore[arg-type]
    assert dict(sweep.Space.load(file)) == config.space


def test_plain_values_and_conditions_are_the_same_after_a_file(tmp_path: Path) -> None:
    space = sweep.Space(
        {"weight-decay": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True}},
        optimizer=("sgd", "adam"),
        width=np.array([16, 32]),
        momentum=FloatDistribution(0, 0.9),
        epochs=np.int64(20),
        layers={"type": "constant", "value": [64, 64]},
    ).when("momentum", optimizer="sgd")
    assert list(space) == ["weight-decay", "optimizer", "width", "momentum", "epochs", "layers"]
    file = space.save(tmp_path / "first.yaml", trials=7, **REST)
    assert "optimizer: [sgd, adam]\n" in file.read_text()
    config, warnings = load(file)
    assert (config.name, config.trials, warnings) == ("first", 7, [])
    assert config.space == dict(space)
    assert config.space["momentum"].when == {"optimizer": ["sgd"]}


def test_samples_are_within_the_space_and_heed_conditions() -> None:
    space = sweep.Space(lr=FloatDistribution(1e-4, 1e-1, log=True), optimizer=["sgd", "adam"], momentum=[0.5, 0.9])
    drawn = space.when("momentum", optimizer="sgd").sample(200, seed=3)
    assert list(drawn.columns) == ["lr", "optimizer", "momentum"]
    assert drawn["lr"].between(1e-4, 1e-1).all()
    assert 0.4 < (drawn["lr"] < 10**-2.5).mean() < 0.6  # half of the logarithm
    assert (drawn["momentum"].isna() == (drawn["optimizer"] == "adam")).all()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"lr": {"type": "float", "low": 1, "high": 0}}, "space.lr.low: 1.0 is above the upper bound, 0.0"),
        ({"lr": {"typ": "float"}}, "space.lr: has `typ` but no `type`"),
        ({"x": 1, "y": {"type": "int", "low": 0, "high": 1, "when": {"z": 1}}}, "z"),
    ],
)
def test_a_mistake_is_told_by_its_key(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match="Space") as caught:
        sweep.Space(parameters)
    assert told in str(caught.value)


def test_a_file_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="direction"):
        sweep.Space(x=[1, 2]).save(tmp_path / "space.yaml", command="true {x}", metric="acc")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no parameter 'y'"):
        sweep.Space(x=[1, 2]).when("y", x=1)


def test_what_notebooks_need_costs_a_trial_nothing() -> None:
    code = "import sys, sweep; print('sweep.api' in sys.modules, sorted({'run', 'load'}.intersection(dir(sweep))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False ['load', 'run']"
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        sweep.runn  # type: ignore[attr-defined]  # noqa: B018
