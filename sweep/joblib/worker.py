"""The process of one call: unpacks it, runs it, packs what came of it. `worker.py THRESHOLD FOUR-DESCRIPTORS`.

The answer is (value, None), or (exception, its traceback in words).
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import Any

import cloudpickle

from sweep.joblib.parcel import Parcel, fill, unpack


def main() -> None:
    threshold = int(sys.argv[1]) if sys.argv[1] else None
    files = [os.fdopen(int(word), "r+b") for word in sys.argv[2:6]]
    task, answer = Parcel(*files[:2]), Parcel(*files[2:])
    for file in files:
        os.set_inheritable(file.fileno(), False)
    try:
        said: tuple[Any, str | None] = unpack(task)(), None
    except BaseException as error:
        said = _sendable(error), traceback.format_exc()
    try:
        fill(answer, said, threshold)
    except Exception as error:
        fill(answer, (_sendable(error), traceback.format_exc()), None)


def _sendable(error: BaseException) -> BaseException:
    """The exception itself, or where it cannot be pickled, or not unpickled, one that says the same."""
    try:
        pickle.loads(cloudpickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
