"""`paddle.Model.fit` as a trial: a callback that reports, keeps checkpoints and ends on a verdict.

    from sweep.paddle import Report

    report = Report()
    if epochs := report.left(args.epochs):  # fewer where an earlier attempt has come some way; fit() fails on 0
        model.fit(train, val, epochs=epochs, callbacks=[report])

Nothing else here imports Paddle, so `import sweep` does not load it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import paddle

from sweep.trial import Trial, current_trial

_NO_METRICS = ("step", "batch_size")  # what Paddle logs beside them
_STATE = "model"  # the name that Model.save() and Model.load() take, without .pdparams and .pdopt


class Report(paddle.callbacks.Callback):  # type: ignore[misc]
    """Reports every epoch: what fit() logs of training (`loss`, `acc`), and of evaluation with `val_` before it.

    Epochs count from 1 and go on over a trial's attempts. An epoch without evaluation has the metrics of training
    only. every: epochs from one checkpoint to the next, 0 for none. trial: the current one unless given.
    Where there is a checkpoint, fit() begins with its weights, optimizer and learning rate; the order of the data
    is not part of it. fit() raises TrialPruned when the trial should end. For training in one process: of several,
    only the one that sees the verdict would end (see examples/distributed).
    """

    def __init__(self, *, every: int = 1, trial: Trial | None = None) -> None:
        super().__init__()
        self._trial = trial or current_trial()
        self._every = every
        self._found = self._trial.resume() if every else None
        self.epoch = int(os.path.basename(self._found)) if self._found else 0  # the last one that is done
        self._trained: dict[str, float] | None = None  # the metrics of an epoch that is not reported yet

    def left(self, epochs: int) -> int:
        """How many of so many epochs are still to be trained."""
        return max(0, epochs - self.epoch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._found:
            self.model.load(os.path.join(self._found, _STATE))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # copied here and now: Paddle fills the same dict again when it evaluates
        self._trained = _metrics(logs)

    def on_eval_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end_epoch({f"val_{name}": value for name, value in _metrics(logs).items()})

    # what comes next after an epoch that nothing evaluated
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._end_epoch({})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end_epoch({})

    def _end_epoch(self, evaluated: dict[str, float]) -> None:
        if self._trained is None:
            return
        metrics = {**self._trained, **evaluated}
        self._trained = None
        self.epoch += 1
        self._trial.report(self.epoch, metrics)
        if self._every and self.epoch % self._every == 0:
            with self._trial.checkpoint(self.epoch) as folder:
                self.model.save(os.path.join(folder, _STATE))


def _metrics(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """A loss comes as a list with one number for each output of the network."""
    found = {name: value for name, value in (logs or {}).items() if name not in _NO_METRICS}
    return {name: float(sum(value)) if isinstance(value, list) else float(value) for name, value in found.items()}
