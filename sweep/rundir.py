"""Owns every path below `sweeps/` and the few ways in which files there are written.

    sweeps/<id>/
      space.yaml  source.json       the file as given; where it ran and from what
      space.1.yaml ...              the file as it was changed to later
      journal.jsonl                 every event, in order: the truth (journal.py)
      journal.snapshot              the state as of one of them, where they are many (snapshot.py)
      study.log                     Optuna's journal storage (search.py)
      mlflow.json                   the follower's cursor and run ids (tracking)
      controller.json               how long the controller's loop works (tempo.py)
      controller.lock  controller.log  follower.lock  follower.log  nursery.lock
      orders/                       what `sweep stop` and its like want (orders.py)
      doorbell                      datagram socket that a report rings
      told.json  result.json  hooks.log  hooks.lock   what `on_finish` and `on_fail` did (notify.py)
      trials/<number>/<attempt>/
        params.json  attempt.json  verdict.json  exit.json
        reports.jsonl  usage.jsonl  output.log  checkpoints/<step>/
        stall/                      what it was doing when it hung (launch/stacks.py)

A whole-file write is atomic (temporary file, then rename): a reader sees the old file or the new, never half of
one. Folders are private to their user (0700).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from sweep.errors import BusyError, NotFoundError, StorageError

ROOT = "sweeps"
_ARCHIVED = "archived"
_PACKED = ".tar.gz"
_LOOKERS = 20  # how often a lock that is only looked at is tried again


_ATTEMPT_FILES = {
    "params": "params.json",
    "attempt": "attempt.json",
    "verdict": "verdict.json",
    "exit": "exit.json",
    "reports": "reports.jsonl",
    "usage": "usage.jsonl",
    "output": "output.log",
    "checkpoints": "checkpoints",
    "stall": "stall",
}


class AttemptDir:
    """Paths of one attempt, made when they are asked for: a status looks at tens of thousands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getattr__(self, name: str) -> Path:
        try:
            return self.path / _ATTEMPT_FILES[name]
        except KeyError:
            raise AttributeError(name) from None


class SweepDir:
    """Paths of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.id = path.name
        self.space = self.path / "space.yaml"
        self.source = self.path / "source.json"
        self.journal = self.path / "journal.jsonl"
        self.study = self.path / "study.log"
        self.mlflow = self.path / "mlflow.json"
        self.controller_lock = self.path / "controller.lock"
        self.controller_log = self.path / "controller.log"
        self.tempo = self.path / "controller.json"
        self.follower_log = self.path / "follower.log"
        self.follower_lock = self.path / "follower.lock"
        self.nursery_lock = self.path / "nursery.lock"
        self.doorbell = self.path / "doorbell"
        self.orders = self.path / "orders"
        self.told = self.path / "told.json"
        self.result = self.path / "result.json"
        self.hooks_log = self.path / "hooks.log"
        self.hooks_lock = self.path / "hooks.lock"
        self.trials = self.path / "trials"

    def copy(self, change: int) -> Path:
        """The file as given: at the beginning (0), or at its first change, its second."""
        return self.path / f"space.{change}.yaml" if change else self.space

    def attempt(self, trial: int, attempt: int) -> AttemptDir:
        return AttemptDir(self.trials / str(trial) / str(attempt))


def create(project: Path, name: str) -> SweepDir:
    """A new folder `sweeps/<name>-<number>`, numbered after the highest there is.

    Raises StorageError where the folder cannot be made.
    """
    root = project / ROOT
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        number = max(_numbers(root, name), default=0) + 1
        while True:
            path = root / f"{name}-{number}"
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:  # another `sweep run` took this number in between
                number += 1
                continue
            (path / "trials").mkdir(mode=0o700)
            return SweepDir(path)
    except OSError as error:
        raise StorageError(
            f"cannot make a folder for the sweep in {root}: {error.strerror}",
            hint="run it from a folder that you may write to",
        ) from None


def _numbers(root: Path, name: str) -> list[int]:
    """Those of archived sweeps are taken as well: they may come back."""
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    names = [*(entry.name for entry in root.iterdir()), *map(archived_id, archives(root.parent))]
    return [int(found[1]) for one in names if (found := pattern.fullmatch(one))]


def archive(directory: SweepDir) -> Path:
    """Where `sweep clean --archive` puts it."""
    return directory.path.parent / _ARCHIVED / f"{directory.id}{_PACKED}"


def archives(project: Path) -> list[Path]:
    """The archived sweeps of a folder, by name."""
    return sorted((project / ROOT / _ARCHIVED).glob(f"[!.]*{_PACKED}"))


def archived_id(path: Path) -> str:
    return path.name.removesuffix(_PACKED)


def sweeps(project: Path) -> list[SweepDir]:
    """The sweeps of a folder, oldest first."""
    root = project / ROOT
    known = [path for path in root.iterdir() if (path / "journal.jsonl").exists()] if root.is_dir() else []
    return [SweepDir(path) for path in sorted(known, key=_age)]


def _age(path: Path) -> int:
    try:
        return (path / "space.yaml").stat().st_mtime_ns  # written once, at the beginning
    except OSError:
        return 0


def find(project: Path, wanted: str | None) -> SweepDir:
    """The sweep with this id, the newest with this name, or the newest of all. Raises NotFoundError."""
    known = sweeps(project)
    if wanted is not None:
        named = [one for one in known if re.fullmatch(re.escape(wanted) + r"-\d+", one.id)]
        known = [one for one in known if one.id == wanted] or named
        if not known and wanted in map(archived_id, archives(project)):
            place = f"{ROOT}/{_ARCHIVED}/{wanted}{_PACKED}"
            raise NotFoundError(f"{wanted} is archived", hint=f"to have it back: tar -xzf {place} -C {ROOT}")
    if not known:
        raise NotFoundError(
            f"no sweep {wanted!r} in {project / ROOT}" if wanted else f"no sweep in {project / ROOT}",
            hint="`sweep run space.yaml` starts one; sweeps are looked for in the folder that you are in",
        )
    return known[-1]


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replaces the file as a whole. Raises OSError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        scratch.rename(path)
    except OSError:
        scratch.unlink(missing_ok=True)  # on a full disk what has got there would stay
        raise


def roll(path: Path, most: int) -> None:
    """A log that is larger goes on from nothing, under the same name; what it was is `<name>.1`. Raises OSError.

    Other processes write it as well, at its end (O_APPEND), so it is copied and emptied, not renamed. A line that
    comes between the two is lost.
    """
    if path.stat().st_size > most:
        old = path.with_name(f"{path.name}.1")
        shutil.copyfile(path, scratch := path.with_name(f".{old.name}.{os.getpid()}"))
        scratch.rename(old)
        os.truncate(path, 0)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, ensure_ascii=False))


def read_json(path: Path) -> Any | None:
    """What the file says, or None where it is not there (yet) or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def lock(path: Path, holder: str) -> int:
    """Takes an exclusive lock for this process's life and writes who holds it; returns its descriptor.

    Raises BusyError that names the present holder.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not take_lock(handle):
        present = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(handle)
        hint = f"`sweep attach {path.parent.name}` shows it; `sweep stop` and `sweep set` give it orders"
        raise BusyError(f"{path.parent.name} is already driven by {present}", hint=hint) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, holder.encode(), 0)
    return handle


def take_lock(handle: int) -> bool:
    """Locks an open file for its descriptor's life; False where somebody else holds it.

    Who only looks (`locked`) holds it shared for a moment; that is waited out.
    """
    for _ in range(_LOOKERS):
        if _try_lock(handle, fcntl.LOCK_EX):
            return True
        if is_taken(handle):
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(0.0005)  # the onlooker's turn on the CPU may be over
    return False


def is_taken(handle: int) -> bool:
    """Whether another descriptor holds the open file's lock; holds it shared itself, if not."""
    return not _try_lock(handle, fcntl.LOCK_SH)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_taken(handle)
    finally:
        os.close(handle)
