"""Optuna behind a port, off the controller's loop. The only importer of optuna."""

from sweep.search.names import build_pruner, build_sampler
from sweep.search.space import preview
from sweep.search.study import OptunaSearch

__all__ = ["OptunaSearch", "build_pruner", "build_sampler", "preview"]
