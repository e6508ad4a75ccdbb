"""What this process may use of the machine, and whether its clock is kept right."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

from sweep.cli.doctor.finding import Finding
from sweep.disk import said as size
from sweep.slots import cpu

_LEAST_FILES = 64  # measured: a controller has 21 open, and one more for each trial that runs
_FEW_FILES = 1024
_FEW_PROCESSES = 200  # that may still be started: a trial with loaders and threads of numerics takes some 50
_NEARLY = 0.9  # of a memory limit
_ADJTIMEX_UNSYNCHRONISED = 0x0040  # STA_UNSYNC, linux/timex.h
_TIMEX_STATUS = ctypes.sizeof(ctypes.c_long) * 5  # adjtimex(2): modes and four longs come before `status`
_TIMEX_SIZE = 256  # struct timex is 208 bytes, spare room included


def processes() -> Iterator[Finding]:
    """RLIMITs: getrlimit(2)."""
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        more = "" if hard == resource.RLIM_INFINITY or hard >= _FEW_FILES else " (its hard limit: limits.conf(5))"
        said = f"{files} open files are allowed; a controller needs some 30, the loaders of a trial hundreds"
        yield Finding("limits", "bad" if files < _LEAST_FILES else "warn", said, f"ulimit -n {_FEW_FILES}{more}")
    left = _processes_left()
    if left is not None and left < _FEW_PROCESSES:
        said = f"{left} more processes and threads are allowed; a trial with loaders takes some 50"
        yield Finding("limits", "warn", said, "ulimit -u, or end what runs already")
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        said = f"the address space is limited to {size(space)}; CUDA alone reserves more than a machine has"
        yield Finding("limits", "warn", said, "ulimit -v unlimited")
    if (files == resource.RLIM_INFINITY or files >= _FEW_FILES) and space == resource.RLIM_INFINITY:
        told = "any number of" if files == resource.RLIM_INFINITY else files
        yield Finding("limits", "ok", f"{told} open files, address space unlimited")


def cgroup(root: Path = Path("/")) -> Iterator[Finding]:
    """root: where /proc and /sys are."""
    v2 = (root / "sys/fs/cgroup/cgroup.controllers").exists()
    v1 = (root / "sys/fs/cgroup/memory").is_dir()
    if not v2 and not v1:
        yield Finding("cgroup", "ok", f"none; {cpu.cores(root)} cores")
        return
    group = _group(root, v2=v2)
    limit, used = _memory(group, root / "sys/fs/cgroup", v2=v2)
    parts = [f"{'v2' if v2 else 'v1'}, {cpu.cores(root)} cores"]
    parts.append(f"memory limited to {size(limit)}" if limit else "memory not limited")
    own = os.access(group, os.W_OK | os.X_OK, effective_ids=True)
    parts.append("groups below it may be made" if own else "no groups may be made below it")
    if limit and used > _NEARLY * limit:
        said = f"{size(used)} of the {size(limit)} that this group may use are in use: trials will be killed"
        yield Finding("cgroup", "warn", said, "end what uses it, or raise the limit (docker run --memory)")
    yield Finding("cgroup", "ok", ", ".join(parts))


def clock() -> Iterator[Finding]:
    """Whether the kernel counts its clock as synchronised: adjtimex(2) with no mode, which changes nothing."""
    answer = ctypes.create_string_buffer(_TIMEX_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(answer) < 0:
        yield Finding("clock", "ok", f"the kernel does not tell its state: {os.strerror(ctypes.get_errno())}")
        return
    status = ctypes.c_int.from_buffer(answer, _TIMEX_STATUS).value
    if status & _ADJTIMEX_UNSYNCHRONISED:
        said = "nothing keeps the clock right (NTP): times of this machine and of MLflow's may differ"
        yield Finding("clock", "warn", said, "sudo timedatectl set-ntp true; a container has its host's clock")
    else:
        yield Finding("clock", "ok", "synchronised (NTP)")


def _processes_left() -> int | None:
    """How many more this user may start; None where there is no limit. Root has none."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if most == resource.RLIM_INFINITY or os.geteuid() == 0:
        return None
    mine = os.getuid()
    found = psutil.process_iter(["uids", "num_threads"])
    used = (one.info["num_threads"] or 0 for one in found if one.info["uids"] and one.info["uids"].real == mine)
    return most - sum(used)


def _group(root: Path, *, v2: bool) -> Path:
    """The folder of this process's group; that of all groups where its own cannot be seen, as in a container."""
    mounted = root / ("sys/fs/cgroup" if v2 else "sys/fs/cgroup/memory")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers if v2 else "memory" in controllers.split(","):
            own = mounted / path.lstrip("/")
            return own if own.is_dir() else mounted
    return mounted


def _memory(group: Path, top: Path, *, v2: bool) -> tuple[int, int]:
    """The smallest limit of the group and those above it, 0 where there is none, and what is used under it."""
    limit_file, used_file = (
        ("memory.max", "memory.current") if v2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    physical = psutil.virtual_memory().total
    found = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            break
        limit, used = _text(folder / limit_file).strip(), _text(folder / used_file).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < physical:  # v1 says "no limit" by a huge number
            found.append((int(limit), int(used)))
    return min(found, default=(0, 0))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
