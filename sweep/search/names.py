"""From words in the file to Optuna's samplers and pruners, with Optuna's own keyword arguments."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.samplers._lazy_random_state import LazyRandomState

from sweep.config.model import Constant, Named, SweepConfig
from sweep.config.space import configurations, values
from sweep.config.words import listed, suggest
from sweep.errors import ConfigError

# What Optuna needs besides itself, by class; it says so only at the first ask.
_NEEDS = {"GPSampler": ("torch", "scipy"), "QMCSampler": ("scipy",), "CmaEsSampler": ("cmaes",)}


def build_sampler(config: SweepConfig, seed: int | None) -> optuna.samplers.BaseSampler:
    """The sampler that the file names, TPE by default. Raises ConfigError."""
    named = config.sampler or Named(name="tpe")
    options = dict(named.options)
    cls = lookup(optuna.samplers, "Sampler", named.name, "sampler")
    conditional = any(p.when for p in config.space.values())
    if cls is optuna.samplers.TPESampler and conditional:
        # multivariate TPE samples a parameter that is not in every trial independently, unless grouped
        options.setdefault("group", options.get("multivariate", True))
    if cls is optuna.samplers.GridSampler and "search_space" not in options:
        if conditional:
            raise ConfigError(
                "a grid cannot hold conditional parameters (`when`)",
                key="sampler",
                hint="use `sampler: bruteforce`",
            )
        options["search_space"] = {
            name: values(name, parameter)
            for name, parameter in config.space.items()
            if not isinstance(parameter, Constant)
        }
    if cls in (optuna.samplers.GridSampler, optuna.samplers.BruteForceSampler):
        configurations(config.space)  # says what is not countable
    sampler = _construct(optuna.samplers, "Sampler", Named(name=named.name, options=options), "sampler", seed)
    assert isinstance(sampler, optuna.samplers.BaseSampler)
    if config.constraints and not _heeds_constraints(sampler):
        raise ConfigError(
            f"{cls.__name__} learns nothing from a trial without a value, as one is whose memory ran out",
            key="constraints",
            hint="take it out, or use `sampler: tpe`",
        )
    return sampler


def _heeds_constraints(sampler: optuna.samplers.BaseSampler) -> bool:
    """Of trials that did not complete. Those of other samplers are asked of completed trials only."""
    inner = getattr(sampler, "_base_sampler", sampler)  # of PartialFixedSampler
    return isinstance(inner, optuna.samplers.TPESampler)


def reseed(sampler: optuna.samplers.BaseSampler, config: SweepConfig, number: int) -> None:
    """Gives trial `number` of a seeded sweep a stream of chance of its own.

    One stream for all trials would begin again with each controller that takes the sweep over; so, nobody needs to
    know how much of it was used. Optuna's own `reseed_rng` takes no seed.
    """
    seed = config.sampler.options.get("seed", config.seed) if config.sampler else config.seed
    if seed is not None:
        _reseed(sampler, random.Random(f"{seed}/{number}").getrandbits(32))


def _reseed(sampler: optuna.samplers.BaseSampler, seed: int) -> None:
    for part in vars(sampler).values():
        if isinstance(part, LazyRandomState):
            part.rng.seed(seed)
        elif isinstance(part, optuna.samplers.BaseSampler):
            _reseed(part, seed)


def build_pruner(config: SweepConfig) -> optuna.pruners.BasePruner:
    """The pruner that the file names, none by default. Raises ConfigError."""
    named = config.pruner or Named(name="nop")
    pruner = _construct(optuna.pruners, "Pruner", named, "pruner", None)
    assert isinstance(pruner, optuna.pruners.BasePruner)
    return pruner


def lookup(module: Any, suffix: str, name: str, key: str) -> type:
    """Optuna's class for a name such as `tpe`, `TPESampler` or `nsga-ii`. Raises ConfigError."""

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "").removesuffix(suffix.lower())

    known = {
        plain(found): getattr(module, found)
        for found in dir(module)
        if found.endswith(suffix) and not found.startswith(("Base", "_"))
    }
    if plain(name) not in known:
        raise ConfigError(
            f"Optuna has no {suffix.lower()} {name!r}", key=key, hint=suggest(plain(name), sorted(known))
        )
    found = known[plain(name)]
    assert isinstance(found, type)
    return found


def _construct(module: Any, suffix: str, named: Named, key: str, seed: int | None) -> object:
    cls = lookup(module, suffix, named.name, key)
    allowed = inspect.signature(cls).parameters
    options: dict[str, Any] = {}
    for option, value in named.options.items():
        where = f"{key}.{option}"
        if option not in allowed:
            raise ConfigError(f"{cls.__name__} has no such argument", key=where, hint=suggest(option, allowed))
        if "Callable" in str(allowed[option].annotation) and isinstance(value, (str, dict, list)):
            raise ConfigError("takes a Python function, which a file cannot hold", key=where)
        options[option] = _nested(option, value, where, seed)
    if seed is not None and "seed" in allowed:
        options.setdefault("seed", seed)
    missing = [m for m in _NEEDS.get(cls.__name__, ()) if find_spec(m) is None]
    if missing:
        raise ConfigError(
            f"{cls.__name__} needs {' and '.join(missing)}", key=key, hint=f"pip install {' '.join(missing)}"
        )
    needed = [name for name, one in allowed.items() if one.default is one.empty and name not in options]
    if needed:
        hint = f"such as `{key}: {{name: {named.name}, {', '.join(f'{name}: ...' for name in needed)}}}`"
        raise ConfigError(f"{cls.__name__} needs {listed(needed)}", key=key, hint=hint)
    try:
        return cls(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{cls.__name__}: {error}", key=key) from None


def _nested(option: str, value: Any, where: str, seed: int | None) -> Any:
    """Samplers and pruners inside others, and the crossovers of the genetic ones, by name as well."""
    if isinstance(value, Mapping) and "name" in value:
        named = Named(name=value["name"], options={k: v for k, v in value.items() if k != "name"})
    elif isinstance(value, str) and option.endswith(("sampler", "pruner", "crossover", "mutation")):
        named = Named(name=value)
    else:
        return value
    if option.endswith("sampler"):
        return _construct(optuna.samplers, "Sampler", named, where, seed)
    if option.endswith("pruner"):
        return _construct(optuna.pruners, "Pruner", named, where, None)
    suffix = "Crossover" if option == "crossover" else "Mutation"
    return _construct(optuna.samplers.nsgaii, suffix, named, where, None)
