"""A Python function as a trial: what it is called with, and what becomes of what it returns."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.launch.objective import as_metrics, call
from sweep.trial import Trial

PARAMS = {"lr": 0.1, "width": 16}
ALONE = Trial({})


def by_name(lr: float, width: int) -> Any:
    return lr, width


def some(lr: float, other: str = "default") -> Any:
    return lr, other


def with_trial(width: int, trial: Any) -> Any:
    return width, trial


def only_trial(trial: Any) -> Any:
    return trial


def whole(config: Any) -> Any:
    return config


def one_of_them(lr: float) -> Any:
    return lr


def any_name(**params: Any) -> Any:
    return params


def any_name_and_trial(trial: Any, **params: Any) -> Any:
    return trial, params


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (by_name, (0.1, 16)),
        (some, (0.1, "default")),
        (with_trial, (16, ALONE)),
        (only_trial, ALONE),
        (whole, PARAMS),
        (one_of_them, 0.1),
        (any_name, PARAMS),
        (any_name_and_trial, (ALONE, PARAMS)),
    ],
)
def test_a_function_gets_what_its_signature_asks_for(function: Any, given: Any) -> None:
    assert call(function, ALONE, PARAMS) == given


def test_a_parameter_that_is_called_trial_is_the_parameter() -> None:
    assert call(only_trial, ALONE, {"trial": 3}) == 3
    assert call(with_trial, ALONE, {"trial": 3, "width": 1}) == (1, 3)


def test_a_parameter_that_nobody_gives_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="width"):
        call(by_name, ALONE, {"lr": 0.1})


@pytest.mark.parametrize(
    ("returned", "names", "metrics"),
    [
        (0.5, ["acc"], {"acc": 0.5}),
        ([0.5], ["acc"], {"acc": 0.5}),
        ((0.5, 3), ["acc", "size"], {"acc": 0.5, "size": 3}),
        ({"acc": 0.5, "loss": 1}, ["acc"], {"acc": 0.5, "loss": 1}),
        (None, ["acc"], {}),
    ],
)
def test_what_it_returns_is_its_objective(returned: Any, names: list[str], metrics: dict[str, Any]) -> None:
    assert as_metrics(returned, names) == metrics


@pytest.mark.parametrize("returned", [0.5, [0.5], (1, 2, 3), []])
def test_too_few_or_too_many_are_refused(returned: Any) -> None:
    with pytest.raises(TypeError, match=r"returned \d values for 2 metrics \(acc, size\)"):
        as_metrics(returned, ["acc", "size"])
