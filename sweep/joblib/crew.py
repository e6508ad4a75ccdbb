"""The calls of one `joblib.Parallel`: in their order, each as soon as a slot can be leased, so many at once.

A thread per running call leases a slot, starts the process and waits for it. The threads are daemons: when this
process ends, so do the calls (`launch.tether`), and nothing waits for those that have not begun.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from joblib.parallel import BatchedCalls

from sweep.joblib.call import Call
from sweep.joblib.parcel import Packer
from sweep.ports import Slot
from sweep.slots.health import holder_name
from sweep.slots.pool import Pool

PROBE = 0.25  # seconds between two tries of slots that somebody else holds
PATIENCE = 2.0  # seconds without a single slot before anybody is told


class Crew:
    """limit: calls at once. env: what their processes get beside what pins them. The pool is closed with it."""

    def __init__(self, pool: Pool, limit: int, packer: Packer, env: Mapping[str, str]) -> None:
        self._pool = pool
        self._limit = limit
        self._packer = packer
        self._env = env
        self._queue: queue.SimpleQueue[tuple[Future[Any], Call] | None] = queue.SimpleQueue()
        self._threads = 0
        self._calls = 0
        self._running: set[Call] = set()
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # of what is above: `submit` is called from the threads, too
        self._turn = threading.Lock()  # of the pool: who waits for a slot is served before who comes later

    def submit(self, batch: BatchedCalls, callback: Callable[[Future[Any]], object] | None) -> Future[Any]:
        future: Future[Any] = Future()
        if callback is not None:
            future.add_done_callback(callback)
        with self._lock:
            call = Call(batch, self._calls + 1)
            self._calls += len(batch)
            if self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name="sweep-call", daemon=True).start()
        self._queue.put((future, call))
        return future

    def close(self) -> None:
        """Ends the calls that run, forgets the others, and returns when every slot has been given back."""
        with self._lock:
            self._stopped.set()
            running = list(self._running)
            for call in running:
                call.end()
            for _ in range(self._threads):
                self._queue.put(None)
        for call in running:
            call.process.wait()
        with self._turn:
            self._pool.close()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            self._serve(*task)
            del task  # a result may be large, and the next task far away

    def _serve(self, future: Future[Any], call: Call) -> None:
        try:
            result = self._run(call)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run(self, call: Call) -> Any:
        if self._stopped.is_set():
            raise CancelledError
        call.pack(self._packer)
        slot, lease = self._lease({"command": f"{call.function} of {Path(sys.argv[0]).name or 'python'}"})
        try:
            with self._lock:
                if self._stopped.is_set():
                    raise CancelledError
                call.start(slot, lease, self._env)
                self._running.add(call)
        finally:
            os.close(lease)
        call.process.wait()
        with self._lock:
            self._running.discard(call)
        return call.result()

    def _lease(self, holder: Mapping[str, str]) -> tuple[Slot, int]:
        with self._turn:
            since, said = time.monotonic(), False
            while not self._stopped.is_set():
                if taken := self._pool.acquire_all(1, holder):
                    return taken[0]
                if not said and not self._running and time.monotonic() - since > PATIENCE:
                    said = True
                    print(f"sweep: waiting for a device: {self._obstacles()}", file=sys.stderr, flush=True)
                self._stopped.wait(PROBE)
        raise CancelledError

    def _obstacles(self) -> str:
        trouble, found = self._pool.trouble, []
        for slot in self._pool.slots:
            if (holder := self._pool.holder(slot)) is not None:
                found.append(f"{slot.device} is held by {holder_name(holder)}")
            elif slot.device in trouble:
                found.append(f"{slot.device} is not used: {trouble[slot.device]}")
        return "; ".join(dict.fromkeys(found)) or "others have waited longer"
