"""Optuna's own pictures of a sweep, drawn by Matplotlib, which MLflow has brought already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from sweep.config.model import SweepConfig
from sweep.core.model import Trial, TrialState
from sweep.search.space import recorded, sampled

KINDS = ("optimization_history", "param_importances", "parallel_coordinate", "slice")


def draw(kind: str, config: SweepConfig, trials: Iterable[Trial], metric: int, **options: Any) -> Any:
    """Matplotlib's axes, of Optuna's function for one of KINDS. metric: which objective, from 0.

    options: Optuna's own, such as `params`. Raises ValueError where there are too few trials for it.
    """
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as pictures

    study = _study(config, trials)
    if len(config.metric) > 1:
        options["target"] = lambda trial: trial.values[metric]
    with plt.rc_context():  # Optuna sets a style for good
        return getattr(pictures, f"plot_{kind}")(study, target_name=config.metric[metric], **options)


def draw_front(config: SweepConfig, trials: Iterable[Trial]) -> Any:
    """Matplotlib's axes, of all COMPLETE trials over two or three objectives; the Pareto front stands out."""
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as pictures

    with plt.rc_context():
        return pictures.plot_pareto_front(_study(config, trials), target_names=config.metric)


def _study(config: SweepConfig, trials: Iterable[Trial]) -> optuna.Study:
    """In memory, with what these pictures look at: the COMPLETE trials, under their own numbers."""
    study = optuna.create_study(directions=config.direction)
    done = {trial.number: trial for trial in trials if trial.state is TrialState.COMPLETE}
    study.add_trials(_frozen(config, done.get(number)) for number in range(max(done, default=-1) + 1))
    return study


def _frozen(config: SweepConfig, trial: Trial | None) -> FrozenTrial:
    if trial is None or trial.values is None:
        return create_trial(state=OptunaState.FAIL)
    return create_trial(
        values=list(trial.values),
        params=sampled(config, trial.params),
        distributions=recorded(config, trial.params),
    )
