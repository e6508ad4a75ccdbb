"""A new SQLite store at once: MLflow's migrations cost 3 s of CPU, a copy of a file that they made costs nothing.

Rules
1.  The file is made by MLflow's own `mlflow db upgrade`, one for each version of MLflow, in the user's cache.
    It holds the tables and no rows: the default experiment comes later, with its project's artifact folder.
2.  A database that is there is never touched. The new one appears whole under its name (link fails where a file
    is), so two first starts cannot race; the loser uses the winner's.
3.  It is in WAL mode (readers and writers do not wait for each other, a commit costs one write) except on a
    network file system, where WAL does not work: https://sqlite.org/wal.html.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

Migrate = Callable[[Path], None]
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "9p", "fuse", "afs")


def cache_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "sweep"


def provide(database: Path, cache: Path, version: str, migrate: Migrate) -> None:
    """Sees to it that `database` is there. `migrate` makes a migrated file at the path it is given.

    On a file system without links it is not there afterwards: then MLflow does its own migration. Raises OSError
    and what `migrate` raises.
    """
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    scratch = database.with_name(f".{database.name}.{os.getpid()}")
    try:
        try:
            shutil.copyfile(_template(cache, version, migrate), scratch)
        except OSError:  # no home, or a cache that cannot be written
            scratch.unlink(missing_ok=True)
            migrate(scratch)
        if not on_network(database.parent):
            with closing(sqlite3.connect(scratch)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        _sync(scratch)
        with contextlib.suppress(OSError):  # somebody was faster, or there are no links here
            os.link(scratch, database)
    finally:
        for leftover in database.parent.glob(f"{scratch.name}*"):
            leftover.unlink(missing_ok=True)


def _template(cache: Path, version: str, migrate: Migrate) -> Path:
    template = cache / f"mlflow-{version}.db"
    if not _sound(template):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = cache / f".{template.name}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        migrate(scratch)
        _sync(scratch)
        scratch.rename(template)
    return template


def _sound(template: Path) -> bool:
    """Whether it is a whole, migrated database without a row of anybody's."""
    if not template.exists():
        return False
    try:
        with closing(sqlite3.connect(f"file:{template}?mode=ro", uri=True)) as connection:
            whole = connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            migrated = connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
            rows = connection.execute("SELECT count(*) FROM experiments").fetchone()[0]
    except sqlite3.Error:
        return False
    return whole and bool(migrated) and not rows


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def on_network(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether the folder lies on a file system of another machine (or one that we cannot tell)."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return True
    best, kind = "", ""
    for _, point, fstype, *_ in (line for line in lines if len(line) >= 3):
        point = point.replace("\\040", " ")
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, fstype
    return kind.startswith(_NETWORK) or not kind
