"""Hyperparameter sweeps on the GPUs that you already have.

In a training script: `trial = sweep.current_trial()`, then `trial.report(step, metric=value)`.
In a notebook: `s = sweep.run("space.yaml")` or `sweep.load("ocr-rec")`, then `s.best`, `s.dataframe()`, `s.plot`.
"""

from sweep.trial import Trial, TrialPruned, TrialStopped, current_trial

TYPE_CHECKING = False  # typing's own would cost every trial its import
if TYPE_CHECKING:
    from sweep.api import Space, Sweep, TrialRecord, load, run
    from sweep.joblib.memory import cache

__all__ = [
    "Space",
    "Sweep",
    "Trial",
    "TrialPruned",
    "TrialRecord",
    "TrialStopped",
    "cache",
    "current_trial",
    "load",
    "run",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What few scripts need is imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("sweep.joblib.memory" if name == "cache" else "sweep.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
