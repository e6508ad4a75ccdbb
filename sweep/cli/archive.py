"""A sweep as one file: `sweeps/archived/<id>.tar.gz`, from which `tar` brings it back.

The archive appears whole or not at all, before its folder goes; and the folder goes in one step, by a rename, so
that an archive is never made of what an interrupted removal has left.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path

from sweep import rundir
from sweep.errors import StorageError
from sweep.rundir import SweepDir


def pack(directory: SweepDir) -> Path:
    """Puts the sweep into its archive and takes its folder away; returns the archive.

    Raises StorageError where it cannot be written; the folder is as it was then.
    """
    archive = rundir.archive(directory)
    scratch = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        archive.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
                tar.add(directory.path, arcname=directory.id)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(archive)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        what = f"cannot archive {directory.id}: {error.filename or archive}: {error.strerror}"
        raise StorageError(what, hint="nothing of it was removed") from None
    return archive


def take_away(directory: SweepDir) -> None:
    """Raises OSError; what others left that were interrupted goes as well."""
    gone = rundir.archive(directory).with_name(f".{directory.id}.gone")
    for left in gone.parent.glob(".*.gone"):
        shutil.rmtree(left, ignore_errors=True)
    directory.path.rename(gone)
    shutil.rmtree(gone)


def restoring(archive: Path) -> str:
    """What to type, in the project's folder, to have the sweep back."""
    where = Path(rundir.ROOT) / archive.parent.name / archive.name
    return f"tar -xzf {shlex.quote(str(where))} -C {rundir.ROOT}"
