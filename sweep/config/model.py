"""space.yaml as types. `load.py` fills them and turns pydantic's complaints into words with a place.

Every default is here, and `extra="forbid"` makes an unknown key an error. Durations are seconds; in the file they
may also be written `90s`, `15m`, `2h`, `1d`. A validator says its mistakes with `refuse`, so that they keep the
key that each is about.

A model accepts the short forms of the file and its own dump alike, because the journal keeps the dump. What one
key alone can show to be wrong is refused here; what needs two keys of the file is in `checks.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from sweep.config.disk import Disk, Logs, Size
from sweep.config.failures import Budget, Failure, Retry, Stall
from sweep.config.parameters import (
    Categorical,
    Constant,
    Flag,
    Float,
    Int,
    Model,
    Parameter,
    Space,
    finite,
    refuse,
    whole,
)
from sweep.config.rounds import FromBest, Hooks
from sweep.config.scalars import Command, Count, Pause, Priority, Seconds, Shares, Text
from sweep.config.words import Problem, found, listed, show

__all__ = [
    "Categorical",
    "Checkpoints",
    "Constant",
    "Devices",
    "Float",
    "Int",
    "Mlflow",
    "Named",
    "Parameter",
    "Report",
    "SweepConfig",
    "safe",
]

_SAFE_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_DEVICES = re.compile(r"(?:auto|(gpu|npu|xpu|cpu)(?::(\d+))?)")
_UUID = re.compile(r"[A-Za-z]+-[\w-]+")


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Named(Model):
    """A sampler or pruner of Optuna's by name, with Optuna's own keyword arguments."""

    name: Text
    options: Annotated[dict[str, Any], AfterValidator(finite)] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "options" not in value:
            if "name" not in value:
                raise refuse(Problem(f"has {listed(value) or 'nothing'} but no `name`", (), "such as `name: tpe`"))
            return {"name": value["name"], "options": {k: v for k, v in value.items() if k != "name"}}
        return value


class Report(Model):
    """How the trial speaks: `api` (sweep.current_trial()), `pattern`, `json` or `mlflow`."""

    mode: Literal["api", "pattern", "json", "mlflow"] = "api"
    patterns: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"mode": value}
        if isinstance(value, dict) and "pattern" in value:
            others = [key for key in value if key != "pattern"]
            if others:
                raise refuse(*(Problem("is no key beside `pattern`", (key,)) for key in others))
            return {"mode": "pattern", "patterns": _names(value["pattern"])}
        return value

    @model_validator(mode="after")
    def _compiled(self) -> Report:
        if (self.mode == "pattern") != bool(self.patterns):
            raise refuse(Problem("no pattern is given", (), r"such as `pattern: 'acc (?P<val_acc>[\d.]+)'`"))
        problems = []
        for index, pattern in enumerate(self.patterns):
            try:
                if not re.compile(pattern).groupindex:
                    hint = r"name what it finds after the metric: `(?P<val_acc>[\d.]+)`"
                    problems.append(Problem("has no named group", ("pattern", index), hint))
            except (re.error, OverflowError, RecursionError) as error:
                problems.append(Problem(f"is no regular expression: {error}", ("pattern", index)))
        if problems:
            raise refuse(*problems)
        return self


class Devices(Model):
    """Where trials run. kind `auto` is every GPU, else NPU, else XPU, else CPU shares.

    count: CPU shares, or how many of the devices. ids: indices or UUIDs, in order. free_memory: how much of its
    memory, 0 to 1, must be free before a trial starts there; None is 0.9, or all of it where the pids of others
    cannot be seen, as in a container. yield: what a trial does for somebody who computes on its device without a
    lease: nothing, or it writes a checkpoint and leaves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Literal["auto", "gpu", "npu", "xpu", "cpu"] = "auto"
    count: Count | None = None
    ids: list[str] | None = None
    free_memory: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    yields: Literal["no", "checkpoint"] = Field(default="no", alias="yield")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("ids") is not None:
            ids = _device_ids(value["ids"], "ids")
            return {"kind": _kind_of(ids), **value, "ids": ids}
        if isinstance(value, (dict, Devices)):
            return value
        if isinstance(value, str) and (parts := _DEVICES.fullmatch(value)):
            return {"kind": parts[1] or "auto", "count": int(parts[2]) if parts[2] else None}
        ids = _device_ids(value)
        return {"kind": _kind_of(ids), "ids": ids}


def _device_ids(value: Any, *path: str) -> list[str]:
    ids = value if isinstance(value, list) else [value]
    wrong = [index for index, one in enumerate(ids) if not _is_device(one)]
    if wrong or not ids or len({str(one) for one in ids}) < len(ids):
        said = found(ids[wrong[0]] if wrong else value) + ("" if wrong or not ids else ", a device twice")
        hint = "allowed: `auto`, `gpu`, `gpu:2`, `npu`, `xpu`, `cpu:4`, indices such as `[0, 2]`, or UUIDs"
        raise refuse(Problem(f"found {said}", (*path, wrong[0]) if wrong else path, hint))
    return [str(one) for one in ids]


def _kind_of(ids: list[str]) -> str:
    """An index alone is a GPU's; the ids of others begin with their kind."""
    kind = ids[0][:3].lower()
    return kind if kind in ("npu", "xpu") else "gpu"


def _is_device(one: Any) -> bool:
    if isinstance(one, str):
        return one.isdecimal() or bool(_UUID.fullmatch(one))
    return isinstance(one, int) and not isinstance(one, bool) and one >= 0


class Checkpoints(Model):
    """keep: how many of a trial's newest checkpoints stay on disk beside its best one."""

    keep: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Checkpoints)) else {"keep": value}


class Mlflow(Model):
    """tracking_uri None: MLFLOW_TRACKING_URI, else the store that a bare `mlflow ui` here shows."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    enabled: Flag = True
    tracking_uri: Text | None = None
    experiment: Text | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    register_as: Text | None = Field(default=None, alias="register")
    artifacts: Flag = True

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"enabled": value}
        return {"tracking_uri": value} if isinstance(value, str) else value


def _safe_name(name: str) -> str:
    if not _SAFE_NAME.fullmatch(name):
        hint = f"it names a folder: letters, digits, `_`, `-`, `.`, up to 64, such as `{safe(name)}`"
        raise refuse(Problem(f"found {found(name)}", (), hint))
    return name


def safe(name: str) -> str:
    """The name of a folder made of any text."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:64] or "sweep"


def _objective(value: str) -> str:
    module, colon, function = value.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        hint = "such as `objective: examples.digits.objective:train`"
        raise refuse(Problem(f"found {found(value)}; wanted is module:function", (), hint))
    return value


def _metric(name: str) -> str:
    if not re.fullmatch(r"[\w./: -]+", name) or name == "step":  # what MLflow takes; `step` is a report's own
        hint = "letters, digits, `_`, `-`, `.`, `/`, `:` and spaces, and not `step`"
        raise refuse(Problem(f"found {found(name)}, which cannot name a metric", (), hint))
    return name


def _variables(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    problems = []
    for name, one in value.items():
        if isinstance(one, (list, dict)) or one is None:
            problems.append(Problem(f"found {found(one)}; a variable is text", (name,)))
        elif not re.fullmatch(r"[^=\0]+", name):
            problems.append(Problem("is no name for a variable", (name,)))
    if problems:
        raise refuse(*problems)
    return {name: one if isinstance(one, str) else show(one) for name, one in value.items()}


def _fail_fast(value: Any) -> Any:
    return 0 if value is False else whole(value)


class SweepConfig(Model):
    """One sweep, validated: see the reference of space.yaml for each key."""

    name: Annotated[str, AfterValidator(_safe_name)]
    command: Command | None = None  # split, unfilled
    objective: Annotated[str, AfterValidator(_objective)] | None = None  # module:function
    metric: Annotated[list[Annotated[str, AfterValidator(_metric)]], BeforeValidator(_names)]
    direction: Annotated[list[Literal["minimize", "maximize"]], BeforeValidator(_names)]
    value: Literal["last", "best"] = "last"
    space: Space
    trials: Count | None = None
    timeout: Seconds | None = None
    sampler: Named | None = None
    pruner: Named | None = None
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] | None = None
    devices: Devices = Devices()
    devices_per_trial: Count = 1
    slots_per_device: Shares = 1
    slots: Count | None = None
    priority: Priority = 0
    report: Report = Report()
    trial_timeout: Seconds | None = None
    attempt_timeout: Seconds | None = None
    budget: Budget | None = None
    stall: Stall = Stall()
    on_nan: Literal["ignore", "prune", "fail"] = "ignore"
    duplicates: Literal["repeat", "skip", "average"] = "repeat"
    failures: list[Failure] = Field(default_factory=list)
    retry: Retry = Retry()
    fail_fast: Annotated[int, Field(strict=True, ge=0), BeforeValidator(_fail_fast)] = 3
    fail_rate: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    grace: Pause = 30.0
    memory: Annotated[Size, Field(ge=10_000_000)] | None = None  # of one attempt, all its processes together
    processes: Count | None = None  # the same, threads counted
    constraints: Annotated[list[Literal["oom"]], BeforeValidator(_names)] = Field(default_factory=list)
    checkpoints: Checkpoints = Checkpoints()
    disk: Disk = Disk()
    logs: Logs = Logs()
    mlflow: Mlflow = Mlflow()
    storage: Text | None = None
    env: Annotated[dict[str, str], BeforeValidator(_variables)] = Field(default_factory=dict)
    warm: Annotated[list[str], BeforeValidator(_names)] = Field(default_factory=list)
    enqueue: list[dict[str, Any]] = Field(default_factory=list)
    from_best: FromBest | None = None  # once it has begun: what `space` and `enqueue` came from
    on_finish: Hooks = Field(default_factory=list)
    on_fail: Hooks = Field(default_factory=list)
    cwd: Text = "."  # where commands run, relative to the folder that `sweep run` is called in
