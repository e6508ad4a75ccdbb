"""Folders: that of the locks, that of the sweeps, and shared memory."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from sweep import rundir
from sweep.cli.doctor.finding import Finding
from sweep.config.policy import allowance
from sweep.disk import said as size
from sweep.disk import usual_reserve
from sweep.errors import DeviceError
from sweep.rundir import take_lock
from sweep.slots.gate import machine_folder
from sweep.slots.leases import user_name

_NETWORK = ("nfs", "cifs", "smb", "lustre", "ceph", "beegfs", "gpfs", "9p", "afs", "glusterfs", "fuse.sshfs")
_FEW_INODES = 10_000
_LEAST_SHARED = 1 << 30  # bytes of /dev/shm that a DataLoader with some workers gets by on
_MOVE = "set SWEEP_LOCK_DIR, to the same for every user of this machine"


def lock_place(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Leases are flocks there, for every user of this machine and for no other machine."""
    try:
        folder = machine_folder(environ, allowance())
    except DeviceError as error:
        yield Finding("locks", "bad", error.message, error.hint or "")
        return
    here = _nearest(folder)
    if folder.is_symlink() or not here.is_dir() or (folder.exists() and not folder.is_dir()):
        yield Finding("locks", "bad", f"{folder} is not a folder", _MOVE)
        return
    owner = user_name(here.stat().st_uid)
    if not _may_write(here):
        what = f"{folder} belongs to {owner} and you may not write to it" if here == folder else None
        mend = f"ask {owner} for `chmod 1777 {folder}`, or {_MOVE}"
        yield Finding("locks", "bad", what or f"{folder} cannot be made: you may not write to {here}", mend)
        return
    kind = _file_system(here)
    if kind.startswith(_NETWORK):
        said = f"{folder} is on a network file system ({kind}): other machines would take its leases for theirs"
        yield Finding("locks", "bad", said, f"{_MOVE}, on a local disk such as /run/lock/sweep")
        return
    if trouble := _flock(here):
        yield Finding("locks", "bad", f"{folder}: {trouble}", f"{_MOVE}, on a local disk")
        return
    if here != folder:
        yield Finding("locks", "ok", f"{folder} will be made ({kind}, flock works)")
        return
    mode = folder.stat().st_mode
    if not mode & stat.S_IWOTH:
        said = (
            f"{folder} is closed to other users ({stat.S_IMODE(mode):o}): they would lease the same devices anew"
        )
        yield Finding("locks", "warn", said, f"chmod 1777 {folder}, as {owner}, unless you are alone here")
    else:
        yield Finding("locks", "ok", f"{folder} is open to every user ({kind}, flock works)")


def project(folder: Path) -> Iterator[Finding]:
    """sweeps/ of the folder in which `sweep run` would be typed."""
    root = folder / rundir.ROOT
    here = root if root.is_dir() else folder
    if not _may_write(here):
        owner = user_name(here.stat().st_uid)
        said = f"you may not write to {here}, which belongs to {owner}"
        yield Finding("folder", "bad", said, "work in a folder of your own")
        return
    kind = _file_system(here)
    if trouble := _flock(here):
        yield Finding("folder", "bad", f"{here} ({kind}): {trouble}", "work in a folder on another file system")
        return
    found = os.statvfs(here)
    free, reserve = found.f_bavail * found.f_frsize, usual_reserve(found.f_blocks * found.f_frsize)
    if free < reserve:
        said = f"{size(free)} are free in {here}; no trial starts below {size(reserve)}"
        yield Finding(
            "folder", "bad", said, "`sweep clean --older-than 30d` frees some; `disk: {reserve}` sets it"
        )
    elif found.f_files and found.f_favail < _FEW_INODES:
        said = f"{here} has room for {found.f_favail} more files; a trial makes some ten"
        yield Finding(
            "folder", "warn", said, "`sweep clean --older-than 30d --archive` packs old sweeps into one file"
        )
    else:
        yield Finding("folder", "ok", f"{here}: writable, {size(free)} free ({kind}, flock works)")


def shared_memory(place: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Where the workers of a DataLoader hand their batches over."""
    mend = "in a container: --shm-size=8g or --ipc=host; else num_workers=0"
    try:
        found = os.statvfs(place)
    except OSError as error:
        said = f"{place}: {error.strerror}; DataLoader workers need it"
        yield Finding("shared memory", "warn", said, mend)
        return
    whole = found.f_blocks * found.f_frsize
    if whole < _LEAST_SHARED:
        said = f"{place} has {size(whole)}: DataLoader workers die of it with a bus error"
        yield Finding("shared memory", "warn", said, mend)
    else:
        yield Finding("shared memory", "ok", f"{place} has {size(whole)}")


def _nearest(path: Path) -> Path:
    """The path, or the first above it that is there."""
    return path if os.path.lexists(path) or path == path.parent else _nearest(path.parent)


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)


def _flock(folder: Path) -> str:
    """What is wrong with flock there, tried on a scratch file; empty if nothing is."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sweep-doctor-") as scratch:
            if not take_lock(scratch.fileno()):
                return "a fresh file there counts as locked"
            other = os.open(scratch.name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return ""
            finally:
                os.close(other)
            return "two processes can hold the same flock there"
    except OSError as error:
        return f"a scratch file there cannot be locked: {error.strerror}"


def _file_system(path: Path) -> str:
    """Its type, such as `ext4`: of the deepest mount that the path lies in, proc_pid_mountinfo(5)."""
    deepest, kind = Path(), "unknown"
    here = path.resolve()
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return kind
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(mount.split()[4].replace("\\040", " "))
        if here.is_relative_to(point) and len(point.parts) >= len(
            deepest.parts
        ):  # a later mount lies over an earlier
            deepest, kind = point, source.split()[0]
    return kind
