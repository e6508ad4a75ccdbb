"""Facts about processes, and the two prctl calls that keep a tree together. Linux."""

from __future__ import annotations

import ctypes
import os
import signal
import time

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


def facts(pid: int) -> str:
    """One line for people: pid, state, what it waits for in the kernel, seconds of CPU, command."""
    fields = _stat(pid)
    if fields is None:
        return f"{pid}  gone"
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    where, command = _read(f"/proc/{pid}/wchan"), _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    return f"{pid}  {fields[0]}  {where if where not in ('', '0') else '-'}  {seconds:.2f} s  {command[:300]}"


def oom_kills() -> int:
    """How many processes of this one's memory cgroup the kernel has ended for want of memory; 0 if unknown.

    Of the whole machine where the cgroup does not tell. Kernel documentation: cgroup-v2, memory.events;
    cgroup-v1/memory, memory.oom_control; proc(5), vmstat. The key is oom_kill in all of them.
    """
    places = ["/proc/vmstat"]
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        # in a container the path may be the host's, while the mount has this group as its root
        if number == "0":
            places[:0] = [f"/sys/fs/cgroup{path}/memory.events", "/sys/fs/cgroup/memory.events"]
        elif "memory" in controllers.split(","):
            root = "/sys/fs/cgroup/memory"
            places[:0] = [f"{root}{path}/memory.oom_control", f"{root}/memory.oom_control"]
    for place in places:
        for words in map(str.split, _read(place).splitlines()):
            if words[:1] == ["oom_kill"]:
                return int(words[1])
    return 0


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


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


def end_descendants(kill_after: float = 2.0) -> None:
    """SIGTERM, and so many seconds later SIGKILL, to what is left below this sub-reaper, until nobody is."""
    kill_at = time.monotonic() + kill_after
    _signal_descendants(signal.SIGTERM)
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() >= kill_at:
            _signal_descendants(signal.SIGKILL)
        time.sleep(0.01)


def _signal_descendants(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it ended in between
