"""Which processes on a device are nobody's trial.

A process belongs to a lease if it descends from one that has the lock file open: the supervisor of its attempt.
The descriptors of another user's processes cannot be seen; there the pid that the lock file names must do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sweep.slots.leases import Held, user_name

_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in linux/proc_ns.h


def strangers(pids: Iterable[int], leases: Sequence[Held]) -> list[int]:
    """Those of the pids that live and descend from no holder of these leases."""
    return [pid for pid in pids if _lives(pid) and not _belongs(pid, leases)]


def pids_mean() -> str:
    """What a driver's pids are worth: "true"; "hidden" in a container, where they are the host's; or "nothing".

    The driver knows nothing of pid namespaces: in one, it shows the host's numbers or no processes at all.
    """
    if str(Path("/proc/self/ns/pid").readlink()) == _FIRST_PID_NAMESPACE:
        return "true"
    # Under WSL no process is shown either, and the memory of the Windows desktop is in use on the same card.
    return "nothing" if "microsoft" in os.uname().release.lower() else "hidden"


def people(pids: Sequence[int]) -> str:
    """Words for processes: who computes."""
    words = []
    for pid in pids:
        try:
            words.append(f"process {pid} of {user_name(Path(f'/proc/{pid}').stat().st_uid)}")
        except OSError:
            words.append(f"process {pid}")
    return f"{' and '.join(words)} {'computes' if len(words) == 1 else 'compute'}"


def _belongs(pid: int, leases: Sequence[Held]) -> bool:
    files = {held.file for held in leases}
    named = {held.facts.get("pid") for held in leases}
    for ancestor in _lineage(pid):
        try:
            if not files.isdisjoint(_open_files(ancestor)):
                return True
        except PermissionError:
            if ancestor in named:
                return True
    return False


def _lineage(pid: int) -> Iterator[int]:
    """The process and its ancestors, up to this one: that it may have the lock file open proves nothing."""
    while pid > 1 and pid != os.getpid():
        yield pid
        try:
            # "pid (name) state ppid ...": the name may hold spaces and brackets (proc(5))
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


def _open_files(pid: int) -> Iterator[tuple[int, int]]:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # closed in between
                    status = entry.stat()
                    yield status.st_dev, status.st_ino
    except FileNotFoundError:
        return


def _lives(pid: int) -> bool:
    # A signal of 0 also finds the processes that /proc is mounted to hide (hidepid).
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
