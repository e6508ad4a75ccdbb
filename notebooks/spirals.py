"""A small network that learns to tell two spirals apart: what the notebooks here tune. NumPy alone, a second a trial.

python spirals.py --lr 0.01 --width 32
"""

import argparse

import numpy as np

import sweep

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--optimizer", choices=("sgd", "adam"), default="adam")
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

chance = np.random.default_rng(0)


def spirals(points):
    """Points of both spirals, and which of them each is on."""
    angle = np.sqrt(chance.uniform(size=(2, points // 2))) * 3 * np.pi
    arm = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=-1) / 9
    x = np.concatenate([arm[0], -arm[1]]) + chance.normal(scale=0.04, size=(points, 2))
    return x, np.repeat([0.0, 1.0], points // 2)[:, None]


x, y = spirals(1200)
val_x, val_y = spirals(400)
sizes = [2, args.width, args.width, 1]
pairs = list(zip(sizes, sizes[1:], strict=False))
weights = [chance.normal(scale=np.sqrt(2 / rows), size=(rows, columns)) for rows, columns in pairs]
weights += [np.zeros(columns) for columns in sizes[1:]]
first = [np.zeros_like(one) for one in weights]
second = [np.zeros_like(one) for one in weights]
layers = len(pairs)


def forward(inputs):
    """The output of every layer, the last one as a probability."""
    outputs = [inputs]
    for layer in range(layers):
        raw = outputs[-1] @ weights[layer] + weights[layers + layer]
        outputs.append(np.maximum(raw, 0) if layer < layers - 1 else 1 / (1 + np.exp(-np.clip(raw, -50, 50))))
    return outputs


def gradients(outputs, targets):
    delta = (outputs[-1] - targets) / len(targets)
    found = [None] * (2 * layers)
    for layer in reversed(range(layers)):
        found[layer], found[layers + layer] = outputs[layer].T @ delta, delta.sum(axis=0)
        delta = (delta @ weights[layer].T) * (outputs[layer] > 0)
    return found


step = 0
trial = sweep.current_trial()
for epoch in range(1, args.epochs + 1):
    for batch in np.array_split(chance.permutation(len(x)), 40):
        step += 1
        for i, gradient in enumerate(gradients(forward(x[batch]), y[batch])):
            if args.optimizer == "sgd":
                first[i] = args.momentum * first[i] + gradient
                weights[i] -= args.lr * first[i]
            else:
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                scaled = first[i] / (1 - 0.9**step) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
                weights[i] -= args.lr * scaled
    guess = forward(val_x)[-1]
    right = float(((guess > 0.5) == val_y).mean())
    loss = float(-np.log(np.where(val_y == 1, guess, 1 - guess) + 1e-12).mean())
    trial.report(epoch, val_acc=right, val_loss=loss)
    with trial.checkpoint(epoch) as directory:
        np.savez(f"{directory}/weights.npz", *weights)
print(f"val_acc {right:.3f} after {args.epochs} epochs")
