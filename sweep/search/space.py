"""The file's parameters in Optuna's terms, and one configuration from a trial of Optuna's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.config.model import Categorical, Constant, Float, Int, SweepConfig
from sweep.config.space import configurations, in_order, is_active
from sweep.errors import ConfigError
from sweep.search.names import build_sampler, lookup, reseed


def distribution(parameter: Float | Int | Categorical) -> BaseDistribution:
    """Optuna's own distribution for a parameter of the file."""
    if isinstance(parameter, Float):
        if parameter.low == parameter.high:  # a step, for samplers that count the values
            return FloatDistribution(parameter.low, parameter.high, step=parameter.step or 1.0)
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(parameter.choices)


def from_optuna(kind: BaseDistribution) -> dict[str, Any]:
    """A distribution of Optuna's as a parameter of the file. Raises ConfigError where it has no word for it."""
    if isinstance(kind, FloatDistribution):
        return {"type": "float", "low": kind.low, "high": kind.high, "step": kind.step, "log": kind.log}
    if isinstance(kind, IntDistribution):
        return {"type": "int", "low": kind.low, "high": kind.high, "step": kind.step, "log": kind.log}
    if isinstance(kind, CategoricalDistribution):
        return {"type": "categorical", "choices": list(kind.choices)}
    hint = "take a FloatDistribution, an IntDistribution or a CategoricalDistribution"
    raise ConfigError(f"{type(kind).__name__} is no parameter that a file can hold", hint=hint)


def recorded(config: SweepConfig, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The distributions of sampled parameters, wide enough for values from before the file's ranges changed."""
    kinds: dict[str, BaseDistribution] = {}
    for name, value in sampled(config, params).items():
        parameter = config.space[name]
        assert not isinstance(parameter, Constant)
        kind = kinds[name] = distribution(parameter)
        if not isinstance(kind, CategoricalDistribution) and not kind._contains(kind.to_internal_repr(value)):
            kinds[name] = type(kind)(min(kind.low, value), max(kind.high, value), log=kind.log)
    return kinds


def suggest(trial: optuna.Trial, config: SweepConfig) -> dict[str, Any]:
    """One configuration, constants included; a parameter whose condition does not hold is left out."""
    chosen: dict[str, Any] = {}
    for name in in_order(config.space):
        parameter = config.space[name]
        if not is_active(parameter, chosen):
            continue
        if isinstance(parameter, Constant):
            chosen[name] = parameter.value
            continue
        kind = distribution(parameter)
        if isinstance(kind, FloatDistribution):
            chosen[name] = trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
        elif isinstance(kind, IntDistribution):
            chosen[name] = trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
        else:
            chosen[name] = trial.suggest_categorical(name, kind.choices)
    return {name: chosen[name] for name in config.space if name in chosen}


def preview(config: SweepConfig, count: int) -> list[dict[str, Any]]:
    """The first configurations that a sweep of this file would sample, before any has a result."""
    study = optuna.create_study(directions=config.direction, sampler=build_sampler(config, config.seed))
    most = limit(config)
    for wish in config.enqueue:
        study.enqueue_trial(sampled(config, wish))
    count = count if most is None else min(count, most)
    return [suggest(ask(study, config), config) for _ in range(count)]


def ask(study: optuna.Study, config: SweepConfig) -> optuna.Trial:
    """The next trial of a study that is ours alone: the first that was enqueued, or a new one."""
    trials = study.get_trials(deepcopy=False)
    waiting = (trial.number for trial in trials if trial.state is optuna.trial.TrialState.WAITING)
    reseed(study.sampler, config, next(waiting, len(trials)))
    return study.ask()


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
    """The parameters without what Optuna does not know: constants, and what was taken out of the file since."""
    return {k: v for k, v in params.items() if k in config.space and not isinstance(config.space[k], Constant)}
