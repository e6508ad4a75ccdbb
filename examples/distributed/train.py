"""Data-parallel training in Paddle: a trial on two devices, or on two shares of the CPU.

    sweep run examples/distributed/space.yaml
    python -m paddle.distributed.launch --nproc_per_node 2 examples/distributed/train.py      # alone

The launcher starts a process for each device that the sweep has given to the trial. Each trains on its part of a
batch; the first one reports, and tells the others when the trial should end: who left the others waiting for its
gradients would leave them hanging.
"""

from __future__ import annotations

import argparse

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import sweep


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--lr", type=float, default=0.003, help="learning rate of Adam")
    parser.add_argument("--width", type=int, default=64, help="of the hidden layer")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step, of all processes together")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    return parser.parse_args()


def report(trial: sweep.Trial, epoch: int, val_acc: float) -> bool:
    """For all processes, but what counts is what the first one says; whether the trial should end."""
    ends = 0
    if dist.get_rank() == 0:
        print(f"epoch {epoch}  val_acc {val_acc:.4f}", flush=True)
        try:
            trial.report(epoch, val_acc=val_acc)
        except sweep.TrialPruned:
            ends = 1
    told = paddle.to_tensor([ends])
    dist.broadcast(told, src=0)
    return bool(told.item())


def fit(args: argparse.Namespace) -> None:
    dist.init_parallel_env()
    rank, processes = dist.get_rank(), dist.get_world_size()
    trial = sweep.current_trial()
    digits = load_digits()
    images, labels = (digits.data / 16).astype("float32"), digits.target.astype("int64")
    train_x, val_x, train_y, val_y = train_test_split(images, labels, test_size=360, random_state=0)
    paddle.seed(1)
    model = nn.Sequential(nn.Linear(64, args.width), nn.ReLU(), nn.Linear(args.width, 10))
    parallel = paddle.DataParallel(model)
    optimizer = paddle.optimizer.Adam(args.lr, parameters=model.parameters())
    for epoch in range(1, args.epochs + 1):
        order = np.random.default_rng(epoch).permutation(len(train_x))  # the same in every process
        for begin in range(0, len(order) - args.batch_size + 1, args.batch_size):
            mine = order[begin : begin + args.batch_size][rank::processes]
            loss = nn.functional.cross_entropy(
                parallel(paddle.to_tensor(train_x[mine])), paddle.to_tensor(train_y[mine])
            )
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
        with paddle.no_grad():
            val_acc = float((model(paddle.to_tensor(val_x)).argmax(1).numpy() == val_y).mean())
        if report(trial, epoch, val_acc):
            break


if __name__ == "__main__":
    fit(options())
