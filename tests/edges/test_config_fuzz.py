"""Whatever a file holds, it loads or is refused in words: nothing else ever leaves `load`."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweep.config.load import load
from sweep.config.model import Float, Int, SweepConfig
from sweep.config.parameters import TYPES, highest
from sweep.errors import ConfigError

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

BASES: list[dict[str, Any]] = [
    {
        "command": "t {args}",
        "metric": "acc",
        "direction": "maximize",
        "trials": 3,
        "space": {"lr": {"type": "float", "low": 1, "high": 2}},
    },
    {
        "method": "random",
        "program": "t.py",
        "metric": {"name": "acc"},
        "run_cap": 3,
        "parameters": {"lr": {"min": 1, "max": 2}},
    },
    {"trialCommand": "t", "maxTrialNumber": 3, "searchSpace": {"lr": {"_type": "uniform", "_value": [0, 1]}}},
]
WORDS = """
    name command objective metric direction value space trials timeout sampler pruner seed devices slots report
    retry fail_fast grace checkpoints mlflow storage env warm enqueue cwd type low high step log choices when lr
    stall budget failures on_nan duplicates fail_rate backoff after signs action
    pattern on times keep tags kind count ids mode options parameters method program run_cap early_terminate min
    max q values distribution goal searchSpace tuner assessor trainingService classArgs optimize_mode _type _value
    _name min_iter max_iter s eta gpuIndices platform trialGpuNumber
"""
KEYS = st.sampled_from(WORDS.split())
VALID = (
    "float int lr sgd tpe 90s {lr} minimize cpu:3 choice log_uniform q_uniform json a:b ${args} hyperband local"
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([*VALID.split(), "t {args}", "(?P<acc>x)"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
PARAMETERS = st.one_of(
    LEAVES,
    VALUES,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["float", "int"]), "low": LEAVES, "high": LEAVES},
        optional={"step": LEAVES, "log": LEAVES, "when": st.dictionaries(st.sampled_from(["lr", "x"]), VALUES)},
    ),
    st.fixed_dictionaries(
        {"_type": st.sampled_from(["choice", "randint", "uniform", "quniform", "loguniform", "qloguniform"])},
        optional={"_value": st.lists(VALUES, max_size=4)},
    ),
    st.fixed_dictionaries(
        {"min": LEAVES, "max": LEAVES},
        optional={
            "q": LEAVES,
            "distribution": st.sampled_from(["int_uniform", "q_uniform", "log_uniform", "q_log_uniform_values"]),
        },
    ),
)


def loads(path: Path, raw: bytes) -> SweepConfig | None:
    path.write_bytes(raw)
    try:
        config, told = load(path)
    except ConfigError as error:
        assert str(error).encode()
        return None
    assert all(isinstance(warning, str) for warning in told)
    return config


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "space.yaml"


@FUZZ
@given(raw=st.binary(max_size=200))
def test_any_bytes(path: Path, raw: bytes) -> None:
    loads(path, raw)


TOKENS = "a|b|: |:|- |\n|\n  |\n    |{|}|[|]|,|&x |*x|<<|!!int |!f |'|\"|> |#|---\n|?|\t|1e4|0x|~|.nan|\\u|\x85|="


@FUZZ
@given(
    tokens=st.lists(
        st.sampled_from(TOKENS.split("|")) | st.sampled_from(["|", "space", "%YAML 1.1\n"]), max_size=30
    )
)
def test_anything_made_of_yaml(path: Path, tokens: list[str]) -> None:
    loads(path, "".join(tokens).encode())


@FUZZ
@given(
    base=st.sampled_from(BASES),
    changes=st.dictionaries(KEYS, VALUES, max_size=2),
    space=st.none() | st.dictionaries(st.sampled_from(["lr", "x", "a.b", "trial"]), PARAMETERS, max_size=3),
)
def test_any_values_in_any_dialect(
    path: Path, base: dict[str, Any], changes: dict[str, Any], space: dict[str, Any] | None
) -> None:
    document = {**base, **changes}
    if space is not None:
        document[next(key for key in ("space", "parameters", "searchSpace") if key in base)] = space
    config = loads(path, json.dumps(document).encode())
    if config is not None:  # the journal keeps it as strict JSON
        dump = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
        assert SweepConfig.model_validate(dump) == config


BOUNDS = st.integers(-40, 40) | st.decimals(-40, 40, places=2).map(float)
STEPS = st.none() | st.integers(-1, 9) | st.decimals(-1, 9, places=2).map(float)


@settings(deadline=None)
@given(kind=st.sampled_from(["float", "int"]), low=BOUNDS, high=BOUNDS, step=STEPS, log=st.booleans())
def test_a_range_is_accepted_where_optuna_accepts_it_and_reaches_as_high(
    kind: str, low: float, high: float, step: float | None, log: bool
) -> None:
    numbers = {"low": low, "high": high, **({} if step is None else {"step": step})}
    theirs: optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution | None = None
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore", UserWarning)  # that it adjusts `high`; `odd` says so for us
        if kind == "float":
            theirs = optuna.distributions.FloatDistribution(**numbers, log=log)
        elif all(number == int(number) for number in numbers.values()):
            whole = {key: int(number) for key, number in numbers.items()}
            theirs = optuna.distributions.IntDistribution(**whole, log=log)
    try:
        ours = TYPES[kind].model_validate({**numbers, "log": log})
    except ValidationError:
        assert theirs is None
        return
    assert isinstance(ours, (Float, Int))
    assert theirs is not None
    assert (ours.low, highest(ours), ours.log) == (theirs.low, theirs.high, theirs.log)
