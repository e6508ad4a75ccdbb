"""The folders in which this user has begun sweeps: `$XDG_STATE_HOME/sweep/projects`, one path a line.

The file only helps to find sweeps again. Nothing depends on it, so nothing that is wrong with it is an error: a
folder that cannot be noted is not, and one that is gone is skipped. The folder's default is that of the XDG base
directory specification, which also says that a relative path counts as none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sweep.rundir import ROOT


def note(project: Path, environ: Mapping[str, str]) -> None:
    """Appends the folder, if it is not there yet."""
    file = _file(environ)
    line = os.fsencode(project.absolute())
    if file is None or b"\n" in line or line in _lines(file):
        return
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, line + b"\n")  # one write: lines of two sweeps that begin at once never mix
        finally:
            os.close(handle)
    except OSError:
        pass


def known(environ: Mapping[str, str]) -> list[Path]:
    """The noted folders that still hold sweeps, in the order in which they were noted."""
    file = _file(environ)
    lines = dict.fromkeys(_lines(file)) if file is not None else {}
    folders = [Path(os.fsdecode(line)) for line in lines]
    return [folder for folder in folders if folder.is_absolute() and _has_sweeps(folder)]


def _has_sweeps(folder: Path) -> bool:
    try:
        return (folder / ROOT).is_dir()
    except (OSError, ValueError):  # another user's now, or a line that was never a path
        return False


def _lines(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().split(b"\n") if line]
    except OSError:
        return []


def _file(environ: Mapping[str, str]) -> Path | None:
    """None where there is no home either."""
    for state in (Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""), ".local", "state")):
        if state.is_absolute():
            return state / "sweep" / "projects"
    return None
