"""One call of a `joblib.Parallel` (or a batch of them) in a process of its own, on the device of a lease.

The process is a fresh Python below a `launch.tether`, in a session of its own: Ctrl-C reaches only whoever waits
for it, who then ends it. The tether holds the lease until the last process of the call has gone.
"""

from __future__ import annotations

import json
import os
import reprlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import BatchedCalls

from sweep.errors import SweepError
from sweep.joblib.parcel import Packer, unpack
from sweep.launch.process import oom_kills
from sweep.ports import Slot

_START = "import sys, json; sys.path[:] = json.loads(sys.argv.pop(1)); from sweep.{} import main; main()"


class RemoteTraceback(Exception):
    """Where an exception was raised in the process of a call; its cause, in the process that waited for it."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class TerminatedCallError(SweepError, TerminatedWorkerError):  # type: ignore[misc]
    """The process of a call ended before it could answer: killed by the system, or by its own code."""


class Call:
    """first: the number of its first call, from 1."""

    def __init__(self, batch: BatchedCalls, first: int) -> None:
        self._batch = batch
        function, args, kwargs = batch.items[0]
        self.function = getattr(function, "__name__", type(function).__name__)
        shown = [*map(reprlib.repr, args), *(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())]
        which = f"call {first}" if len(batch) == 1 else f"one of the calls {first} to {first + len(batch) - 1}"
        self.words = f"{which}, {self.function}({', '.join(shown)}),"

    def pack(self, packer: Packer) -> None:
        """Raises OSError, and what pickling the call raises."""
        self._threshold = packer.threshold
        self._task, self._answer = packer.pack(self._batch), packer.empty()

    def start(self, slot: Slot, lease: int, env: Mapping[str, str]) -> None:
        """Once it is packed; the lease stays the caller's to close. Raises OSError."""
        self._slot = slot
        handles = (*self._task.handles, *self._answer.handles)
        self._oom_kills = oom_kills()
        life, self._life = os.pipe()
        self._status, status = os.pipe()
        threshold = "" if self._threshold is None else str(self._threshold)
        worker = _python("joblib.worker", threshold, *map(str, handles))
        try:
            self.process = subprocess.Popen(
                _python("launch.tether", str(life), str(status), *worker),
                env={**os.environ, **slot.env, **env},
                pass_fds=(*handles, lease, life, status),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._life)
            os.close(self._status)
            raise
        finally:
            os.close(life)
            os.close(status)

    def end(self) -> None:
        """Its processes are told to end; `process` ends when they have. Not after `result`."""
        with suppress(OSError):  # it has ended by itself
            os.write(self._life, b"x")

    def result(self) -> Any:
        """What the call returned, once its `process` has ended. Raises what it raised, or TerminatedCallError."""
        status = os.read(self._status, 16)
        os.close(self._status)
        os.close(self._life)
        code = os.waitstatus_to_exitcode(int(status)) if status else self.process.returncode
        if code != 0 or not status:
            raise self._terminated(code)
        value, remote = unpack(self._answer)
        if remote is not None:
            value.__cause__ = RemoteTraceback(remote)
            raise value
        return value

    def _terminated(self, code: int) -> TerminatedCallError:
        slot = self._slot
        where = slot.name if slot.kind == "cpu" else f"{slot.kind.upper()} {slot.index} ({slot.device})"
        if code >= 0:
            return TerminatedCallError(
                f"{self.words} on {where} ended by itself with exit code {code} and returned nothing",
                hint="os._exit() does that; its output may tell more",
            )
        name = signal.Signals(-code).name
        hint = "its output may tell why"
        if oom_kills() > self._oom_kills:
            hint = "the system has ended processes for want of memory meanwhile: try fewer at once, `n_jobs`"
        elif -code == signal.SIGKILL:
            hint = "somebody killed it, or the system did for want of memory (`dmesg` tells)"
        return TerminatedCallError(f"{self.words} on {where} was ended by {name} (signal {-code})", hint=hint)


def _python(module: str, *words: str) -> list[str]:
    """A fresh Python that finds what this one finds."""
    return [sys.executable, "-c", _START.format(module), json.dumps(sys.path), *words]
