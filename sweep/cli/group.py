"""The `sweep` command itself, and the options that several of its commands share."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from sweep import __version__
from sweep.errors import SweepError

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; all else on stderr.")
SWEEP = click.argument("sweep", required=False, metavar="[SWEEP]")
PLAIN = click.option("--plain", is_flag=True, help="Plain lines instead of the live table.")
DETACH = click.option("-d", "--detach", is_flag=True, help="In the background: returns at once with the id.")
SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the file: --set trials=5."
)


class _Group(click.Group):
    """Says a mistake in words, with its exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("sweep: interrupted", err=True)
            sys.exit(130)

    def main(self, *arguments: Any, **options: Any) -> Any:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # it was closed before we started: `>&-`
                setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
            getattr(sys, name).reconfigure(errors="replace")  # a name in Chinese on a terminal that has only ASCII
        try:
            return super().main(*arguments, **options)
        except SweepError as error:
            click.echo(f"sweep: {error}", err=True)
            sys.exit(error.exit_code)
        finally:
            try:
                sys.stdout.flush()
            except BrokenPipeError:  # `sweep ... | head`: Python would try once more, and complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweep")
def cli() -> None:
    """Hyperparameter sweeps on the GPUs that you already have.

    sweep run space.yaml samples configurations with Optuna, runs each trial as a process of its own on a free
    device, prunes what will not win, and logs everything to MLflow.
    """
