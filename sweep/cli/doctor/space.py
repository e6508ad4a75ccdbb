"""What one space.yaml needs of this machine, beside what every sweep needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from sweep.cli.doctor.finding import Finding
from sweep.cli.doctor.stores import database, mlflow
from sweep.config.load import load_document
from sweep.config.model import SweepConfig
from sweep.config.preflight import preflight
from sweep.errors import ConfigError, DeviceError, SweepError
from sweep.prepare import doubts
from sweep.session import check
from sweep.slots.opening import open_pool

_CORRECT = "correct it; `sweep check` shows what the file means"


def space(file: Path, folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        config, document = load_document(file)
    except ConfigError as error:
        yield _mistake(error)
        yield from mlflow({}, folder, environ)
        return
    problems = preflight(config, folder)
    for problem in problems:
        yield Finding("file", "bad", f"{document.at(problem.partition(':')[0])}: {problem}", _CORRECT)
    for warning in doubts(config, document, folder):
        yield Finding("file", "warn", warning)
    try:
        check(config, document.at)
    except ConfigError as error:
        yield _mistake(error)
    else:
        if not problems:
            runs = config.command[0] if config.command else config.objective
            yield Finding("file", "ok", f"{file} is valid; `{runs}` is there")
    yield _devices(config, environ)
    if config.storage:
        yield database("storage", config.storage, folder)
    if config.mlflow.enabled:
        yield from mlflow(config.mlflow.model_dump(), folder, environ)
    else:
        yield Finding("mlflow", "ok", "off, as the file says")


def _mistake(error: SweepError) -> Finding:
    return Finding("file", "bad", error.message, error.hint or _CORRECT)


def _devices(config: SweepConfig, environ: Mapping[str, str]) -> Finding:
    try:
        with TemporaryDirectory() as nowhere:  # a lock folder would be made where there is none yet
            per_trial = config.devices_per_trial
            pool = open_pool(config.devices, config.slots_per_device, environ, Path(nowhere), per_trial=per_trial)
            pool.close()
    except DeviceError as error:
        return _mistake(error)
    return Finding("file", "ok", pool.said)
