"""Recognises lines of Chinese text, in Paddle: CRNN with CTC, small, built like the recogniser of PP-OCR.

    python examples/ocr_rec/train.py                    # alone; the defaults are good ones
    sweep run search_spaces/ocr_rec.yaml                # tuned

The lines are drawn once on this machine (`sweep.cache`); every other trial maps them into its memory. A checkpoint
goes on exactly where it stopped: what is random in an epoch depends on the seed and the epoch's number alone.
"""

from __future__ import annotations

import argparse
import math
import zlib  # noqa: F401  before paddle: some older GPU builds of it crash at the first gzip otherwise
from pathlib import Path

import numpy as np
import paddle
from lines import ALPHABET, BLANK, HEIGHT, prepare
from paddle import nn
from rapidfuzz.distance import Levenshtein

import sweep


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--lr", type=float, default=0.004, help="highest learning rate, soon reached; it falls to 0 until the end")
    add("--optimizer", default="adamw", choices=("momentum", "adamw"), help="each with a setting of its own")
    add("--momentum", type=float, default=0.9, help="of momentum")
    add("--weight_decay", type=float, default=0.01, help="of adamw, decoupled from the gradient")
    add("--clip", type=float, default=5.0, help="longest gradient, over all weights")
    add(
        "--width", type=int, default=12, help="channels of the first convolution; the last have four times as many"
    )
    add("--hidden", type=int, default=48, help="units of the LSTM in each direction")
    add("--dropout", type=float, default=0.1, help="before the last layer")
    add("--batch_size", type=int, default=8, help="lines a step")
    add("--epochs", type=int, default=6, help="passes over the training lines")
    add("--lines", type=int, default=3000, help="to train with; an eighth as many more to validate")
    add("--seed", type=int, default=1, help="of weights, order and dropout; the lines are always the same")
    return parser.parse_args()


RISE = 100  # steps until the learning rate is at its highest


class Recogniser(nn.Layer):
    """Images (n, 1, HEIGHT, width) -> scores (n, width / 4, 1 + characters): a column for each slice."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Layer] = []
        channels = 1
        # the height shrinks further than the width: every slice has to see less than a character
        for wider, stride in ((width, 2), (2 * width, 2), (2 * width, (2, 1)), (4 * width, (2, 1))):
            layers += [nn.Conv2D(channels, wider, 3, stride, 1, bias_attr=False), nn.BatchNorm2D(wider), nn.ReLU()]
            channels = wider
        self.backbone = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.neck = nn.LSTM(channels * HEIGHT // 16, hidden, direction="bidirect")
        self.head = nn.Linear(channels * HEIGHT // 16 + 2 * hidden, 1 + len(ALPHABET))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        features = self.backbone(images)
        slices = features.transpose((0, 3, 1, 2)).flatten(2)
        sequence, _ = self.neck(slices)
        # past the LSTM as well: the backbone learns to tell characters before the LSTM knows what to make of them
        return self.head(self.dropout(paddle.concat([slices, sequence], 2)))


class Training:
    """The model with all that belongs to a step. On a GPU it computes in float16 where that is safe (untested)."""

    def __init__(self, args: argparse.Namespace, steps_per_epoch: int) -> None:
        self.args = args
        self.steps_per_epoch = steps_per_epoch
        self.model = Recogniser(args.width, args.hidden, args.dropout)
        shared = {"parameters": self.model.parameters(), "grad_clip": nn.ClipGradByGlobalNorm(args.clip)}
        if args.optimizer == "momentum":
            self.optimizer = paddle.optimizer.Momentum(args.lr, args.momentum, **shared)
        else:
            self.optimizer = paddle.optimizer.AdamW(args.lr, weight_decay=args.weight_decay, **shared)
        self.half = paddle.device.get_device().startswith("gpu")
        self.scaler = paddle.amp.GradScaler(enable=self.half)

    def learning_rate(self, step: int) -> float:
        """Low at first: CTC answers nothing but blanks for a while, and then changes its mind at once."""
        rise, total = RISE, self.args.epochs * self.steps_per_epoch
        if step < rise:
            return self.args.lr * (step + 1) / rise
        return self.args.lr * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise))) / 2

    def step(self, number: int, images: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> float:
        """One batch. Returns its loss."""
        self.optimizer.set_lr(self.learning_rate(number))
        with paddle.amp.auto_cast(enable=self.half):
            scores = self.model(normalised(images))
        columns = paddle.full([len(images)], scores.shape[1], "int64")
        loss = nn.functional.ctc_loss(  # with a softmax of its own, and in float32: it adds up many small numbers
            scores.astype("float32").transpose((1, 0, 2)),
            paddle.to_tensor(labels),
            columns,
            paddle.to_tensor(lengths),
            blank=BLANK,
        )
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.clear_grad()
        return float(loss)

    def save(self, folder: str) -> None:
        paddle.save(self.model.state_dict(), f"{folder}/model.pdparams")
        paddle.save(self.optimizer.state_dict(), f"{folder}/optimizer.pdopt")
        if self.half:
            paddle.save(self.scaler.state_dict(), f"{folder}/scaler.pd")

    def load(self, folder: str) -> None:
        self.model.set_state_dict(paddle.load(f"{folder}/model.pdparams"))
        self.optimizer.set_state_dict(paddle.load(f"{folder}/optimizer.pdopt"))
        if self.half:
            self.scaler.load_state_dict(paddle.load(f"{folder}/scaler.pd"))


def normalised(images: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor((images[:, np.newaxis] / np.float32(127.5)) - np.float32(1))


def train_epoch(
    training: Training, epoch: int, images: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> float:
    """One pass over the lines, each in a batch at most once. Returns the mean loss of a step."""
    args = training.args
    paddle.seed(args.seed * 1_000_000 + epoch)  # dropout
    order = np.random.default_rng([args.seed, epoch]).permutation(len(images))
    training.model.train()
    first = (epoch - 1) * training.steps_per_epoch
    losses = []
    for step in range(training.steps_per_epoch):
        batch = order[step * args.batch_size : (step + 1) * args.batch_size]
        losses.append(training.step(first + step, images[batch], labels[batch], lengths[batch]))
    return sum(losses) / len(losses)


@paddle.no_grad()
def read(model: Recogniser, images: np.ndarray) -> list[list[int]]:
    """The most likely class of every column, runs as one, without the blanks."""
    model.eval()
    lines = []
    for begin in range(0, len(images), 100):
        for best in model(normalised(images[begin : begin + 100])).argmax(2).numpy():
            changes = np.flatnonzero(np.diff(best, prepend=BLANK))
            lines.append([int(one) for one in best[changes] if one != BLANK])
    return lines


def measure(found: list[list[int]], labels: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """char_acc: 1 less edits for each character; line_acc: of lines without a mistake; edit_distance: a line's."""
    wanted = [label[:length].tolist() for label, length in zip(labels, lengths, strict=True)]
    edits = np.array([Levenshtein.distance(one, right) for one, right in zip(found, wanted, strict=True)])
    return {
        "char_acc": 1 - edits.sum() / lengths.sum(),
        "line_acc": float((edits == 0).mean()),
        "edit_distance": float(edits.mean()),
    }


def fit(args: argparse.Namespace) -> None:
    trial = sweep.current_trial()
    train_images, train_labels, train_lengths = prepare(args.lines, seed=0)
    val_images, val_labels, val_lengths = prepare(args.lines // 8, seed=1)
    paddle.seed(args.seed)
    training = Training(args, steps_per_epoch=args.lines // args.batch_size)
    done = 0
    if folder := trial.resume():
        training.load(folder)
        done = int(Path(folder).name)

    for epoch in range(done + 1, args.epochs + 1):
        loss = train_epoch(training, epoch, train_images, train_labels, train_lengths)
        metrics = measure(read(training.model, val_images), val_labels, val_lengths)
        print(
            f"epoch {epoch}  loss {loss:.3f}  " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.items()), flush=True
        )
        trial.report(epoch, metrics, loss=loss)
        with trial.checkpoint(epoch) as folder:
            training.save(folder)


if __name__ == "__main__":
    fit(options())
