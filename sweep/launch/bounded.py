"""Keeps `output.log` within a size on the disk while a command writes it: its beginning and its newest part stay.

Rules
1.  The command writes into the file by itself, at its end (O_APPEND), and knows nothing of this. It is not slowed
    down, so between two looks the file may grow past its size by what the command can write meanwhile.
2.  A silent command wakes nobody: the kernel tells of the first change (dnotify, SIGIO). Then the file is looked
    at, soon and less and less often, down to once a second, or before a quarter of its size is written at the
    present pace; until it is quiet.
3.  What is left out becomes a hole: the file system has its blocks back, and whoever reads by offset finds what is
    behind it where it was. `read_on` steps over holes.
4.  A file system that cannot make holes (NFS before 4.2): the file is cut back to its beginning, and its newest
    part appended again. What the command writes in that very moment is lost, and offsets shift.
5.  When nobody writes any more, a file with a hole is written anew, with a line in the place of the hole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import os
import time

_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_BLOCK = 1 << 16  # holes begin and end at multiples of it: a part of a block would be zeroed, not freed
CHUNK = 1 << 20
_SOONEST, _FIRST, _SELDOM = 0.005, 0.02, 1.0  # seconds between two looks
_RARER = 4  # how much longer each wait is than the one before


class BoundedOutput:
    """The output of one attempt. keep: bytes that it may take, 1 MB or more. Raises OSError."""

    def __init__(self, path: str, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._head = max(1, keep // 4 // _BLOCK) * _BLOCK
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._size = 0
        self._hole = self._head  # where it ends
        self._cut = 0  # bytes that are left out without a hole
        self._looked = time.monotonic()
        self._wait = _FIRST
        self._due = self._looked + self._wait

    def patience(self) -> float:
        """Seconds until the next look; infinite while nothing changes."""
        return max(0.0, self._due - time.monotonic())

    def stir(self) -> None:
        """Something in the attempt's folder has changed."""
        if self._due == math.inf:
            self._wait, self._due = _FIRST, 0.0

    def look(self) -> None:
        """Leaves out what is too much. Raises no error: it is tried again."""
        now = time.monotonic()
        if now < self._due:
            return
        grown = self._measure()
        pause, self._looked = now - self._looked, now
        if grown <= 0 and self._wait == _SELDOM and self._listen():
            self._due = math.inf
            return
        until_full = self._keep / 4 * pause / grown if grown > 0 else math.inf
        self._wait = max(_SOONEST, min(_SELDOM, _RARER * self._wait, until_full))
        self._due = now + self._wait

    def finish(self) -> None:
        """Nobody writes any more: a line takes the place of the hole. Where the disk is full, the hole stays."""
        self._measure()
        if self._hole > self._head:
            scratch = f"{self._path}.{os.getpid()}"
            try:
                self._write_whole(scratch)
                os.rename(scratch, self._path)
            except OSError:
                _remove(scratch)

    def _write_whole(self, path: str) -> None:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy(self._file, 0, self._head, target)
            os.write(target, gap(self._hole - self._head))
            _copy(self._file, self._hole, self._size, target)
        finally:
            os.close(target)

    def _measure(self) -> int:
        """By how much it has grown; no more than `keep` is left of it."""
        before, self._size = self._size, os.fstat(self._file).st_size
        if self._size - (self._hole - self._head) > self._keep:
            end = (self._size - self._keep // 4) // _BLOCK * _BLOCK
            try:
                _punch(self._file, self._hole, end)
                self._hole = end
            except OSError as error:
                if error.errno in _CANNOT:
                    self._cut_back(end)
        return self._size - before

    def _cut_back(self, end: int) -> None:
        newest = os.pread(self._file, CHUNK, end)
        while data := os.pread(self._file, CHUNK, end + len(newest)):
            newest += data
            if len(newest) > self._keep // 2:  # it writes faster than this reads: begin later
                end, newest = end + len(newest), b""
        self._cut += end - self._head
        os.ftruncate(self._file, self._head)
        try:
            os.write(self._file, gap(self._cut) + newest)
        except OSError:
            pass  # a full disk: the beginning is left, and what the command writes next
        self._size = os.fstat(self._file).st_size

    def _listen(self) -> bool:
        """Whether the kernel will tell of the next change; False as well where there has just been one."""
        try:
            fcntl.fcntl(self._folder, fcntl.F_NOTIFY, fcntl.DN_MODIFY)
        except OSError:
            return False
        return os.fstat(self._file).st_size == self._size


def read_on(file: int, offset: int, most: int = CHUNK) -> tuple[int, bytes]:
    """How many bytes from the offset on are left out, and the next ones behind them; (0, b"") at the end.

    Holes are looked for after reading: what was there when it was read may be one by now, not the other way round.
    """
    left_out = 0
    while data := os.pread(file, most, offset + left_out):
        at = offset + left_out
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole is behind it (any more)
            break
        if start == at:
            return left_out, data[: os.lseek(file, at, os.SEEK_HOLE) - at]
        left_out += start - at
    return 0, b""


def gap(count: int) -> bytes:
    """The line that stands where so many bytes are left out."""
    shown = f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count} bytes"
    return f"\n… {shown} left out …\n".encode()


def _punch(file: int, start: int, end: int) -> None:
    """fallocate(2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(file, _PUNCH_HOLE, start, end - start):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _copy(source: int, start: int, end: int, target: int) -> None:
    while start < end and (data := os.pread(source, min(CHUNK, end - start), start)):
        start += os.write(target, data)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
