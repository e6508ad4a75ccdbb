"""Values on their way between processes: in files without a name, large arrays as pages that are mapped.

A file is passed on as a descriptor, so there is nothing to clean up, whoever dies. What supports pickle's protocol
5 (NumPy, pandas, Arrow) hands its large buffers over out of band (PEP 574): they lie in a file of their own, each
on a page boundary. Who unpacks maps them privately: nothing is read before it is used, processes share the pages,
and each may write into its arrays without another one's seeing it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any
from weakref import WeakValueDictionary

import cloudpickle

_SHARED_MEMORY = "/dev/shm"
_ROOM = 2 << 30  # bytes that shared memory must have free; in a container there often are 64 MiB in all


@dataclass(frozen=True)
class Parcel:
    """text: a pickle. arrays: the file that its large buffers lie in."""

    text: IO[bytes]
    arrays: IO[bytes]

    @property
    def handles(self) -> tuple[int, int]:
        return self.text.fileno(), self.arrays.fileno()


class Packer:
    """Makes parcels. The same arrays, packed again while another parcel with them is in use, lie there once.

    threshold: bytes from which a buffer is mapped; None is never. folder: where the files lie.
    """

    def __init__(self, threshold: int | None, folder: str | None) -> None:
        self.threshold = threshold
        self._folder = folder or os.environ.get("JOBLIB_TEMP_FOLDER") or _roomy_folder()
        self._files: WeakValueDictionary[bytes, IO[bytes]] = WeakValueDictionary()

    def empty(self) -> Parcel:
        """For somebody else to fill."""
        return Parcel(self._file(), self._file())

    def pack(self, value: Any) -> Parcel:
        """Raises whatever pickling the value raises, and OSError where there is no room."""
        text, buffers = _pickle(value, self.threshold)
        parcel = Parcel(self._file(), self._arrays(buffers))
        _write(parcel.text, text)
        return parcel

    def _arrays(self, buffers: Sequence[memoryview]) -> IO[bytes]:
        digest = hashlib.blake2b()
        for buffer in buffers:
            digest.update(b"%d " % buffer.nbytes)
            digest.update(buffer)
        file = self._files.get(digest.digest())
        if file is None:
            file = self._file()
            _lay(file, buffers)
            self._files[digest.digest()] = file
        return file

    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._folder)


def fill(parcel: Parcel, value: Any, threshold: int | None) -> None:
    """Raises as `Packer.pack`; then nothing has been written that `unpack` would take for a value."""
    text, buffers = _pickle(value, threshold)
    _lay(parcel.arrays, buffers)
    _write(parcel.text, text)


def unpack(parcel: Parcel) -> Any:
    parcel.text.seek(0)
    lengths, text = pickle.load(parcel.text)
    buffers, offset = [], 0
    for length in lengths:
        buffers.append(mmap.mmap(parcel.arrays.fileno(), length, access=mmap.ACCESS_COPY, offset=offset))
        offset += _whole_pages(length)
    return pickle.loads(text, buffers=buffers)


def _pickle(value: Any, threshold: int | None) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        """Whether it goes into the pickle itself."""
        raw = buffer.raw()
        large = threshold is not None and raw.nbytes >= max(threshold, 1)
        if large:
            buffers.append(raw)
        return not large

    text = cloudpickle.dumps(value, protocol=5, buffer_callback=stays)
    return pickle.dumps(([buffer.nbytes for buffer in buffers], text)), buffers


def _lay(file: IO[bytes], buffers: Sequence[memoryview]) -> None:
    offset = 0
    for buffer in buffers:
        file.seek(offset)
        file.write(buffer)
        offset += _whole_pages(buffer.nbytes)
    file.flush()


def _write(file: IO[bytes], text: bytes) -> None:
    file.write(text)
    file.flush()


def _whole_pages(length: int) -> int:
    return -(-length // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def _roomy_folder() -> str:
    try:
        if shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM and os.access(_SHARED_MEMORY, os.W_OK):
            return _SHARED_MEMORY
    except OSError:
        pass
    return tempfile.gettempdir()
