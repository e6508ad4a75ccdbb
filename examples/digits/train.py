"""A small convolutional network on scikit-learn's 8x8 digits, in Paddle.

    python examples/digits/train.py --lr 0.003          # alone; the defaults are good ones
    sweep run search_spaces/digits.yaml                 # tuned

What it does for the sweep: every setting is an option, every epoch is reported, and a checkpoint goes on exactly
where it stopped. For that, what is random in an epoch depends on the seed and the epoch's number alone.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib  # noqa: F401  before paddle: some older GPU builds of it crash at the first gzip otherwise
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import sweep


def yes_or_no(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false"):
        raise argparse.ArgumentTypeError(f"yes or no, not {text!r}")
    return text.lower() in ("yes", "true")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--lr", type=float, default=0.005, help="learning rate at the start")
    add("--schedule", default="cosine", choices=("constant", "cosine"), help="cosine: down to nearly 0 at the end")
    add("--optimizer", default="adam", choices=("sgd", "adam"), help="each with settings of its own")
    add("--momentum", type=float, default=0.9, help="of sgd")
    add("--nesterov", type=yes_or_no, default="yes", help="of sgd with momentum")
    add("--beta1", type=float, default=0.9, help="of adam")
    add("--weight_decay", type=float, default=0.0, help="of adam, decoupled from the gradient")
    add("--width", type=int, default=32, help="channels of the first convolution; further ones have twice as many")
    add("--depth", type=int, default=2, choices=(1, 2, 3), help="convolutions")
    add("--dropout", type=float, default=0.2, help="before the last layer")
    add("--label_smoothing", type=float, default=0.0, help="probability that the target spreads over all classes")
    add("--batch_size", type=int, default=64, help="images a step")
    add("--epochs", type=int, default=12, help="passes over the training images")
    add("--seed", type=int, default=1, help="of weights, order and dropout; the split is always the same")
    return parser.parse_args(arguments)


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images (n, 1, 8, 8) in 0..1 and labels (n,): 1437 to train with, 360 to validate."""
    digits = load_digits()
    images = (digits.images[:, np.newaxis] / 16).astype("float32")
    train_x, val_x, train_y, val_y = train_test_split(
        images, digits.target.astype("int64"), test_size=360, stratify=digits.target, random_state=0
    )
    return train_x, train_y, val_x, val_y


def build_model(args: argparse.Namespace) -> nn.Layer:
    layers: list[nn.Layer] = []
    channels, side = 1, 8
    for block in range(args.depth):
        wider = args.width * min(block + 1, 2)
        layers += [nn.Conv2D(channels, wider, 3, padding=1, bias_attr=False), nn.BatchNorm2D(wider), nn.ReLU()]
        layers.append(nn.MaxPool2D(2))
        channels, side = wider, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(args.dropout), nn.Linear(channels * side * side, 10))


def build_optimizer(args: argparse.Namespace, model: nn.Layer) -> paddle.optimizer.Optimizer:
    if args.optimizer == "sgd":
        return paddle.optimizer.Momentum(
            args.lr, momentum=args.momentum, use_nesterov=args.nesterov, parameters=model.parameters()
        )
    return paddle.optimizer.AdamW(
        args.lr, beta1=args.beta1, weight_decay=args.weight_decay, parameters=model.parameters()
    )


def learning_rate(args: argparse.Namespace, epoch: int) -> float:
    if args.schedule == "constant":
        return args.lr
    return args.lr * (1 + math.cos(math.pi * (epoch - 1) / args.epochs)) / 2


def train_epoch(
    args: argparse.Namespace,
    epoch: int,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """One pass over the images, each in a batch once. Returns the mean loss."""
    paddle.seed(args.seed * 1_000_000 + epoch)  # dropout
    order = np.random.default_rng([args.seed, epoch]).permutation(len(images))
    optimizer.set_lr(learning_rate(args, epoch))
    model.train()
    total = 0.0
    for begin in range(0, len(order), args.batch_size):
        batch = order[begin : begin + args.batch_size]
        loss = nn.functional.cross_entropy(
            model(paddle.to_tensor(images[batch])),
            paddle.to_tensor(labels[batch]),
            label_smoothing=args.label_smoothing,
        )
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        total += float(loss) * len(batch)
    return total / len(order)


@paddle.no_grad()
def accuracy(model: nn.Layer, images: np.ndarray, labels: np.ndarray) -> float:
    model.eval()
    return float((model(paddle.to_tensor(images)).argmax(1).numpy() == labels).mean())


def fit(args: argparse.Namespace) -> float:
    """Trains, reports and keeps checkpoints. Returns the last validation accuracy."""
    trial = sweep.current_trial()
    paddle.seed(args.seed)
    train_x, train_y, val_x, val_y = load_data()
    model = build_model(args)
    optimizer = build_optimizer(args, model)

    done, val_acc = 0, 0.0
    if folder := trial.resume():
        model.set_state_dict(paddle.load(f"{folder}/model.pdparams"))
        optimizer.set_state_dict(paddle.load(f"{folder}/optimizer.pdopt"))
        progress = json.loads(Path(folder, "progress.json").read_text())
        done, val_acc = progress["epoch"], progress["val_acc"]

    for epoch in range(done + 1, args.epochs + 1):
        loss = train_epoch(args, epoch, model, optimizer, train_x, train_y)
        val_acc = accuracy(model, val_x, val_y)
        print(f"epoch {epoch}  loss {loss:.4f}  val_acc {val_acc:.4f}", flush=True)
        trial.report(epoch, val_acc=val_acc, loss=loss)
        with trial.checkpoint(epoch) as folder:
            paddle.save(model.state_dict(), f"{folder}/model.pdparams")
            paddle.save(optimizer.state_dict(), f"{folder}/optimizer.pdopt")
            Path(folder, "progress.json").write_text(json.dumps({"epoch": epoch, "val_acc": val_acc}))
    return val_acc


if __name__ == "__main__":
    fit(options())
