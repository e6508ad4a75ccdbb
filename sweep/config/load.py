"""space.yaml -> SweepConfig: read, translate other dialects, override, validate, cross-check.

Every mistake of the file is told in one error. So what pydantic refuses is cut out of the document and the rest
validated again: a broken parameter does not hide a wrong metric, and a check skips only the keys that are broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sweep.config.checks import CHECKS, MISSING, odd
from sweep.config.dialects import translate
from sweep.config.disk import Disk, Logs
from sweep.config.document import Document
from sweep.config.failures import Budget, Failure, Retry, Stall
from sweep.config.model import Checkpoints, Constant, Devices, Mlflow, Report, SweepConfig, safe
from sweep.config.parameters import TYPES, Model
from sweep.config.reading import read
from sweep.config.rounds import FromBest, Hook
from sweep.config.words import KeyPath, Problem, found, suggest

LATER = ("engine", "image")

_REQUIRED = {
    "metric": "name what the trials report: `metric: val_acc`, or --set metric=val_acc",
    "direction": "say `maximize` or `minimize`: `direction: maximize`, or --set direction=maximize",
    "space": "name the parameters, such as `lr: {type: float, low: 1e-4, high: 1e-1, log: true}`",
}
# what other tools call it
_ELSEWHERE = {
    "parameters": "space",
    "params": "space",
    "search_space": "space",
    "goal": "direction",
    "optimize_mode": "direction",
    "n_trials": "trials",
    "max_trials": "trials",
    "num_trials": "trials",
    "gpus": "devices",
    "min": "low",
    "max": "high",
    "lower": "low",
    "upper": "high",
    "values": "choices",
    "options": "choices",
    "distribution": "type",
    "q": "step",
    "uri": "tracking_uri",
}
_WANTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}
_PARTS: dict[str, type[Model]] = {
    "mlflow": Mlflow,
    "retry": Retry,
    "stall": Stall,
    "budget": Budget,
    "failures": Failure,
    "checkpoints": Checkpoints,
    "disk": Disk,
    "logs": Logs,
    "devices": Devices,
    "report": Report,
    "from_best": FromBest,
    "on_finish": Hook,
    "on_fail": Hook,
}


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[SweepConfig, list[str]]:
    """The sweep that a file describes, and warnings. Raises ConfigError that tells every mistake in it.

    overrides: dotted keys of sweep's own grammar to values, set after the file is read and translated.
    """
    config, document = load_document(path, overrides)
    return config, warned(config, document)


def load_document(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[SweepConfig, Document]:
    """The same, with the document, which knows where each key stands."""
    document = translate(read(path))
    for key, value in (overrides or {}).items():
        document.set(key, value)
    return validate(document, name=safe(path.stem)), document


def warned(config: SweepConfig, document: Document) -> list[str]:
    """What is allowed and odd, each with its place."""
    return [document.tell(problem) for problem in (*document.warnings, *odd(config))]


def validate(document: Document, name: str) -> SweepConfig:
    """The document as a SweepConfig; `name` is for one that has none. Raises ConfigError."""
    problems = list(document.problems)
    data = dict(document.data)
    for key in LATER:
        if key in data:
            problems.append(Problem("is not in this version yet", (key,), "take it out"))
            del data[key]
    data = {"name": name, **{key: value for key, value in data.items() if value is not None or key == "space"}}
    config, broken, doubtful = _cut(document, data, problems)
    if document.incomplete:
        doubtful.add(MISSING)
    for keys, check in CHECKS:
        if not keys & broken:
            problems += [Problem(p.message, _path(document.data, p.path), p.hint) for p in check(config, doubtful)]
    if problems:
        raise document.error(problems)
    return config


def by_itself(document: Document) -> SweepConfig:
    """The document as a SweepConfig, each key looked at by itself: a job has no metric. Raises ConfigError."""
    problems = list(document.problems)
    config, _, _ = _cut(document, document.data, problems)
    if problems:
        raise document.error(problems)
    return config


def _cut(
    document: Document, data: dict[str, Any], problems: list[Problem]
) -> tuple[SweepConfig, set[str], set[str]]:
    """The config without what is broken, the top keys that are broken, and the parameters that are.

    A broken parameter is a constant in it, under the conditions that it has.
    """
    try:
        return SweepConfig.model_validate(data), set(), set()
    except ValidationError as error:
        details = error.errors(include_url=False)
    broken: set[str] = set()
    parameters: set[str] = set()
    misnamed: set[str] = set()
    told = {document.name(problem.path) for problem in document.problems}
    for detail in details:
        problems += [one for one in _problems(document, detail) if document.name(one.path) not in told]
        top, *below = detail["loc"]
        if top != "space" or not below:
            broken.add(str(top))
        else:
            (misnamed if below[-1] == "[key]" else parameters).add(str(below[0]))
    sound = {key: value for key, value in data.items() if key not in broken}
    if isinstance(space := sound.get("space"), dict):
        named = {key: value for key, value in space.items() if key not in misnamed}
        sound["space"] = {key: _standin(one) if key in parameters else one for key, one in named.items()}
    standins = {"name": "sweep", "metric": [], "direction": [], "space": {}}
    return SweepConfig.model_validate({**standins, **sound}), broken, parameters


def _standin(parameter: Any) -> Constant:
    try:
        return Constant(value=None, when=parameter.get("when") if isinstance(parameter, dict) else None)
    except ValidationError:
        return Constant(value=None)


def _problems(document: Document, detail: ErrorDetails) -> list[Problem]:
    """One complaint of pydantic's in our words."""
    kind, loc, value = detail["type"], detail["loc"], detail["input"]
    context = detail.get("ctx", {})
    path = _path(document.data, loc)
    if kind == "sweep":
        return [Problem(p.message, _path(document.data, (*loc, *p.path)), p.hint) for p in context["problems"]]
    if kind == "missing":
        key = str(loc[-1])
        below = () if path[-1:] == (key,) else (key,)  # `metric:` with nothing behind it has a place of its own
        return [Problem("is missing", (*path, *below), _REQUIRED.get(key))]
    if kind == "extra_forbidden":
        key = str(loc[-1])
        allowed = _allowed(loc)
        other = _ELSEWHERE.get(key)
        hint = f"here it is called `{other}`" if other in allowed else suggest(key, allowed)
        return [Problem("is no key here", path, hint)]
    if kind == "literal_error":
        allowed = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        return [Problem(f"found {found(value)}", path, suggest(str(value), allowed))]
    if kind in _WANTED:
        return [Problem(f"found {found(value)}; wanted is {_WANTED[kind]}", path, _quotes(kind, value))]
    return [Problem(f"found {found(value)}; {_bound(kind, context) or detail['msg']}", path)]


def _quotes(kind: str, value: Any) -> str | None:
    if kind == "string_type" and not isinstance(value, (list, dict)):
        return "put it in quotes to make it text"
    number = isinstance(value, str) and _WANTED[kind].endswith("number") and value.strip("+-")[:1].isdigit()
    return "write it without quotes" if number else None


def _bound(kind: str, context: Mapping[str, Any]) -> str | None:
    for name, sign in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        if name in context:
            return f"wanted is {sign} {context[name]}"
    return "it is empty" if kind in ("too_short", "string_too_short") else None


def _allowed(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where an unknown one does."""
    model: type[Model] | None = SweepConfig
    if len(loc) > 1:
        model = _PARTS.get(str(loc[0])) or TYPES.get(str(loc[-2]))
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _path(data: Any, loc: tuple[int | str, ...]) -> KeyPath:
    """The part of a location that the file has: not the names of types, of short forms, of keys as such."""
    path: list[int | str] = []
    for part in loc:
        index = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if index or (isinstance(data, dict) and part in data):
            data = data[part]
            path.append(part)
    return tuple(path)
