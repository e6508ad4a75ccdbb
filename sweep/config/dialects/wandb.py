"""A W&B sweep file in sweep's own grammar.

The format is W&B's documentation page "Sweep configuration options" (sweep-config-keys) and the JSON schema of its
`sweeps` package; what an agent runs is in its client's `sweep_utils.py`. In short:

- `min`/`max` without `distribution` are int_uniform where both are whole, else uniform.
- log_uniform takes exponents of e, log_uniform_values the values; inv_log_uniform is uniform in log(1/x), which is
  the same distribution over the mirrored range. q_* rounds to multiples of q, which is 1 where it is not given.
- `early_terminate: hyperband` compares runs at min_iter * eta^k (or max_iter / eta^k, k up to s) and keeps the
  best 1/eta: Optuna calls that successive halving.
- `goal` is minimize where it is not given. Without `command` it is `${env} ${interpreter} ${program} ${args}`.
"""

from __future__ import annotations

import math
from typing import Any

from sweep.config.dialects.draft import Draft
from sweep.config.document import Document
from sweep.config.model import safe
from sweep.config.words import KeyPath, found, suggest

_KEYS = (
    "method",
    "metric",
    "parameters",
    "program",
    "command",
    "early_terminate",
    "run_cap",
    "name",
    "project",
    "description",
)
_WITHOUT_EFFECT = ("apiVersion", "kind", "controller", "entity")
_WITHOUT_EQUIVALENT = {
    "job": "it is W&B Launch's",
    "image_uri": "it is W&B Launch's",
    "scheduler": "it is W&B Launch's",
    "metrics": "name the metrics and directions in a space.yaml",
}
_METHODS = {"grid": "grid", "random": "random", "bayes": "tpe"}
# distribution: (type, log) of those whose min and max are low and high
_PLAIN = {
    "uniform": ("float", False),
    "int_uniform": ("int", False),
    "log_uniform_values": ("float", True),
    "inv_log_uniform_values": ("float", True),
}
_EXPONENTS = ("log_uniform", "inv_log_uniform")
_ROUNDED = ("q_uniform", "q_log_uniform", "q_log_uniform_values")
_UNBOUNDED = ("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta")
_DISTRIBUTIONS = ("constant", "categorical", *_PLAIN, *_EXPONENTS, *_ROUNDED)
_DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_MACROS = ("env", "interpreter", "program", "args", "args_no_hyphens", "args_no_boolean_flags", "args_json_file")


def recognise(data: dict[str, Any]) -> bool:
    signs = "method" in data or "run_cap" in data or isinstance(data.get("metric"), dict)
    return "parameters" in data and "space" not in data and signs


def translate(source: Document) -> Document:
    """The document in sweep's own grammar; what has no equivalent is among its problems."""
    draft = Draft(source, "a W&B sweep")
    for key in source.data:
        if key in _WITHOUT_EFFECT:
            draft.warn((key,), "has no effect here")
        elif key in _WITHOUT_EQUIVALENT:
            draft.no_equivalent((key,), _WITHOUT_EQUIVALENT[key])
    settled = (*_WITHOUT_EFFECT, *_WITHOUT_EQUIVALENT)
    rest = {key: value for key, value in source.data.items() if key not in settled}
    data = draft.mapping(rest, (), _KEYS)
    _method(draft, data.get("method"))
    if "metric" in data:
        _metric(draft, data["metric"])
    draft.put(("space",), {}, ("parameters",))
    _parameters(draft, data.get("parameters"), ("parameters",), "")
    _command(draft, data)
    if "early_terminate" in data:
        _early_terminate(draft, data["early_terminate"])
    if "run_cap" in data:
        draft.put(("trials",), data["run_cap"], ("run_cap",))
    if isinstance(data.get("name"), str):
        draft.put(("name",), safe(data["name"]), ("name",))
    if "project" in data:
        draft.put(("mlflow", "experiment"), data["project"], ("project",))
    if "description" in data:
        draft.put(("mlflow", "tags"), {"mlflow.note.content": data["description"]}, ("description",))
    return draft.document


def _method(draft: Draft, method: Any) -> None:
    if isinstance(method, str) and method in _METHODS:
        draft.put(("sampler",), _METHODS[method], ("method",))
        if method == "bayes":
            draft.warn(("method",), "`bayes` runs as Optuna's TPE; W&B fits a Gaussian process")
    elif method == "custom":
        draft.no_equivalent(("method",), "the optimizer is code of its own")
    else:
        draft.refuse(("method",), f"found {found(method)}", suggest(str(method), _METHODS))


def _metric(draft: Draft, metric: Any) -> None:
    known = draft.mapping(metric, ("metric",), ("name", "goal", "target", "impute", "impute_while_running"))
    if "name" in known:
        draft.put(("metric",), known["name"], ("metric", "name"))
    elif isinstance(metric, dict):
        draft.refuse(("metric",), "has no `name`")
    draft.put(("direction",), known.get("goal", "minimize"), ("metric", "goal"))
    for key in ("target", "impute", "impute_while_running"):
        if key in known:
            draft.no_equivalent(
                ("metric", key), "a sweep ends by `run_cap`" if key == "target" else "Optuna ignores failed trials"
            )


def _parameters(draft: Draft, parameters: Any, origin: KeyPath, prefix: str) -> None:
    if not isinstance(parameters, dict):
        draft.refuse(origin, f"found {found(parameters)}; wanted are keys with values")
        return
    for key, spec in parameters.items():
        path, name = (*origin, key), f"{prefix}{key}"
        if isinstance(spec, dict) and "parameters" in spec:
            draft.mapping(spec, path, ("parameters",))
            draft.warn(path, f"is handed over flat, as `--{name}.…=value`; W&B hands over a dictionary")
            _parameters(draft, spec["parameters"], (*path, "parameters"), f"{name}.")
        elif isinstance(spec, dict):
            _parameter(draft, ("space", name), spec, path)
        else:
            draft.refuse(
                path, f"found {found(spec)}", "a parameter is `value: ...`, `values: [...]`, or `min` and `max`"
            )


def _parameter(draft: Draft, target: KeyPath, spec: dict[str, Any], origin: KeyPath) -> None:
    kind = spec.get("distribution", _implied(spec))
    if kind == "categorical_w_probabilities" or "probabilities" in spec:
        draft.no_equivalent((*origin, "probabilities"), "Optuna's choices weigh the same")
    elif kind in _UNBOUNDED:
        hint = "give it bounds, such as `distribution: uniform` with `min` and `max`"
        draft.no_equivalent((*origin, "distribution"), f"Optuna has no distribution `{kind}`", hint)
    elif kind == "constant":
        known = _known(draft, spec, origin, ("value",))
        draft.put(target, {"type": "constant"}, origin)
        draft.put((*target, "value"), known.get("value"), (*origin, "value"))
    elif kind == "categorical":
        known = _known(draft, spec, origin, ("values",))
        draft.put(target, {"type": "categorical"}, origin)
        draft.put((*target, "choices"), known.get("values"), (*origin, "values"))
    elif isinstance(kind, str) and kind in _PLAIN:
        known = _known(draft, spec, origin, ("min", "max"))
        kind, log = _PLAIN[kind]
        _range(draft, target, origin, {"type": kind, "log": log}, known.get("min"), known.get("max"))
    elif kind in _EXPONENTS or kind in _ROUNDED:
        _computed(draft, target, spec, origin, kind)
    elif "distribution" not in spec:
        draft.refuse(origin, "has neither `value`, nor `values`, nor `min` and `max`")
    else:
        draft.refuse((*origin, "distribution"), f"found {found(kind)}", suggest(str(kind), _DISTRIBUTIONS))


def _implied(spec: dict[str, Any]) -> str | None:
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    bounds = [spec[key] for key in ("min", "max") if key in spec]
    if not bounds:
        return None
    whole = all(isinstance(bound, int) and not isinstance(bound, bool) for bound in bounds)
    return "int_uniform" if whole else "uniform"


def _known(
    draft: Draft, spec: dict[str, Any], origin: KeyPath, keys: tuple[str, ...], *more: str
) -> dict[str, Any]:
    for key in keys:
        if key not in spec:
            draft.refuse((*origin, key), "is missing")
    return draft.mapping(spec, origin, (*keys, "distribution", *more))


def _range(draft: Draft, target: KeyPath, origin: KeyPath, kind: dict[str, Any], low: Any, high: Any) -> None:
    draft.put(target, kind, origin)
    draft.put((*target, "low"), low, (*origin, "min"))
    draft.put((*target, "high"), high, (*origin, "max"))


def _computed(draft: Draft, target: KeyPath, spec: dict[str, Any], origin: KeyPath, kind: str) -> None:
    """The distributions whose bounds are exponents, or rounded to multiples of q."""
    known = _known(draft, spec, origin, ("min", "max"), *(("q",) if kind in _ROUNDED else ()))
    if not {"min", "max"} <= known.keys():
        return
    numbers = draft.numbers({"min": known["min"], "max": known["max"], "q": known.get("q", 1)}, origin)
    if numbers is None:
        return
    low, high, q = numbers
    if kind in (*_EXPONENTS, "q_log_uniform"):
        try:
            low, high = (
                (math.exp(-high), math.exp(-low)) if kind.startswith("inv") else (math.exp(low), math.exp(high))
            )
        except OverflowError:
            draft.refuse(origin, "`min` and `max` are exponents of e here, and these are too large")
            return
        draft.warn(origin, f"`{kind}` takes exponents of e: the values lie in {low:.6g} .. {high:.6g}")
    if kind in _EXPONENTS:
        _range(draft, target, origin, {"type": "float", "log": True}, low, high)
    elif q <= 0:
        draft.refuse((*origin, "q"), f"{q} is not above 0")
    elif kind != "q_uniform" and q != 1:
        draft.no_equivalent(
            (*origin, "q"), "Optuna has no steps on a logarithmic scale, except whole numbers", "set `q: 1`"
        )
    else:
        low, high = round(low / q) * q, round(high / q) * q
        whole = isinstance(q, int)
        step = {} if kind != "q_uniform" else {"step": q}
        _range(
            draft,
            target,
            origin,
            {"type": "int" if whole else "float", "log": kind != "q_uniform", **step},
            low,
            high,
        )


def _command(draft: Draft, data: dict[str, Any]) -> None:
    command = data.get("command", list(_DEFAULT_COMMAND))
    if not isinstance(command, list):
        draft.refuse(("command",), f"found {found(command)}; wanted is a list of words")
        return
    words: list[str] = []
    for index, word in enumerate(command):
        origin = ("command", index)
        if isinstance(word, (list, dict)) or word is None:
            draft.refuse(origin, f"found {found(word)}; wanted is text")
        elif str(word).startswith("${") and str(word).endswith("}"):
            words += _macro(draft, str(word)[2:-1], data, origin)
        elif "${envvar:" in str(word):
            _no_variable(draft, origin)
        else:
            words.append(str(word).replace("{", "{{").replace("}", "}}"))
    if words:
        draft.put(("command",), words, ("command",) if "command" in data else ("program",))


def _macro(draft: Draft, name: str, data: dict[str, Any], origin: KeyPath) -> list[str]:
    if name == "env":  # /usr/bin/env only looks the program up, as starting it does
        return []
    if name == "interpreter":
        return ["python"]
    if name == "program":
        if isinstance(data.get("program"), str):
            return [str(data["program"]).replace("{", "{{").replace("}", "}}")]
        draft.refuse(("program",), f"found {found(data.get('program'))}; wanted is the script to run")
        return []
    if name == "args_no_hyphens":
        return [f"{parameter}={{{parameter}}}" for parameter in draft.document.data.get("space", {})]
    if name in ("args", "args_no_boolean_flags"):
        return ["{args}" if name == "args" else "{flags}"]
    if name == "args_json_file":
        return ["{params_file}"]
    if name == "args_json":
        draft.no_equivalent(origin, "the parameters as one argument", "use ${args_json_file}")
    elif name.startswith("envvar:"):
        _no_variable(draft, origin)
    else:
        draft.refuse(origin, f"`${{{name}}}` is no macro", suggest(name, _MACROS))
    return []


def _no_variable(draft: Draft, origin: KeyPath) -> None:
    why = "a command line is seen by everybody, and what is in a variable may be a secret"
    draft.no_equivalent(origin, why, "let the script read the variable: trials inherit the environment")


def _early_terminate(draft: Draft, rule: Any) -> None:
    at: KeyPath = ("early_terminate",)
    known = draft.mapping(rule, at, ("type", "min_iter", "max_iter", "s", "eta", "strict"))
    if known.get("type") != "hyperband":
        draft.refuse((*at, "type"), f"found {found(known.get('type'))}", "allowed: `hyperband`")
        return
    if known.get("strict", True) is not True:
        draft.no_equivalent((*at, "strict"), "Optuna's successive halving is strict")
    ranges: dict[str | int, Any] = {key: known[key] for key in ("min_iter", "max_iter", "s") if key in known}
    numbers = draft.numbers({**ranges, "eta": known.get("eta", 3)}, at)
    if numbers is None:
        return
    given = dict(zip((*ranges, "eta"), numbers, strict=True))
    eta = given["eta"]
    if eta < 2 or eta != int(eta):
        draft.no_equivalent((*at, "eta"), f"Optuna's reduction factor is a whole number from 2, not {eta}")
        return
    if "min_iter" in given:
        first = given["min_iter"]
    elif "max_iter" in given and 1 <= given.get("s", 0) <= 100:
        bands = [given["max_iter"] / eta**k for k in range(1, int(given["s"]) + 1)]
        first = int(min((band for band in bands if band >= 1), default=0))
    else:
        draft.refuse(at, "has neither `min_iter`, nor `max_iter` and `s`")
        return
    if first < 1:
        draft.refuse(at, "has no iteration from 1 on at which to compare")
        return
    options = {"name": "successive_halving", "min_resource": int(first), "reduction_factor": int(eta)}
    draft.put(("pruner",), options, at)
    said = f"min_resource={int(first)}, reduction_factor={int(eta)}"
    draft.warn(at, f"runs as Optuna's successive halving ({said}), which compares at the same iterations")
