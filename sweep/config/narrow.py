"""The space of a next round: the ranges of a file, drawn in around the best trials of a sweep before. Pure.

A range keeps `share` of the width that it had in that sweep (of its logarithm, where the scale is logarithmic),
around the middle of the best values. It is wider where they lie further apart, so that none is cut off, and moved
where it would leave the file's bounds. A categorical keeps the choices that occur among the best. What none of
them has within the file's bounds stays as the file says; what can never be active any more goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sweep.config.checks import misfit
from sweep.config.model import Categorical, Constant, Float, Int, Parameter
from sweep.config.parameters import highest, same
from sweep.config.space import in_order, is_active

Params = Mapping[str, Any]


def narrowed(
    space: Mapping[str, Parameter], before: Mapping[str, Parameter], best: Sequence[Params], share: float
) -> dict[str, Parameter]:
    """space: the file's; before: that of the earlier sweep, of which `best` are configurations. In its order."""
    kept: dict[str, Parameter] = {}
    for name in in_order(space):
        parameter = space[name]
        when = {
            parent: [one for one in wanted if parent in kept and misfit(kept[parent], one) is None]
            for parent, wanted in (parameter.when or {}).items()
        }
        if all(when.values()):
            values = [one[name] for one in best if name in one and misfit(parameter, one[name]) is None]
            around = _around(parameter, before.get(name), values, share) if values else parameter
            kept[name] = around.model_copy(update={"when": when or None})
    return {name: kept[name] for name in space if name in kept}


def carried(space: Mapping[str, Parameter], best: Sequence[Params]) -> list[dict[str, Any]]:
    """What of these configurations the space can have, each once, in order; the rest is left to a sampler."""
    found: list[dict[str, Any]] = []
    for params in best:
        chosen: dict[str, Any] = {}
        for name in in_order(space):
            parameter = space[name]
            if not is_active(parameter, chosen):
                continue
            if isinstance(parameter, Constant):
                chosen[name] = parameter.value
            elif name in params and misfit(parameter, params[name]) is None:
                chosen[name] = params[name]
        sampled = {name: chosen[name] for name in chosen if not isinstance(space[name], Constant)}
        if sampled and sampled not in found:
            found.append(sampled)
    return found


def _around(parameter: Parameter, before: Parameter | None, values: list[Any], share: float) -> Parameter:
    if isinstance(parameter, Categorical):
        choices = [choice for choice in parameter.choices if any(same(choice, value) for value in values)]
        return parameter.model_copy(update={"choices": choices})
    if isinstance(parameter, Constant):
        return parameter
    scale, back = (math.log, math.exp) if parameter.log else (float, float)
    least, most = scale(parameter.low), scale(highest(parameter))
    first, last = scale(min(values)), scale(max(values))
    alike = isinstance(before, (Float, Int)) and before.log == parameter.log
    old = (
        scale(highest(before)) - scale(before.low) if alike and isinstance(before, (Float, Int)) else most - least
    )
    width = min(most - least, max(last - first, share * old))
    start = min(max(least, first + (last - first - width) / 2), most - width)
    low = max(parameter.low, min(back(start), min(values)))  # within the bounds, whatever was rounded
    high = min(highest(parameter), max(back(start + width), max(values)))
    if parameter.step is not None:
        low, high = _on_steps(parameter, low, high)
    number = int if isinstance(parameter, Int) else float
    return parameter.model_copy(update={"low": number(low), "high": number(high)})


def _on_steps(parameter: Float | Int, low: float, high: float) -> tuple[float, float]:
    """The bounds moved outwards to values that the file's own steps reach."""
    if isinstance(parameter, Int):  # whole numbers may be larger than a float tells apart
        origin, step = parameter.low, parameter.step
        first, last = (math.floor(low) - origin) // step, -((origin - math.ceil(high)) // step)
        return origin + max(0, first) * step, min(highest(parameter), origin + last * step)
    assert parameter.step is not None
    start, stride = Decimal(str(parameter.low)), Decimal(str(parameter.step))
    count = round((Decimal(str(highest(parameter))) - start) / stride)
    first, last = (max(0, min(count, round((Decimal(str(one)) - start) / stride))) for one in (low, high))
    while first > 0 and float(start + first * stride) > low:
        first -= 1
    while last < count and float(start + last * stride) < high:
        last += 1
    return float(start + first * stride), float(start + last * stride)
