"""sweep.paddle: what paddle.Model.fit tells of a trial, what it goes on with, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep import TrialPruned, TrialStopped
from sweep.rundir import SweepDir
from sweep.trial import Trial

paddle = pytest.importorskip("paddle")

from sweep.paddle import Report  # noqa: E402  Paddle has to be there


class Attempts:
    """One trial's folder, and attempts at training a network of two weights on points that are always the same."""

    def __init__(self, path: Path) -> None:
        self.sweep = SweepDir(path / "sweeps" / "s-1")
        self.x = np.linspace(-1, 1, 24, dtype="float32")[:, np.newaxis]
        self.y = 3 * self.x + 1
        self.train, self.val = (
            paddle.io.TensorDataset([paddle.to_tensor(self.x[part]), paddle.to_tensor(self.y[part])])
            for part in (slice(0, 16), slice(16, 24))
        )
        self.model: Any = None

    def fit(self, attempt: int, epochs: int, *, every: int = 1, verdict: str = "", **options: Any) -> Report:
        folder = self.sweep.attempt(0, attempt)
        folder.path.mkdir(parents=True)
        if verdict:
            folder.verdict.write_text(json.dumps({"verdict": verdict}))
        trial = Trial({"SWEEP_TRIAL": "0", "SWEEP_ATTEMPT": str(attempt), "SWEEP_ATTEMPT_DIR": str(folder.path)})
        with paddle.utils.unique_name.guard():  # as in a process of its own, layers are counted from 0
            return self._fit(attempt, epochs, Report(every=every, trial=trial), options)

    def _fit(self, seed: int, epochs: int, report: Report, options: dict[str, Any]) -> Report:
        paddle.seed(seed)  # so that no attempt begins with the weights of another
        self.model = paddle.Model(paddle.nn.Linear(1, 1))
        rate = paddle.optimizer.lr.ExponentialDecay(0.03, gamma=0.95)  # Paddle steps it with every batch
        adam = paddle.optimizer.Adam(rate, parameters=self.model.parameters())
        self.model.prepare(adam, paddle.nn.loss.MSELoss())
        fit = {"eval_data": self.val, "batch_size": 5, "shuffle": False, "verbose": 0, **options}
        self.model.fit(self.train, epochs=report.left(epochs), callbacks=[report], **fit)
        return report

    def reports(self, attempt: int) -> dict[int, dict[str, float]]:
        lines = map(json.loads, self.sweep.attempt(0, attempt).reports.read_text().splitlines())
        return {line["step"]: line["metrics"] for line in lines if "metrics" in line}

    def checkpoints(self, attempt: int) -> list[str]:
        return sorted(path.name for path in (self.sweep.attempt(0, attempt).path / "checkpoints").glob("*"))


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(tmp_path)


def test_every_epoch_is_reported_with_what_is_known_of_it(attempts: Attempts) -> None:
    attempts.fit(1, epochs=3, eval_freq=2)  # Paddle evaluates after its epochs 0 and 2
    reports = attempts.reports(1)
    assert {step: set(metrics) for step, metrics in reports.items()} == {
        1: {"loss", "val_loss"},
        2: {"loss"},
        3: {"loss", "val_loss"},
    }
    assert reports[1]["loss"] > reports[2]["loss"] > reports[3]["loss"]
    errors = attempts.model.network(paddle.to_tensor(attempts.x[16:])).numpy() - attempts.y[16:]
    assert reports[3]["val_loss"] == pytest.approx(float((errors**2).mean())), "over batches of 5 and 3"


def test_without_evaluation_the_last_epoch_is_reported_too(attempts: Attempts) -> None:
    attempts.fit(1, epochs=2, eval_data=None)
    assert {step: set(metrics) for step, metrics in attempts.reports(1).items()} == {1: {"loss"}, 2: {"loss"}}
    assert attempts.checkpoints(1) == ["1", "2"]


def test_a_later_attempt_goes_on_with_weights_optimizer_and_learning_rate(
    attempts: Attempts, tmp_path: Path
) -> None:
    unbroken = Attempts(tmp_path / "unbroken")
    unbroken.fit(1, epochs=5)
    attempts.fit(1, epochs=2)
    report = attempts.fit(2, epochs=5)
    assert attempts.reports(1) == {step: unbroken.reports(1)[step] for step in (1, 2)}
    assert attempts.reports(2) == {step: unbroken.reports(1)[step] for step in (3, 4, 5)}
    assert (report.epoch, report.left(5), report.left(7)) == (5, 0, 2)


def test_a_losing_trial_ends_at_its_report(attempts: Attempts) -> None:
    with pytest.raises(TrialPruned):
        attempts.fit(1, epochs=3, verdict="prune")
    assert (list(attempts.reports(1)), attempts.checkpoints(1)) == ([1], [])


def test_a_stopped_trial_leaves_a_checkpoint(attempts: Attempts) -> None:
    with pytest.raises(TrialStopped):
        attempts.fit(1, epochs=3, verdict="stop")
    assert (list(attempts.reports(1)), attempts.checkpoints(1)) == ([1], ["1"])


@pytest.mark.parametrize(("every", "kept"), [(2, ["2", "4"]), (0, [])])
def test_checkpoints_come_as_often_as_asked_for(every: int, kept: list[str], attempts: Attempts) -> None:
    attempts.fit(1, epochs=5, every=every)
    assert attempts.checkpoints(1) == kept
    assert attempts.fit(2, epochs=6, every=every).epoch == 6
    assert list(attempts.reports(2)) == ([5, 6] if every else [1, 2, 3, 4, 5, 6])
