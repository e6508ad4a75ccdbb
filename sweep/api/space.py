"""A space written in Python: of Optuna's distributions, of plain values, or of the words of space.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sweep import rundir
from sweep.config.document import Document
from sweep.config.load import load, validate
from sweep.config.model import Parameter, SweepConfig, safe
from sweep.config.parameters import Model
from sweep.config.writing import described, short, to_yaml
from sweep.errors import StorageError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_AROUND = {"command": "true {args}", "metric": "value", "direction": "minimize", "sampler": "random"}


class Space(Mapping[str, Parameter]):
    """The parameters of a sweep, by name. Raises ConfigError that tells every mistake.

    A value is one of
    -   `optuna.distributions.FloatDistribution`, `IntDistribution` or `CategoricalDistribution`;
    -   a list or tuple: one of these;
    -   a mapping as in space.yaml, such as `{"type": "float", "low": 1e-4, "high": 1e-1, "log": True}`;
    -   anything else: a constant, the same in every trial.

    `Space(lr=FloatDistribution(1e-4, 1e-1, log=True), optimizer=["sgd", "adam"], epochs=20)`
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        data = {name: plain(value) for name, value in {**(parameters or {}), **more}.items()}
        self._parameters = validate(Document("Space", {**_AROUND, "space": data}), name="space").space

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """The space of a file, in any of the formats that `sweep run` takes. Raises ConfigError."""
        return cls(load(Path(path))[0].space)

    def when(self, name: str, conditions: Mapping[str, Any] | None = None, /, **more: Any) -> Space:
        """The same space, with one parameter only where others have these values (each a value or a list).

        `space.when("momentum", optimizer="sgd")`
        """
        if name not in self:
            raise UsageError(f"the space has no parameter {name!r}", hint=f"it has {', '.join(self)}")
        wanted = {parent: plain(value) for parent, value in {**(conditions or {}), **more}.items()}
        return Space({**self, name: {**described(self[name]), "when": wanted}})

    def sample(self, count: int = 1000, *, seed: int = 0) -> pd.DataFrame:
        """So many configurations at random, one a row; a parameter whose condition does not hold is missing."""
        from sweep.api.frames import configurations_frame
        from sweep.search import preview

        around = {**_AROUND, "name": "space", "seed": seed, "space": self._parameters}
        return configurations_frame(preview(SweepConfig.model_validate(around), count), list(self))

    def save(self, path: str | Path, **keys: Any) -> Path:
        """Writes a space.yaml for `sweep run`; returns its path. Raises ConfigError before anything is written.

        keys: the rest of the file (`command` or `objective`, `metric`, `direction`, `trials`, ...).
        """
        path = Path(path)
        text = config_text({**keys, "space": self}, path.name, path.stem)
        try:
            rundir.write_atomic(path, text)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None
        return path

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return to_yaml({name: short(one) for name, one in self.items()}).rstrip() if self else "Space()"


def config_text(keys: Mapping[str, Any], file: str, name: str) -> str:
    """The keys as a space.yaml. file: what mistakes are told of; name: for a config that has none."""
    data = {"name": safe(name), **{key: plain(value) for key, value in keys.items()}}
    if isinstance(space := data.get("space"), dict):
        data["space"] = {one: short(value) for one, value in Space(space).items()}
    validate(Document(file, dict(data)), name=safe(name))
    return to_yaml(data)


def plain(value: Any) -> Any:
    """As a file has it: Optuna's distributions as mappings, NumPy's numbers and arrays as Python's."""
    if isinstance(value, Model):
        return described(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__.startswith("optuna."):
        from sweep.search.space import from_optuna

        return from_optuna(value)
    return value
