"""joblib and sweep: each call of a `joblib.Parallel` on a device of its own, and data that is prepared once.

`import sweep.joblib` makes `joblib.parallel_config(backend="sweep")` known: joblib has no entry points by which it
could find a backend by itself. `sweep.cache` is in `memory.py`. joblib is imported nowhere else.
"""

from joblib.parallel import register_parallel_backend

from sweep.joblib.backend import SweepBackend

__all__ = ["SweepBackend"]

register_parallel_backend("sweep", SweepBackend)
