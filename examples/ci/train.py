"""Fits a line to noisy points by gradient descent: a stand-in for your training, done in a blink.

python examples/ci/train.py --lr 0.1 --decay 0.01
"""

import argparse
import random

import sweep

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
parser.add_argument("--decay", type=float, default=0.01, help="weight decay")
parser.add_argument("--epochs", type=int, default=20, help="passes over the points")
args = parser.parse_args()

chance = random.Random(7)
points = [(x / 50, 3 * x / 50 - 1 + chance.gauss(0, 0.1)) for x in range(-50, 50)]
mean = sum(y for _, y in points) / len(points)
spread = sum((y - mean) ** 2 for _, y in points)
slope = offset = 0.0
trial = sweep.current_trial()
for epoch in range(args.epochs):
    errors = [(slope * x + offset - y, x) for x, y in points]
    slope -= args.lr * (2 * sum(error * x for error, x in errors) / len(points) + args.decay * slope)
    offset -= args.lr * 2 * sum(error for error, _ in errors) / len(points)
    left = sum((slope * x + offset - y) ** 2 for x, y in points)
    trial.report(epoch, r2=1 - left / spread)
