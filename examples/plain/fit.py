"""A neural network on scikit-learn's digits that knows nothing of sweep: it prints how far it is.

python examples/plain/fit.py                # epoch 3  loss 0.4127  acc 0.9130
python examples/plain/fit.py --json         # {"step": 3, "loss": 0.4127, "acc": 0.913, "weights": 4736}
sweep run search_spaces/plain.yaml          # reads the first; search_spaces/plain_json.yaml, the second
"""

import argparse
import json
from collections.abc import Iterator

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--hidden", type=int, default=64, help="units of the hidden layer")
    parser.add_argument("--activation", default="relu", choices=("relu", "tanh", "logistic"), help="of the units")
    parser.add_argument("--lr", type=float, default=0.003, help="learning rate")
    parser.add_argument("--alpha", type=float, default=0.0001, help="L2 penalty on the weights")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=1, help="of weights and order; the split is always the same")
    return parser


def fit(args: argparse.Namespace) -> Iterator[tuple[int, dict[str, float]]]:
    """Trains, and yields every epoch's number and metrics; `acc` is that on the validation images."""
    images, labels = load_digits(return_X_y=True)
    x, val_x, y, val_y = train_test_split(images / 16, labels, test_size=360, stratify=labels, random_state=0)
    model = MLPClassifier(
        hidden_layer_sizes=(args.hidden,),
        activation=args.activation,
        learning_rate_init=args.lr,
        alpha=args.alpha,
        random_state=args.seed,
    )
    for epoch in range(1, args.epochs + 1):
        model.partial_fit(x, y, classes=range(10))
        weights = sum(layer.size for layer in model.coefs_)
        yield epoch, {"loss": float(model.loss_), "acc": model.score(val_x, val_y), "weights": weights}


def main() -> None:
    options = parser()
    options.add_argument("--json", action="store_true", help="print JSON lines")
    args = options.parse_args()
    for epoch, metrics in fit(args):
        if args.json:
            print(json.dumps({"step": epoch, **metrics}), flush=True)
        else:
            print(f"epoch {epoch}  loss {metrics['loss']:.4f}  acc {metrics['acc']:.4f}", flush=True)


if __name__ == "__main__":
    main()
