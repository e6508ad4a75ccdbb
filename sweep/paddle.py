"""`paddle.Model.fit` as a trial: a callback that reports, keeps checkpoints and ends on a verdict.

    from sweep.paddle import Report

    report = Report()
    if epochs := report.left(args.epochs):  # fewer where an earlier attempt has come some way; fit() fails on 0
        model.fit(train, val, epochs=epochs, callbacks=[report])

Nothing else here imports Paddle, so `import sweep` does not load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle

from sweep.trial import Trial, current_trial

_NO_METRICS = ("loss", "step", "batch_size")  # that of one batch, and what is none
_STATE = "model"  # the name that Model.save() and Model.load() take, without .pdparams and .pdopt


class Report(paddle.callbacks.Callback):  # type: ignore[misc]
    """Reports every epoch: what fit() logs of training (`loss`, `acc`), and of evaluation with `val_` before it.

    A loss is the mean over the epoch; Paddle itself logs that of the last batch. Epochs count from 1, and go on
    over a trial's attempts. An epoch without evaluation has the metrics of training only.
    every: epochs from one checkpoint to the next, 0 for none. trial: the current one unless given.
    Where there is a checkpoint, fit() begins with its weights, optimizer and learning rate; the order of the data
    is not part of it. fit() raises TrialPruned when the trial should end. For training in one process: of several,
    only the one that sees the verdict would end (see examples/distributed).
    """

    def __init__(self, *, every: int = 1, trial: Trial | None = None) -> None:
        super().__init__()
        self._trial = trial or current_trial()
        self._every = every
        self._found = self._trial.resume() if every else None
        self.epoch = int(Path(self._found).name) if self._found else 0  # the last one that is done
        self._trained: dict[str, float] | None = None  # the metrics of an epoch that is not reported yet
        self._losses = 0.0  # of so many samples together, since training or evaluation began
        self._samples = 0

    def left(self, epochs: int) -> int:
        """How many of so many epochs are still to be trained."""
        return max(0, epochs - self.epoch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._found:
            self.model.load(f"{self._found}/{_STATE}")

    def on_train_batch_end(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        if logs and "loss" in logs:  # a number for each output of the network
            self._losses += sum(logs["loss"]) * logs["batch_size"]
            self._samples += logs["batch_size"]

    def on_eval_batch_end(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        self.on_train_batch_end(step, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # taken here and now: Paddle fills the same dict again when it evaluates
        self._trained = self._metrics(logs)

    def on_eval_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end_epoch({f"val_{name}": value for name, value in self._metrics(logs).items()})

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
                self.model.save(f"{folder}/{_STATE}")

    def _metrics(self, logs: Mapping[str, Any] | None) -> dict[str, float]:
        found = {name: float(value) for name, value in (logs or {}).items() if name not in _NO_METRICS}
        if self._samples:
            found["loss"] = self._losses / self._samples
        self._losses, self._samples = 0.0, 0
        return found
