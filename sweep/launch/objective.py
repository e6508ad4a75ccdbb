"""Runs a Python function as a trial, in a process of its own: `python -m sweep.launch.objective module:function`.

Parameters come from $SWEEP_PARAMS, or from `--params '<json>'` for a run by hand. The function takes them by name;
one named `trial` gets the trial, and a lone one whose name is no parameter gets the whole dict. What it returns is
the objective: a number, a sequence of numbers (several objectives, in order), a mapping of metrics, or None where
the function reports by itself.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweep.trial import Trial, TrialPruned, current_trial


def main(arguments: list[str]) -> int:
    target = arguments[0]
    sys.path.insert(0, os.getcwd())
    module, _, name = target.partition(":")
    function = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    trial = current_trial()
    params = json.loads(arguments[2]) if arguments[1:2] == ["--params"] else trial.params
    result = call(function, trial, params)  # type: ignore[arg-type]
    metrics = os.environ.get("SWEEP_METRICS", "value").split("\n")
    said = as_metrics(result, metrics)
    if said:
        trial.report(trial.step or 0, said)
        if trial.number is None:
            print(json.dumps({key: float(value) for key, value in said.items()}))
    return 0


def call(function: Callable[..., Any], trial: Trial, params: Mapping[str, Any]) -> Any:
    """Calls the function with what its signature asks for."""
    signature = inspect.signature(function)
    names = list(signature.parameters)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    if len(names) == 1 and not takes_all and names[0] not in params:
        return function(trial if names[0] == "trial" else dict(params))
    wanted = {key: value for key, value in params.items() if takes_all or key in names}
    if "trial" in names and "trial" not in params:
        wanted["trial"] = trial
    return function(**wanted)


def as_metrics(result: Any, names: Sequence[str]) -> dict[str, Any]:
    """The returned value as metrics by name; empty for None. Raises TypeError for what is no number."""
    if result is None:
        return {}
    if isinstance(result, Mapping):
        return dict(result)
    values = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(values) != len(names):
        raise TypeError(
            f"the objective returned {len(values)} values for {len(names)} metrics ({', '.join(names)})"
        )
    return dict(zip(names, values, strict=True))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TrialPruned as end:
        current_trial().acknowledge("prune")
        print(f"sweep: {end}", file=sys.stderr)
        sys.exit(1)
