"""What a sweep may take of the disk: `disk` and `logs` of space.yaml, in bytes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError, model_validator

from sweep.config.parameters import Model, refuse
from sweep.config.words import Problem, found

_BYTES = TypeAdapter(ByteSize)


def size(value: Any) -> int:
    """Bytes of `200GB`, `512MiB`, or of a bare number of bytes. Raises ValueError."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return int(_BYTES.validate_python(value))
        except ValidationError:
            pass
    raise ValueError(f"found {found(value)}; wanted is a size such as 50MB, 200GB, 1TiB")


def _size(value: Any) -> int:
    try:
        return size(value)
    except ValueError as error:
        raise refuse(Problem(str(error))) from None


Size = Annotated[int, Field(ge=0), BeforeValidator(_size)]


class Logs(Model):
    """keep: how much of an attempt's output stays, its beginning and its newest part."""

    keep: Annotated[Size, Field(ge=1_000_000)] = 50_000_000

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Logs)) else {"keep": value}


class Disk(Model):
    """budget: of the whole folder of the sweep. reserve: what stays free on its disk; None is a rule of thumb."""

    budget: Size | None = None
    reserve: Size | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, (dict, Disk)) else {"budget": value}
