"""Optuna behind a port, off the controller's loop. The only importer of optuna."""

import warnings

import optuna

from sweep.search.names import build_pruner, build_sampler
from sweep.search.space import preview
from sweep.search.study import OptunaSearch

__all__ = ["OptunaSearch", "build_pruner", "build_sampler", "preview"]

# Optuna's progress lines, and its warnings of parts that it calls experimental, are not for our users; of a step
# that does not divide its range they are told with its place in the file.
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="The distribution is specified by .* not divisible by `step`")
