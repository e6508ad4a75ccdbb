"""The same training as a Python function: `objective: examples.digits.objective:train` in place of a command."""

from examples.digits.train import fit, options


def train(**params: object) -> float:
    """Takes the options of train.py by name; what is not given keeps its default there. Returns val_acc."""
    return fit(options([f"--{name}={value}" for name, value in params.items()]))
