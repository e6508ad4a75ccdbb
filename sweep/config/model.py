"""space.yaml as types. `load.py` fills them and turns pydantic's complaints into words with a place.

Every default is here, and `extra="forbid"` makes an unknown key an error. Durations are seconds; in the file they
may also be written `90s`, `15m`, `2h`, `1d`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str | None


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Float(Model):
    """A real number in [low, high]; `step` and `log` as in Optuna's FloatDistribution."""

    type: Literal["float"] = "float"
    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: dict[str, Any] | None = None


class Int(Model):
    """A whole number in [low, high]; `step` and `log` as in Optuna's IntDistribution."""

    type: Literal["int"] = "int"
    low: int
    high: int
    step: int = 1
    log: bool = False
    when: dict[str, Any] | None = None


class Categorical(Model):
    """One of `choices`."""

    type: Literal["categorical"] = "categorical"
    choices: list[Scalar]
    when: dict[str, Any] | None = None


class Constant(Model):
    """The same in every trial: handed to the command and to MLflow, never sampled."""

    type: Literal["constant"] = "constant"
    value: Any
    when: dict[str, Any] | None = None


Parameter = Annotated[Float | Int | Categorical | Constant, Field(discriminator="type")]


class Named(Model):
    """A sampler or pruner of Optuna's by name, with Optuna's own keyword arguments."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Report(Model):
    """How the trial speaks: `api` (sweep.current_trial()), `pattern`, `json` or `mlflow`."""

    mode: Literal["api", "pattern", "json", "mlflow"] = "api"
    patterns: list[str] = Field(default_factory=list)


class Devices(Model):
    """Where trials run. kind `auto` is every GPU, and CPU shares where there is none.

    count: CPU shares, or how many of the GPUs. ids: indices or UUIDs, in order.
    """

    kind: Literal["auto", "gpu", "cpu"] = "auto"
    count: int | None = None
    ids: list[str] | None = None


class Stall(Model):
    after: float | None = None
    action: Literal["prune", "retry", "fail", "warn"] = "prune"


class Retry(Model):
    """How many further attempts an outcome buys, by the outcome's name in lower case."""

    times: int = 0
    on: list[Literal["crashed", "oom", "timed_out", "stalled"]] = Field(default_factory=list)


class Checkpoints(Model):
    """keep: how many of a trial's newest checkpoints stay on disk beside its best one."""

    keep: int = 1


class Mlflow(Model):
    """tracking_uri None: MLFLOW_TRACKING_URI, else the store that a bare `mlflow ui` here shows."""

    enabled: bool = True
    tracking_uri: str | None = None
    experiment: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    register_as: str | None = Field(default=None, alias="register")
    artifacts: bool = True
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SweepConfig(Model):
    """One sweep, validated: see the reference of space.yaml for each key."""

    name: str
    command: list[str] | None = None  # the template, already split
    objective: str | None = None  # module:function
    metric: list[str]
    direction: list[Literal["minimize", "maximize"]]
    value: Literal["last", "best"] = "last"
    space: dict[str, Parameter]
    trials: int | None = None
    timeout: float | None = None
    sampler: Named | None = None
    pruner: Named | None = None
    seed: int | None = None
    devices: Devices = Devices()
    devices_per_trial: int = 1
    slots_per_device: int = 1
    slots: int | None = None
    report: Report = Report()
    retry: Retry = Retry()
    fail_fast: int = 3
    grace: float = 30.0
    checkpoints: Checkpoints = Checkpoints()
    mlflow: Mlflow = Mlflow()
    storage: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    warm: list[str] = Field(default_factory=list)
    enqueue: list[dict[str, Any]] = Field(default_factory=list)
    cwd: str = "."  # where commands run, relative to the folder that `sweep run` is called in
