"""What two keys of the file show to be wrong together. Every check yields problems by the key that is at fault.

A check is listed in CHECKS with the keys that it looks at, and skipped where one of those is broken already. It
is told which parameters are broken on their own: their names and conditions hold, nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sweep.config import command
from sweep.config.model import Categorical, Constant, Float, Int, Parameter, SweepConfig
from sweep.config.parameters import highest, same
from sweep.config.words import KeyPath, Problem, found, listed, show, suggest

MISSING = "*"  # among the broken parameters: some may be missing altogether
_SPEC = re.compile(r":[^{}]*\}")


def misfit(parameter: Parameter, value: Any) -> str | None:
    """Why the parameter can never have this value, or None where it can."""
    if isinstance(parameter, Constant):
        return None if same(value, parameter.value) else f"is always {show(parameter.value)}"
    if isinstance(parameter, Categorical):
        if any(same(value, choice) for choice in parameter.choices):
            return None
        words = [show(choice).strip("'") for choice in parameter.choices]
        return f"has no choice {show(value)}: {suggest(str(value), words)}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"is a number, not {show(value)}"
    if isinstance(parameter, Int) and value != int(value):
        return f"is a whole number, not {show(value)}"
    top = highest(parameter)
    if not parameter.low <= value <= top:
        return f"lies in {show(parameter.low)} .. {show(top)}, {show(value)} does not"
    if parameter.step:
        steps = (value - parameter.low) / parameter.step
        if abs(steps - round(steps)) > 1e-8 * max(1.0, abs(steps)):
            return f"goes from {show(parameter.low)} in steps of {show(parameter.step)}, past {show(value)}"
    return None


def params_problems(
    space: Mapping[str, Parameter], params: Mapping[str, Any], broken: Iterable[str] = ()
) -> Iterator[Problem]:
    """What is wrong with a configuration of the user's own, which may leave parameters to the sampler."""
    doubtful = set(broken)
    for name, value in params.items():
        if name in doubtful:
            continue
        if name not in space:
            if MISSING not in doubtful:
                yield Problem("is no parameter", (name,), suggest(name, space))
        elif isinstance(value, (list, dict)) and not isinstance(space[name], Constant):
            yield Problem(f"found {found(value)}; wanted is a value", (name,))
        elif reason := misfit(space[name], value):
            yield Problem(f"`{name}` {reason}", (name,))
        else:
            for parent, wanted in (space[name].when or {}).items():
                if parent in params and not any(same(params[parent], one) for one in wanted):
                    yield Problem(
                        f"is inactive where `{parent}` is {show(params[parent])}",
                        (name,),
                        f"leave it out, or set `{parent}` to {' or '.join(map(show, wanted))}",
                    )


def _task(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if config.command is None and config.objective is None and MISSING not in broken:
        hint = "such as `command: python train.py --lr {lr}`, or `objective: module:function`"
        yield Problem("neither `command` nor `objective` says what a trial runs", (), hint)
    elif config.command is not None and config.objective is not None:
        yield Problem("stands beside `command`; a trial runs one of them", ("objective",), "take one of them out")


def _metrics(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if not config.metric:
        yield Problem("names no metric", ("metric",), "such as `metric: val_acc`")
    twice = [index for index, name in enumerate(config.metric) if name in config.metric[:index]]
    yield from (Problem(f"`{config.metric[index]}` stands here twice", ("metric", index)) for index in twice)
    if len(config.metric) != len(config.direction):
        counts = f"{len(config.direction)} for {len(config.metric)} metric{'s' if len(config.metric) > 1 else ''}"
        yield Problem(f"has {counts}", ("direction",), "one of `minimize`, `maximize` for each metric, in order")


def _pruning(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if config.pruner is not None and config.pruner.name != "nop" and len(config.metric) > 1:
        hint = "take `pruner` out, or name one metric"
        yield Problem("cannot prune with several metrics: Optuna prunes by one", ("pruner",), hint)


def _patterns(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if config.report.mode != "pattern":
        return
    groups = {group for pattern in config.report.patterns for group in re.compile(pattern).groupindex} - {"step"}
    for metric in config.metric:
        if metric not in groups:
            path: KeyPath = ("report", "pattern")
            hint = (
                f"call a group `(?P<{metric}>...)`" if metric.isidentifier() else "a group's name is an identifier"
            )
            finds = listed(sorted(groups)) or "only a step"
            yield Problem(f"finds {finds}, but not the metric `{metric}`", path, hint)


def _conditions(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    space = config.space
    for name, parameter in space.items():
        for parent, wanted in (parameter.when or {}).items():
            path: KeyPath = ("space", name, "when", parent)
            if parent == name:
                yield Problem(f"`{name}` cannot depend on itself", path)
            elif parent in space and parent not in broken:
                for index, value in enumerate(wanted):
                    if reason := misfit(space[parent], value):
                        yield Problem(f"never holds: `{parent}` {reason}", (*path, index))
            elif parent not in space and MISSING not in broken:
                yield Problem(
                    f"`{parent}` is no parameter", path, suggest(parent, [o for o in space if o != name])
                )
    for cycle in _cycles(space):
        hint = "one of them has to be active without the others"
        yield Problem(f"depends on itself: {' -> '.join((*cycle, cycle[0]))}", ("space", cycle[0], "when"), hint)


def _cycles(space: Mapping[str, Parameter]) -> Iterator[tuple[str, ...]]:
    """Each ring of two and more parameters whose `when` look at one another, once."""
    done: set[str] = set()
    for start in space:
        trail: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, depth = stack.pop()
            del trail[depth:]
            if name in trail:
                ring = trail[trail.index(name) :]
                if len(ring) > 1:
                    yield tuple(ring)
            elif name in space and name not in done:
                done.add(name)
                trail.append(name)
                stack += [(parent, len(trail)) for parent in space[name].when or {}]


def _wishes(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    for index, params in enumerate(config.enqueue):
        yield from (problem.below("enqueue", index) for problem in params_problems(config.space, params, broken))


def _something_to_search(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if not broken and config.trials != 1 and all(isinstance(one, Constant) for one in config.space.values()):
        hint = "give a parameter a range or choices, or set `trials: 1`"
        yield Problem("holds nothing to search: every trial would be the same", ("space",), hint)


def _template(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if config.command is not None and MISSING not in broken:
        words = [_SPEC.sub("}", word) for word in config.command] if broken else config.command
        errors, _ = command.check(words, config.space)
        yield from (Problem(error, ("command",)) for error in errors)


def odd(config: SweepConfig) -> Iterator[Problem]:
    """What is allowed in a valid file, and probably not meant."""
    for name, parameter in config.space.items():
        if isinstance(parameter, (Float, Int)) and (top := highest(parameter)) != parameter.high:
            said = f"{show(parameter.step)} does not divide {show(parameter.low)} .. {show(parameter.high)}"
            yield Problem(f"{said}: the highest value will be {show(top)}", ("space", name, "step"))
        for parent in parameter.when or {}:
            real = config.space[parent]
            if isinstance(real, Float) and real.step is None and real.low < real.high:
                said = f"`{parent}` is real: it will hardly ever be exactly this"
                yield Problem(said, ("space", name, "when", parent))
    if config.command is not None:
        _, warnings = command.check(config.command, config.space)
        yield from (Problem(warning, ("command",)) for warning in warnings)
    ends = config.sampler is not None and config.sampler.name.lower().startswith(("grid", "brute"))
    if config.trials is None and config.timeout is None and not ends:
        yield Problem("no `trials` and no `timeout`: the sweep goes on until you stop it")


def _sharing(config: SweepConfig, broken: set[str]) -> Iterator[Problem]:
    if config.slots_per_device == "auto" and config.devices_per_trial > 1:
        hint = "say how many trials share a device, or give each trial one"
        yield Problem("`auto` is not for trials on several devices", ("slots_per_device",), hint)


Check = Callable[[SweepConfig, set[str]], Iterator[Problem]]
CHECKS: tuple[tuple[frozenset[str], Check], ...] = (
    (frozenset({"command", "objective"}), _task),
    (frozenset({"metric", "direction"}), _metrics),
    (frozenset({"metric", "pruner"}), _pruning),
    (frozenset({"metric", "report"}), _patterns),
    (frozenset({"space"}), _conditions),
    (frozenset({"space", "enqueue"}), _wishes),
    (frozenset({"space", "trials"}), _something_to_search),
    (frozenset({"space", "command"}), _template),
    (frozenset({"slots_per_device", "devices_per_trial"}), _sharing),
)
