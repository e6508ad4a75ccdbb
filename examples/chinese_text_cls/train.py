"""Tells praise from complaint in Chinese reviews, character by character, with `paddle.Model.fit`.

    python examples/chinese_text_cls/train.py           # alone
    sweep run search_spaces/chinese_text_cls.yaml       # tuned

What it does for the sweep is one callback: sweep.paddle.Report.
"""

from __future__ import annotations

import argparse
import zlib  # noqa: F401  before paddle: some older GPU builds of it crash at the first gzip otherwise

import paddle
from paddle import nn
from reviews import CHARACTERS, reviews

from sweep.paddle import Report


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--lr", type=float, default=0.003, help="learning rate of AdamW")
    add("--weight_decay", type=float, default=0.01, help="decoupled from the gradient")
    add("--encoder", default="gru", choices=("cnn", "gru"), help="each with a setting of its own")
    add("--kernel", type=int, default=3, help="of cnn: characters that it sees at once")
    add("--layers", type=int, default=1, help="of gru")
    add("--width", type=int, default=64, help="numbers for a character, before and after the encoder")
    add("--dropout", type=float, default=0.2, help="before the encoder and before the last layer")
    add("--batch_size", type=int, default=16, help="reviews a step")
    add("--epochs", type=int, default=10, help="passes over the training reviews")
    add("--reviews", type=int, default=500, help="to train with; as many more to validate")
    add("--seed", type=int, default=1, help="of weights, order and dropout; the reviews are always the same")
    return parser.parse_args()


class Classifier(nn.Layer):
    """Characters (n, length) -> scores (n, 2)."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS) + 1, args.width, padding_idx=0)
        self.dropout = nn.Dropout(args.dropout)
        if args.encoder == "cnn":
            convolution = nn.Conv1D(args.width, args.width, args.kernel, padding="SAME", data_format="NLC")
            self.encoder = nn.Sequential(convolution, nn.ReLU())
        else:
            self.encoder = nn.GRU(args.width, args.width, args.layers)
        self.head = nn.Linear(args.width, 2)

    def forward(self, characters: paddle.Tensor) -> paddle.Tensor:
        encoded = self.encoder(self.dropout(self.embedding(characters)))
        states = encoded[0] if isinstance(encoded, tuple) else encoded
        return self.head(self.dropout(states.max(1)))


def fit(args: argparse.Namespace) -> None:
    paddle.seed(args.seed)
    train = paddle.io.TensorDataset([paddle.to_tensor(part) for part in reviews(args.reviews, seed=0)])
    val = paddle.io.TensorDataset([paddle.to_tensor(part) for part in reviews(args.reviews, seed=1)])
    model = paddle.Model(Classifier(args))
    optimizer = paddle.optimizer.AdamW(args.lr, weight_decay=args.weight_decay, parameters=model.parameters())
    model.prepare(optimizer, nn.CrossEntropyLoss(), paddle.metric.Accuracy())

    report = Report()
    if epochs := report.left(args.epochs):
        model.fit(train, val, batch_size=args.batch_size, epochs=epochs, verbose=2, callbacks=[report])


if __name__ == "__main__":
    fit(options())
