"""A sweep and its file, which may have been edited since it began: what `run` and `resume` make of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sweep import journal, rundir, session
from sweep.cli.rounds import is_copy
from sweep.config.changes import new_wishes, takeover
from sweep.config.load import load_document
from sweep.config.model import SweepConfig
from sweep.config.preflight import require
from sweep.config.rules import rules
from sweep.core.events import ConfigChanged, SweepOpened
from sweep.core.model import Rules, Sweep, SweepState
from sweep.errors import ConfigError, JournalError
from sweep.rundir import SweepDir


def name_of(space: Path, project: Path) -> str:
    """The file as a journal names it: relative to the project's folder where it lies below it."""
    whole = space.resolve()
    return str(whole.relative_to(project.resolve()) if whole.is_relative_to(project.resolve()) else whole)


def interrupted(space: Path, project: Path) -> tuple[journal.Replay, SweepDir] | None:
    """The newest sweep of this file, where its controller died before its end."""
    name = name_of(space, project)
    for directory in reversed(rundir.sweeps(project)):
        try:
            opened = next(journal.records(directory.journal)).event
            if not isinstance(opened, SweepOpened) or opened.file != name:
                continue
            if rundir.locked(directory.controller_lock):
                return None
            told = journal.Replay(directory.journal)
        except (StopIteration, JournalError):
            continue
        # one that was stopped has only its end before it
        state = told.sweep.state
        return None if state.ended or state is SweepState.STOPPING else (told, directory)
    return None


def has_changed(sweep: Sweep, directory: SweepDir) -> Path | None:
    """The file of the sweep, where it is there and no longer what the sweep has a copy of."""
    space = directory.path.parent.parent / sweep.file
    try:
        same = not sweep.file or is_copy(directory.copy(len(sweep.former)).read_bytes(), space.read_bytes())
    except OSError:
        return None
    return None if same else space


def change(sweep: Sweep, directory: SweepDir, space: Path, overrides: Mapping[str, Any]) -> ConfigChanged | None:
    """What the file as it is now means for the sweep; None where nothing. Raises ConfigError.

    overrides: set beside it on the command line, over those that the sweep began with.
    """
    overrides = {**sweep.overrides, **overrides}
    frozen = f"`sweep resume {sweep.id} --frozen` goes on with the file as it was"
    try:
        given, document = load_document(space, overrides)
    except ConfigError as error:
        error.hint = f"{error.hint}\n  {frozen}" if error.hint else frozen
        raise
    old = SweepConfig.model_validate(sweep.config)
    new, found = takeover(old, given)
    if refused := [one.problem for one in found if one.refusal]:
        refusal = document.error(refused)
        refusal.hint = f"`sweep run --new {space}` begins another sweep; {frozen}"
        raise refusal
    if not found:
        return None
    try:
        require(new, document, directory.path.parent.parent)
    except ConfigError as error:
        error.hint = frozen
        raise
    session.check(new, document.at)
    before, after = rules(old), rules(new)
    differing = [f.name for f in fields(Rules) if getattr(before, f.name) != getattr(after, f.name)]
    return ConfigChanged(
        0.0,
        config=new.model_dump(mode="json"),
        overrides=overrides,
        rules={name: getattr(after, name) for name in differing},
        enqueue=new_wishes(old, new),
        told=[f"{document.name(one.path)}: {one.told}" for one in found],
        text=space.read_bytes().decode(errors="replace"),
    )
