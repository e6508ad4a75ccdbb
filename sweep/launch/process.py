"""Facts about processes, and the two prctl calls that keep a tree together. Linux."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def boot_id() -> str:
    """Differs after every reboot; empty where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (field 22 of proc(5)'s stat), or None if it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Whether the process known by (pid, start time, boot id) still runs; a zombie does not."""
    fields = _stat(pid)
    return fields is not None and boot == boot_id() and int(fields[19]) == started and fields[0] not in ("Z", "X")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat behind the command's name, state first."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


def become_subreaper() -> None:
    """Orphans of this process's tree become its children, however they were forked."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """This process is killed when its parent ends; also if it ended before this call."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)


def descendants(root: int) -> list[int]:
    """Every living process below `root`, children before their own children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and fields[0] not in ("Z", "X"):
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    line = list(children.get(root, ()))
    while line:
        pid = line.pop(0)
        found.append(pid)
        line += children.get(pid, ())
    return found
