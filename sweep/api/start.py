"""`sweep.run`: checks what it is given as `sweep run` does, and starts a controller of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep import session
from sweep.api.handle import Sweep
from sweep.api.progress import in_kernel
from sweep.api.space import config_text, plain
from sweep.cli.detached import start
from sweep.cli.rounds import begun
from sweep.config.document import Document
from sweep.config.load import load_document, validate
from sweep.config.preflight import require
from sweep.errors import ConfigError, NotFoundError
from sweep.prepare import doubts
from sweep.rundir import SweepDir

_GIVEN = "the configuration"
# what a kernel tells its own output to be like; a trial would print colours into a log, and draw for a notebook
_OF_A_KERNEL = ("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "GIT_PAGER", "JPY_PARENT_PID", "MPLBACKEND", "PAGER")


def run(
    config: str | Path | Mapping[str, Any],
    *,
    project: str | Path | None = None,
    watch: bool = True,
    **settings: Any,
) -> Sweep:
    """Begins a sweep in the background and, unless `watch` is False, shows how it gets on until it has ended.

    config: the path of a space.yaml, or its keys as a mapping; its `space` may be a `sweep.Space`, or what one is
    made of. settings: keys to set over it, such as `trials=20`; dotted ones as `**{"space.lr.high": 0.1}`.
    project: the folder that commands run in and that holds `sweeps/`; by default the one that you are in.

    The sweep goes on when the kernel ends. An interrupt while it is watched starts no new trials and lets the
    running ones finish; a second one stops them.
    Raises ConfigError that tells every mistake, before anything starts.
    """
    folder = Path(project or Path.cwd()).resolve()
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}", hint="`project` is the folder that commands run in")
    over = {key: plain(value) for key, value in settings.items()}
    if isinstance(config, Mapping):
        task = _given(config, over, folder)
    else:
        task = _file(Path(config).resolve(), over, folder)
    said = start(task, folder, environment())
    handle = Sweep(SweepDir(Path(said["directory"])))
    if watch:
        handle.watch()
    return handle


def _file(space: Path, overrides: dict[str, Any], project: Path) -> dict[str, Any]:
    config, document = load_document(space, overrides)
    require(config, document, project)
    what = begun(config, space, project, {})
    session.check(what.config, document.at)
    _say([*(f"warning: {text}" for text in doubts(config, document, project)), *what.notes])
    return {"space": str(space), "overrides": overrides, "started_by": {}}


def _given(keys: Mapping[str, Any], overrides: dict[str, Any], project: Path) -> dict[str, Any]:
    document = Document(_GIVEN, {key: plain(value) for key, value in keys.items()})
    for key, value in overrides.items():
        document.set(key, value)
    config = validate(document, name="sweep")
    if config.from_best is not None:
        hint = '`Space.save("space.yaml", from_best=..., ...)` writes one'
        raise ConfigError("needs a file that tells the ranges to narrow", where=_GIVEN, key="from_best", hint=hint)
    require(config, document, project)
    session.check(config, document.at)
    _say([f"warning: {text}" for text in doubts(config, document, project)])
    return {"config": config.model_dump(mode="json"), "text": config_text(document.data, _GIVEN, config.name)}


def _say(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def environment() -> dict[str, str]:
    """This process's own, without what concerns only the kernel of a notebook."""
    return {name: value for name, value in os.environ.items() if not (in_kernel() and name in _OF_A_KERNEL)}
