"""`sweep.cache`: what a function returns is prepared once on this machine; everybody else maps it.

Built on joblib.Memory, which knows results by their arguments, writes each under another name first, and loads
arrays as memory maps. On top of that:

1.  A function is known by its file, its name and its source, each version in a folder of its own. So one that was
    edited, or a script of the same name elsewhere, takes nothing from those that still run. What it calls, and
    what it reads beside its arguments, is not looked at.
2.  Whoever asks first holds a file lock while the function runs; the others wait. The lock ends with its process,
    so after a kill -9 the next one in line prepares.
3.  After each new result the oldest ones go until all fit into SWEEP_CACHE_SIZE. Who has mapped one keeps it.
4.  Results are pickles: they are taken only from a folder that nobody but its owner may write to.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

import joblib

from sweep.errors import UsageError
from sweep.rundir import take_lock

SIZE = "50GB"
_LOOK = 0.1  # seconds between two looks at a lock
_WORD = 60.0  # between two words while waiting: without any the trial would seem to hang
P = ParamSpec("P")
R = TypeVar("R")


@overload
def cache(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def cache(*, ignore: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def cache(function: Any = None, *, ignore: Sequence[str] = ()) -> Any:
    """The function, run once on this machine for equal arguments; arrays in what it returns are read-only maps.

    ignore: arguments that make no difference to the result, such as a number of workers. Raises UsageError where
    the function, the cache's folder or SWEEP_CACHE_SIZE will not do.
    """
    if function is None:
        return functools.partial(cache, ignore=ignore)

    if not inspect.isfunction(function):
        raise UsageError(f"sweep.cache takes a function, and {function!r} is none")

    @functools.wraps(function)
    def cached(*args: Any, **kwargs: Any) -> Any:
        return _recall(function, ignore, args, kwargs)

    return cached


def folder() -> Path:
    """Where results lie: SWEEP_CACHE_DIR, or `sweep/data` in the user's cache folder."""
    if named := os.environ.get("SWEEP_CACHE_DIR"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweep" / "data"


def _recall(function: Callable[..., Any], ignore: Sequence[str], args: Any, kwargs: Any) -> Any:
    root = _own(folder())
    limit = _limit()
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    known_by = {name: value for name, value in given.arguments.items() if name not in ignore}
    place = root / _version(function)
    fresh: list[Any] = []

    @functools.wraps(function)
    def prepare(*args: Any, **kwargs: Any) -> Any:
        fresh.append(function(*args, **kwargs))
        return fresh[0]

    prepare.__module__ = __name__  # joblib's name for it, wherever this file is installed
    memory = joblib.Memory(place, mmap_mode="r", verbose=0)
    lock = place / f"{joblib.hash(known_by, coerce_mmap=True)}.lock"
    with _alone(lock, function.__name__):
        found = memory.cache(prepare, ignore=list(ignore)).call_and_shelve(*given.args, **given.kwargs)
        item = Path(found.store_backend.location, found.func_id, found.args_id)
        for scrap in item.glob("output.pkl.*"):  # of somebody who was killed while writing
            scrap.unlink(missing_ok=True)
        try:
            value = found.get()
        except KeyError:  # joblib has warned that it could not be written
            if not fresh:
                raise
            value = fresh[0]
        else:
            _touch(item / "output.pkl")
        if fresh:
            _make_room(root, item, limit, function.__name__)
    return value


def _version(function: Callable[..., Any]) -> str:
    """The folder of this function as it is now. Raises UsageError where its source cannot be found."""
    file = Path(function.__code__.co_filename)
    place = str(file.resolve()) if file.exists() else function.__module__  # a notebook's cell has no file
    try:
        source = inspect.getsource(function)
    except OSError:
        raise UsageError(
            f"sweep.cache knows {function.__name__}() by its source, and there is none to be found",
            hint="write it into a file",
        ) from None
    digest = hashlib.sha256("\0".join((place, function.__qualname__, source)).encode())
    return f"{function.__name__}-{digest.hexdigest()[:20]}"


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        word = time.monotonic()
        while not take_lock(handle):
            if time.monotonic() >= word:
                word += _WORD
                holder = os.pread(handle, 20, 0).decode() or "another process"
                print(f"sweep: waiting for {name}(): {holder} prepares it", file=sys.stderr, flush=True)
            time.sleep(_LOOK)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def _touch(output: Path) -> None:
    """It was used now, even if the file system does not count reading: what was used longest ago goes first."""
    with output.open("rb") as file:
        os.utime(file.fileno(), (time.time(), os.fstat(file.fileno()).st_mtime))


def _make_room(root: Path, newest: Path, limit: int, name: str) -> None:
    joblib.Memory(root, verbose=0).reduce_size(bytes_limit=limit)
    if not newest.exists():
        print(
            f"sweep: what {name}() returned is larger than SWEEP_CACHE_SIZE and was not kept: every process will "
            "prepare it anew",
            file=sys.stderr,
        )


def _own(root: Path) -> Path:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        raise UsageError(
            f"the cache folder {root} can be written to by others, and results are run as code when they are read",
            hint="set SWEEP_CACHE_DIR to a folder of your own",
        )
    return root


def _limit() -> int:
    from sweep.config.disk import size

    try:
        return size(os.environ.get("SWEEP_CACHE_SIZE") or SIZE)
    except ValueError as error:
        raise UsageError(f"SWEEP_CACHE_SIZE: {error}") from None
