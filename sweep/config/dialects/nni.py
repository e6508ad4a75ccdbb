"""An NNI experiment (version 2) or search space in sweep's own grammar.

The formats are NNI's documentation pages "Search Space" (hpo/search_space) and "Experiment Config Reference"
(reference/experiment_config). In short:

- randint excludes its upper bound. quniform gives multiples of q, clipped to the range; with whole numbers it is
  NNI's way to say an integer. A choice of mappings, each with a `_name`, nests: what stands beside the name exists
  only where that one is chosen. Here such a parameter is called `outer.inner`.
- An intermediate or final result has no name, or is called `default`; so is the metric.
- `optimize_mode` is maximize where it is not given. Paths are relative to the file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from sweep.config.dialects.draft import Draft
from sweep.config.document import Document
from sweep.config.model import safe
from sweep.config.reading import read
from sweep.config.words import KeyPath, found, show, suggest
from sweep.errors import ConfigError

_KEYS = (
    "experimentName",
    "searchSpace",
    "searchSpaceFile",
    "trialCommand",
    "trialCodeDirectory",
    "trialConcurrency",
    "trialGpuNumber",
    "maxExperimentDuration",
    "maxTrialNumber",
    "tuner",
    "assessor",
    "trainingService",
)
_WITHOUT_EFFECT = ("nniManagerIp", "debug", "logLevel", "experimentWorkingDirectory", "tunerGpuIndices")
_WITHOUT_EQUIVALENT = {
    "maxTrialDuration": "`timeout` is the sweep's",
    "useAnnotation": "write the search space into the file",
    "advisor": "use `tuner` and `assessor`",
    "sharedStorage": "trials run on this machine",
}
_VERSION_1 = ("searchSpacePath", "trainingServicePlatform", "maxTrialNum", "maxExecDuration", "authorName")
_TUNERS = {"tpe": "tpe", "random": "random", "gridsearch": "grid"}
_PLAIN = {"uniform": False, "loguniform": True}
_ROUNDED = {"quniform": False, "qloguniform": True}
_UNBOUNDED = ("normal", "qnormal", "lognormal", "qlognormal")
_TYPES = ("choice", "randint", *_PLAIN, *_ROUNDED)


def recognise(data: dict[str, Any]) -> bool:
    return bool(data.keys() & {"searchSpace", "searchSpaceFile", "trialCommand", *_VERSION_1}) or any(
        _is_space(space) for space in (data, data.get("space"))
    )


def _is_space(data: Any) -> bool:
    return isinstance(data, dict) and any(isinstance(spec, dict) and "_type" in spec for spec in data.values())


def translate(source: Document) -> Document:
    """The document in sweep's own grammar; what has no equivalent is among its problems."""
    draft = Draft(source, "an NNI experiment")
    if _is_space(source.data):
        draft.put(("space",), {}, ())
        _space(draft, source.data, (), "", {})
    elif _is_space(source.data.get("space")):
        for key, value in source.data.items():
            draft.put((key,), {} if key == "space" else value, (key,))
        for key, spec in source.data["space"].items():
            if isinstance(spec, dict) and "_type" in spec:
                _space(draft, {key: spec}, ("space",), "", {})
            else:
                draft.put(("space", key), spec, ("space", key))
    else:
        _experiment(draft)
    return draft.document


def _space(draft: Draft, space: Any, origin: KeyPath, prefix: str, when: dict[str, Any]) -> None:
    if not isinstance(space, dict):
        draft.refuse(origin, f"found {found(space)}; wanted are keys with `_type` and `_value`")
        return
    for key, spec in space.items():
        path, name = (*origin, key), f"{prefix}{key}"
        if prefix and key == "_name":
            continue
        known = draft.mapping(spec, path, ("_type", "_value"))
        if {"_type", "_value"} <= known.keys():
            _parameter(draft, name, known["_type"], known["_value"], path, when)
        elif isinstance(spec, dict):
            draft.refuse(path, "wanted are both `_type` and `_value`")


def _parameter(draft: Draft, name: str, kind: Any, value: Any, origin: KeyPath, when: dict[str, Any]) -> None:
    if kind in _UNBOUNDED:
        hint = "give it bounds, such as `_type: uniform`"
        draft.no_equivalent((*origin, "_type"), f"Optuna has no distribution `{kind}`", hint)
    elif kind not in _TYPES:
        draft.refuse((*origin, "_type"), f"found {found(kind)}", suggest(str(kind), _TYPES))
    elif not isinstance(value, list):
        draft.refuse((*origin, "_value"), f"found {found(value)}; wanted is a list")
    elif kind == "choice":
        _choice(draft, name, value, origin, when)
    else:
        _numeric(draft, name, kind, value, (*origin, "_value"), when)


def _put(draft: Draft, name: str, spec: dict[str, Any], origin: KeyPath, when: dict[str, Any]) -> None:
    if name in draft.document.data["space"]:
        hint = "give one of them another name"
        draft.no_equivalent(origin, f"two choices bring a parameter `{name}`, which can exist only once", hint)
        return
    draft.put(("space", name), {**spec, **({"when": when} if when else {})}, origin)


def _choice(draft: Draft, name: str, options: list[Any], origin: KeyPath, when: dict[str, Any]) -> None:
    if not any(isinstance(option, dict) for option in options):
        _put(draft, name, {"type": "categorical"}, origin, when)
        draft.put(("space", name, "choices"), options, (*origin, "_value"))
        return
    names = [option.get("_name") if isinstance(option, dict) else None for option in options]
    if not all(isinstance(one, str) for one in names):
        draft.no_equivalent((*origin, "_value"), "a choice that nests takes mappings only, each with a `_name`")
        return
    _put(draft, name, {"type": "categorical"}, origin, when)
    draft.put(("space", name, "choices"), names, (*origin, "_value"))
    for index, option in enumerate(options):
        _space(draft, option, (*origin, "_value", index), f"{name}.", {name: option["_name"]})


def _numeric(draft: Draft, name: str, kind: str, value: list[Any], origin: KeyPath, when: dict[str, Any]) -> None:
    wanted = ("low", "high", "q") if kind in _ROUNDED else ("low", "high")
    if len(value) != len(wanted):
        draft.refuse(origin, f"found {found(value)}; `{kind}` takes [{', '.join(wanted)}]")
        return
    numbers = draft.numbers(dict(enumerate(value)), origin)
    if numbers is None:
        return
    low, high, q = (*numbers, 1)[:3]
    spec: dict[str, Any] = {"type": "float", "log": kind in ("loguniform", "qloguniform")}
    if kind == "randint":
        low, high = math.ceil(low), math.ceil(high) - 1
        if high < low:
            draft.refuse(origin, f"holds no whole number: {high + 1}, the upper bound, is excluded")
            return
        spec["type"] = "int"
    elif kind in _ROUNDED:
        whole = all(float(one).is_integer() for one in numbers)
        if q <= 0:
            draft.refuse((*origin, 2), f"{q} is not above 0")
            return
        if kind == "qloguniform" and not (q == 1 and whole):
            why = "Optuna has no steps on a logarithmic scale, except whole numbers"
            draft.no_equivalent((*origin, 2), why, "write whole bounds and 1")
            return
        if not all(math.isclose(one / q, round(one / q), abs_tol=1e-9) for one in (low, high)):
            draft.no_equivalent(origin, f"both bounds have to be multiples of {q}: NNI would clip to them")
            return
        spec["type"] = "int" if whole else "float"
        if kind == "quniform":
            spec["step"] = q
    _put(draft, name, spec, origin[:-1], when)
    draft.put(("space", name, "low"), low, (*origin, 0))
    draft.put(("space", name, "high"), high, (*origin, 1))


def _experiment(draft: Draft) -> None:
    data = draft.source.data
    old = [key for key in _VERSION_1 if key in data]
    if old:
        hint = "NNI's page `Experiment Config Reference` has the names of version 2"
        draft.no_equivalent((old[0],), "it is version 1 of NNI's format", hint)
        return
    for key in data:
        if key in _WITHOUT_EFFECT:
            draft.warn((key,), "has no effect here")
        elif key in _WITHOUT_EQUIVALENT and data[key]:
            draft.no_equivalent((key,), _WITHOUT_EQUIVALENT[key])
    settled = (*_WITHOUT_EFFECT, *_WITHOUT_EQUIVALENT)
    rest = {key: value for key, value in data.items() if key not in settled}
    known = {key: value for key, value in draft.mapping(rest, (), _KEYS).items() if value is not None}
    if isinstance(known.get("experimentName"), str):
        draft.put(("name",), safe(known["experimentName"]), ("experimentName",))
    _search_space(draft, known)
    _trial(draft, known)
    for key, own in (
        ("trialConcurrency", "slots"),
        ("maxTrialNumber", "trials"),
        ("maxExperimentDuration", "timeout"),
    ):
        if key in known:
            draft.put((own,), known[key], (key,))
    if "trialGpuNumber" in known:
        own, value = (
            ("devices", "cpu") if known["trialGpuNumber"] == 0 else ("devices_per_trial", known["trialGpuNumber"])
        )
        draft.put((own,), value, ("trialGpuNumber",))
    _tuner(draft, known.get("tuner", {}))
    if "assessor" in known:
        _assessor(draft, known["assessor"])
    if "trainingService" in known:
        _service(draft, known["trainingService"])


def _search_space(draft: Draft, known: dict[str, Any]) -> None:
    if "searchSpaceFile" not in known:
        draft.put(("space",), {}, ("searchSpace",))
        _space(draft, known.get("searchSpace"), ("searchSpace",), "", {})
        return
    at: KeyPath = ("searchSpaceFile",)
    draft.put(("space",), {}, at)
    if "searchSpace" in known:
        draft.refuse(at, "stands beside `searchSpace`; NNI takes one of them")
        return
    try:
        other = read(Path(draft.source.file).parent / Path(str(known["searchSpaceFile"])).expanduser())
    except ConfigError as error:
        draft.refuse(at, error.message, error.hint)
        return
    draft.source.places.update({(*at, *path): place for path, place in other.places.items()})
    draft.document.problems += [problem.below(*at) for problem in other.problems]
    _space(draft, other.data, at, "", {})


def _trial(draft: Draft, known: dict[str, Any]) -> None:
    command = known.get("trialCommand")
    if isinstance(command, str) and re.search(r"[&|;<>$`]", command):
        why = "NNI hands it to bash, sweep runs it without a shell"
        draft.no_equivalent(("trialCommand",), why, "put the line into a script of its own")
    elif command is not None:
        template = command.replace("{", "{{").replace("}", "}}") if isinstance(command, str) else command
        draft.put(("command",), template, ("trialCommand",))
    folder = Path(draft.source.file).parent / str(known.get("trialCodeDirectory", "."))
    if folder != Path():
        draft.put(("cwd",), str(folder.expanduser().absolute()), ("trialCodeDirectory",))


def _tuner(draft: Draft, tuner: Any) -> None:
    at: KeyPath = ("tuner",)
    known = draft.mapping(tuner, at, ("name", "classArgs", "className", "codeDirectory"))
    for key in ("className", "codeDirectory"):
        if known.get(key) is not None:
            draft.no_equivalent((*at, key), "the tuner is code of its own")
            return
    name = known.get("name")
    if isinstance(name, str) and name.lower() in _TUNERS:
        draft.put(("sampler",), _TUNERS[name.lower()], (*at, "name"))
    elif name is not None:
        draft.no_equivalent(
            (*at, "name"), f"there is no tuner {show(name)}", suggest(str(name), ("TPE", "Random", "GridSearch"))
        )
    options = draft.mapping(known.get("classArgs") or {}, (*at, "classArgs"), ("optimize_mode", "seed"))
    draft.put(("metric",), "default", at)
    draft.put(("direction",), options.get("optimize_mode", "maximize"), (*at, "classArgs", "optimize_mode"))
    if options.get("seed") is not None:
        draft.put(("seed",), options["seed"], (*at, "classArgs", "seed"))


def _assessor(draft: Draft, assessor: Any) -> None:
    at: KeyPath = ("assessor",)
    known = draft.mapping(assessor, at, ("name", "classArgs", "className", "codeDirectory"))
    if str(known.get("name")).lower() != "medianstop":
        what = show(known.get("name") or known.get("className"))
        draft.no_equivalent((*at, "name"), f"there is no assessor {what}", "allowed: `Medianstop`")
        return
    options = draft.mapping(known.get("classArgs") or {}, (*at, "classArgs"), ("optimize_mode", "start_step"))
    pruner = {"name": "median", "n_warmup_steps": options.get("start_step", 0)}
    draft.put(("pruner",), pruner, at)
    draft.warn(
        at, "runs as Optuna's median pruner, which compares values at one step; NNI compares running averages"
    )


def _service(draft: Draft, service: Any) -> None:
    at: KeyPath = ("trainingService",)
    if isinstance(service, dict) and service.get("platform") != "local":
        draft.no_equivalent((*at, "platform"), "trials run on this machine", "allowed: `local`")
        return
    known = draft.mapping(service, at, ("platform", "useActiveGpu", "maxTrialNumberPerGpu", "gpuIndices", "debug"))
    if known.get("useActiveGpu"):
        draft.warn((*at, "useActiveGpu"), "has no effect here: a GPU that somebody else uses is left alone")
    if known.get("maxTrialNumberPerGpu") is not None:
        draft.put(("slots_per_device",), known["maxTrialNumberPerGpu"], (*at, "maxTrialNumberPerGpu"))
    indices = known.get("gpuIndices")
    if indices is not None:
        text = isinstance(indices, str) and re.fullmatch(r"\d+(,\s*\d+)*", indices)
        devices = [int(one) for one in indices.split(",")] if text else indices
        draft.put(("devices",), devices, (*at, "gpuIndices"))
