"""`joblib.parallel_config(backend="sweep")`: each call in a process of its own, pinned to a device of its own.

What joblib asks of a backend, and how it is answered:
- It runs calls by itself, here and without a lease, where a backend says that it has one worker. So this one never
  says less than two; `n_jobs` and the number of slots bound how many run at once.
- A call inside a call has the device of the outer one: it stays in its process (joblib's own threads, or one after
  the other). The same holds inside a trial.
- One backend may serve several `Parallel`s, one of them while another's generator is half used: each has a crew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from joblib.parallel import BatchedCalls, FallbackToBackend, ParallelBackendBase, SequentialBackend

if TYPE_CHECKING:
    from sweep.joblib.crew import Crew
    from sweep.slots.pool import Pool

_CALL = "SWEEP_CALL"  # set in the process of a call, and in what it starts
_NESTED = (_CALL, "SWEEP_ATTEMPT_DIR")


class SweepBackend(ParallelBackendBase):  # type: ignore[misc]
    """devices: as in space.yaml: `gpu:2`, `cpu:4`, `[0, 2]`. slots_per_device: calls that share a GPU."""

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, devices: Any = "auto", slots_per_device: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self._devices = devices
        self._slots_per_device = slots_per_device
        self._slots: int | None = None
        self._crew: Crew | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """As many as are useful. Raises ValueError for 0, DeviceError where there is no such device."""
        return 1 if _nested() else max(2, self._limit(n_jobs))

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        *,
        max_nbytes: int | None = 1 << 20,
        mmap_mode: str | None = "r",
        temp_folder: str | None = None,
        **_: Any,
    ) -> int:
        """max_nbytes: from which an array is mapped in the processes of the calls, and their results here."""
        from sweep.joblib.crew import Crew
        from sweep.joblib.parcel import Packer
        from sweep.slots.cpu import thread_limits

        if _nested():
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._crew is not None:
            another = SweepBackend(self._devices, self._slots_per_device, nesting_level=self.nesting_level)
            another.inner_max_num_threads = self.inner_max_num_threads
            raise FallbackToBackend(another)
        self.parallel = parallel
        pool = self._open_pool()
        self._slots = len(pool.slots)
        packer = Packer(max_nbytes if mmap_mode else None, temp_folder)
        threads = thread_limits(self.inner_max_num_threads) if self.inner_max_num_threads else {}
        self._crew = Crew(pool, self._limit(n_jobs), packer, {_CALL: "1", **threads})
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: BatchedCalls, callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        assert self._crew is not None
        return self._crew.submit(func, callback)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def terminate(self) -> None:
        if self._crew is not None:
            crew, self._crew = self._crew, None
            crew.close()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Every process of the calls has ended and every device is free when it returns."""
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def _limit(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if self._slots is None:
            pool = self._open_pool()
            self._slots = len(pool.slots)
            pool.close()
        wanted = self._slots if n_jobs is None else n_jobs if n_jobs > 0 else self._slots + 1 + n_jobs
        return max(1, min(wanted, self._slots))

    def _open_pool(self) -> Pool:
        from pydantic import ValidationError

        from sweep.config.model import Devices
        from sweep.errors import UsageError
        from sweep.slots.opening import open_pool

        try:
            devices = Devices.model_validate(self._devices)
        except ValidationError:
            raise UsageError(
                f"devices={self._devices!r}: no such device",
                hint="which: 'auto', 'gpu', 'gpu:2', 'cpu', 'cpu:4', [0, 2], or UUIDs",
            ) from None
        return open_pool(devices, self._slots_per_device, os.environ)


def _nested() -> bool:
    return any(name in os.environ for name in _NESTED)
