"""What one attempt may use of the machine: memory, and how many processes and threads it may have.

Rules
1.  Where this user may make control groups, the attempt gets one of its own, and the kernel holds it to its
    limits. The supervisor puts the command in before it tells it what to become, so the whole tree is inside. It
    stays outside itself: it has to see the end.
2.  v1 (a hierarchy for each controller): the group is made below ours. v2: a group that hands controllers on holds
    no processes, so it is made below the nearest group above ours that does; but not where it would escape from a
    limit of a group in between.
3.  Where no group can be made, the supervisor looks by itself, five times a second at most: by how much the tree
    goes over between two looks, nobody can say. Memory that processes share is counted once.
4.  Who goes over is ended as a whole, by SIGKILL. (v1 kills one process of a group; the others may wait for it.)
5.  A group goes with its last process. One whose supervisor was killed is removed by the next one that makes a
    group there, or by the controller that finds it dead: its name tells whose it is.

Files and their keys: kernel documentation, cgroup-v2, cgroup-v1/memory, cgroup-v1/pids.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sweep.launch.process import boot_id, descendants, is_alive, start_time

LOOK = 0.2  # seconds between two looks
_SHARE = 20  # one part in so many of a core goes into looking, however many processes the machine has
_PREFIX = "sweep-"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CONTROLLERS = {"memory": "memory", "processes": "pids"}
_Kind = tuple[int, str]  # version, controller
_LIMIT: dict[_Kind, str] = {
    (1, "memory"): "memory.limit_in_bytes",
    (2, "memory"): "memory.max",
    (1, "pids"): "pids.max",
    (2, "pids"): "pids.max",
}
# what else is set, where the kernel has it: nothing of the limit goes to swap, and all processes end together
_ALSO: dict[_Kind, dict[str, str]] = {
    (1, "memory"): {"memory.memsw.limit_in_bytes": "{}"},
    (2, "memory"): {"memory.swap.max": "0", "memory.oom.group": "1"},
}
# where the kernel counts whom it killed, or what it refused: file, key
_COUNT: dict[_Kind, tuple[str, str]] = {
    (1, "memory"): ("memory.oom_control", "oom_kill"),
    (2, "memory"): ("memory.events", "oom_kill"),
    (1, "pids"): ("pids.events", "max"),
    (2, "pids"): ("pids.events", "max"),
}
_PEAK: dict[_Kind, str] = {(1, "memory"): "memory.max_usage_in_bytes", (2, "memory"): "memory.peak"}
# what nobody may escape from, as it is where there is no limit
_FREE = {"memory.max": "max", "memory.high": "max", "pids.max": "max", "cpu.max": "max", "cpuset.cpus": ""}


class Place(NamedTuple):
    """A group in the hierarchy of a controller. top: the highest group that can be seen."""

    version: int
    folder: str
    top: str


def own_group(controller: str, root: str = "/") -> Place | None:
    """The group of this process; None where no hierarchy has the controller. root: where /proc and /sys are."""
    mounted = os.path.join(root, "sys/fs/cgroup")
    unified = None
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return _seen(1, os.path.join(mounted, controller), path)
        if number == "0":
            unified = path
    for top in (mounted, os.path.join(mounted, "unified")):
        if unified is not None and controller in _read(os.path.join(top, "cgroup.controllers")).split():
            return _seen(2, top, unified)
    return None


def _seen(version: int, top: str, path: str) -> Place | None:
    """In a container the path may be the host's, while the mount has this group as its root."""
    inner = os.path.normpath(top + path)
    folder = inner if os.path.isdir(inner) else top
    return Place(version, folder, top) if os.path.isdir(folder) else None


def places(controllers: Collection[str], root: str = "/") -> dict[str, Place]:
    """controller -> below which group one of an attempt may be made; empty where one of them has none."""
    found = {one: own for one in controllers if (own := own_group(one, root)) is not None}
    unified = {one for one, own in found.items() if own.version == 2}
    for one in unified:
        found[one] = found[one]._replace(folder=_nearest(found[one], unified))
    usable = len(found) == len(controllers) and all(map(_writable, found.values()))
    return found if usable else {}


def _nearest(own: Place, controllers: Collection[str]) -> str:
    """The nearest group that hands these controllers on; empty where there is none, or a limit is in between."""
    folder = own.folder
    while not set(controllers) <= set(_read(os.path.join(folder, "cgroup.subtree_control")).split()):
        if folder == own.top or _limited(folder):
            return ""
        folder = os.path.dirname(folder)
    return folder


def _limited(folder: str) -> bool:
    said = {name: _read(os.path.join(folder, name)).split()[:1] for name in _FREE}
    return any(words not in ([], [_FREE[name]]) for name, words in said.items())


def _writable(place: Place) -> bool:
    """access(2) knows read-only mounts too. v2 wants the right to move processes in the group above both."""
    if not place.folder or not os.access(place.folder, os.W_OK | os.X_OK):
        return False
    return place.version == 1 or os.access(os.path.join(place.folder, "cgroup.procs"), os.W_OK)


def kept_by_kernel(limits: Iterable[str], root: str = "/") -> bool:
    """Whether `impose` would find a group for these."""
    return bool(places([_CONTROLLERS[key] for key in limits], root))


def impose(limits: Mapping[str, int], pid: int) -> Group | Lookout | None:
    """Puts the process under these limits: `memory` in bytes, `processes`; None where there is no limit."""
    if not limits:
        return None
    found = places([_CONTROLLERS[key] for key in limits])
    if found:
        try:
            return Group(limits, found, pid)
        except OSError:
            pass  # the kernel lacks a file, or the group above has all that it may have
    return Lookout(limits)


class Group:
    """Control groups of an attempt, one in each hierarchy; `pid` is put in. Raises OSError.

    over: which limit it went over, "memory" or "processes"; empty while it has not. peak: bytes, 0 if unknown.
    """

    def __init__(self, limits: Mapping[str, int], found: Mapping[str, Place], pid: int) -> None:
        self.over, self.peak = "", 0
        self.by = f"cgroup v{max(place.version for place in found.values())}"
        self._kinds: dict[str, _Kind] = {}
        self._folders: dict[str, str] = {}
        me = os.getpid()
        try:
            for key, limit in limits.items():
                place = found[_CONTROLLERS[key]]
                clear(place.folder)
                folder = os.path.join(place.folder, f"{_PREFIX}{me}-{start_time(me)}")
                if folder not in self._folders.values():
                    os.mkdir(folder, 0o755)
                self._kinds[key], self._folders[key] = (place.version, _CONTROLLERS[key]), folder
                self._set(key, limit)
            for folder in set(self._folders.values()):
                _write(os.path.join(folder, "cgroup.procs"), str(pid))
        except OSError:
            self.close()
            raise

    def _set(self, key: str, limit: int) -> None:
        kind, folder = self._kinds[key], self._folders[key]
        _write(os.path.join(folder, _LIMIT[kind]), str(limit))
        for name, value in _ALSO.get(kind, {}).items():
            if os.path.exists(os.path.join(folder, name)):
                _write(os.path.join(folder, name), value.format(limit))

    def patience(self) -> float:
        return LOOK

    def look(self) -> None:
        for key, kind in self._kinds.items():
            name, counted = _COUNT[kind]
            for words in map(str.split, _read(os.path.join(self._folders[key], name)).splitlines()):
                if words[:1] == [counted] and int(words[1]) and not self.over:
                    self.over = key
        if "memory" in self._kinds:
            file = os.path.join(self._folders["memory"], _PEAK[self._kinds["memory"]])
            self.peak = int(_read(file) or 0)

    def close(self) -> None:
        """Removes the groups, whose last process has been waited for."""
        for folder in set(self._folders.values()):
            _remove(folder, 50)


class Lookout:
    """The same for the tree of this process, without the kernel's help."""

    by = "its supervisor"

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.over, self.peak = "", 0
        self._limits = limits
        self._due = time.monotonic()

    def patience(self) -> float:
        return LOOK if self.over else max(0.0, self._due - time.monotonic())

    def look(self) -> None:
        if time.monotonic() < self._due or self.over:
            return
        began = time.process_time()
        tree = descendants(os.getpid())
        if "memory" in self._limits:
            used = sum(map(_resident, tree))
            if used > self._limits["memory"]:  # what is shared is in it several times: a dear look is needed
                used = sum(map(_proportional, tree))
            self.peak = max(self.peak, used)
            if used > self._limits["memory"]:
                self.over = "memory"
        if "processes" in self._limits and sum(map(_threads, tree)) > self._limits["processes"]:
            self.over = self.over or "processes"
        self._due = time.monotonic() + max(LOOK, _SHARE * (time.process_time() - began))

    def close(self) -> None:
        pass


def clear_all() -> None:
    """`clear` wherever this process would make groups; their last processes may have been killed just now."""
    for controller in _CONTROLLERS.values():
        for place in places([controller]).values():
            clear(place.folder, 10)


def clear(folder: str, tries: int = 1) -> None:
    """Removes the groups of supervisors that are gone; one that has processes stays."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        pid, _, started = name.removeprefix(_PREFIX).partition("-")
        ours = name.startswith(_PREFIX) and pid.isdigit() and started.isdigit()
        if ours and not is_alive(int(pid), int(started), boot_id()):
            _remove(os.path.join(folder, name), tries)


def _remove(folder: str, tries: int) -> None:
    """A process that was killed may need a moment to leave."""
    for _ in range(tries):
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)


def _resident(pid: int) -> int:
    """Bytes; proc(5), statm."""
    words = _read(f"/proc/{pid}/statm").split()
    return int(words[1]) * _PAGE if words else 0


def _proportional(pid: int) -> int:
    """The same with its part only of what it shares; proc(5), smaps_rollup, which may be closed to us."""
    for words in map(str.split, _read(f"/proc/{pid}/smaps_rollup").splitlines()):
        if words[:1] == ["Pss:"]:
            return int(words[1]) * 1024
    return _resident(pid)


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _read(path: str) -> str:
    """Nothing where it is not there."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
