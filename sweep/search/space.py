"""The file's parameters in Optuna's terms, and one configuration from a trial of Optuna's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.config.model import Categorical, Constant, Float, Int, SweepConfig
from sweep.config.space import configurations, in_order, is_active
from sweep.search.names import build_sampler, lookup


def distribution(parameter: Float | Int | Categorical) -> BaseDistribution:
    """Optuna's own distribution for a parameter of the file."""
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(parameter.choices)


def suggest(trial: optuna.Trial, config: SweepConfig) -> dict[str, Any]:
    """One configuration, constants included; a parameter whose condition does not hold is left out."""
    chosen: dict[str, Any] = {}
    for name in in_order(config.space):
        parameter = config.space[name]
        if not is_active(parameter, chosen):
            continue
        if isinstance(parameter, Constant):
            chosen[name] = parameter.value
        elif isinstance(parameter, Float):
            chosen[name] = trial.suggest_float(
                name, parameter.low, parameter.high, step=parameter.step, log=parameter.log
            )
        elif isinstance(parameter, Int):
            chosen[name] = trial.suggest_int(
                name, parameter.low, parameter.high, step=parameter.step, log=parameter.log
            )
        else:
            chosen[name] = trial.suggest_categorical(name, parameter.choices)
    return {name: chosen[name] for name in config.space if name in chosen}


def preview(config: SweepConfig, count: int) -> list[dict[str, Any]]:
    """The first configurations that a sweep of this file would sample, before any has a result."""
    study = optuna.create_study(directions=config.direction, sampler=build_sampler(config, config.seed))
    most = limit(config)
    for wish in config.enqueue:
        study.enqueue_trial(sampled(config, wish))
    count = count if most is None else min(count, most)
    return [suggest(study.ask(), config) for _ in range(count)]


def limit(config: SweepConfig) -> int | None:
    """How many different configurations an exhaustive sampler has, None for the others."""
    if config.sampler is None:
        return None
    kind = lookup(optuna.samplers, "Sampler", config.sampler.name, "sampler")
    if kind is optuna.samplers.GridSampler and "search_space" in config.sampler.options:
        return math.prod(len(values) for values in config.sampler.options["search_space"].values())
    exhaustive = (optuna.samplers.GridSampler, optuna.samplers.BruteForceSampler)
    return configurations(config.space) if kind in exhaustive else None


def sampled(config: SweepConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without the constants, which Optuna does not know."""
    return {k: v for k, v in params.items() if not isinstance(config.space.get(k), Constant)}
