"""Hyperparameter sweeps on the GPUs that you already have.

In a training script: `trial = sweep.current_trial()`, then `trial.report(step, metric=value)`.
"""

from sweep.trial import Trial, TrialPruned, TrialStopped, current_trial

__all__ = ["Trial", "TrialPruned", "TrialStopped", "current_trial"]
__version__ = "0.1.0"
