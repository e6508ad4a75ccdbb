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
from sweep.launch.limits import Place, kept_by_kernel, own_group
from sweep.slots import cpu

_LEAST_FILES = 64  # measured: a controller has 21 open, and one more for each trial that runs
_FEW_FILES = 1024
_FEW_PROCESSES = 200  # that may still be started: a trial with loaders and threads of numerics takes some 50
_NEARLY = 0.9  # of a memory limit
_OVERSEEN = "`memory` and `processes` of a trial are kept by its supervisor, which may be late"
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}
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
    group = own_group("memory", str(root))
    if group is None:
        yield Finding("cgroup", "ok", f"none for memory, {cpu.cores(root)} cores, {_OVERSEEN}")
        return
    limit, used = _memory(group)
    parts = [f"v{group.version}, {cpu.cores(root)} cores"]
    parts.append(f"memory limited to {size(limit)}" if limit else "memory not limited")
    parts.append(_keeper(group.version, root))
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


def _keeper(version: int, root: Path) -> str:
    """Who would hold a trial to `memory` and `processes` of space.yaml."""
    if kept_by_kernel(["memory", "processes"], str(root)):
        return "`memory` and `processes` of a trial are kept by the kernel"
    if kept_by_kernel(["memory"], str(root)):
        return "`memory` of a trial is kept by the kernel; with `processes` as well, both by its supervisor"
    more = "; `systemd-run --user --scope -p TasksMax=infinity sweep run ...` may get one" if version == 2 else ""
    return f"{_OVERSEEN}: no group may be made for it here{more}"


def _memory(group: Place) -> tuple[int, int]:
    """The smallest limit of the group and those above it, 0 where there is none, and what is used under it."""
    limit_file, used_file = _MEMORY_FILES[group.version]
    physical = psutil.virtual_memory().total
    found = []
    own, top = Path(group.folder), Path(group.top)
    for folder in (own, *own.parents):
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
