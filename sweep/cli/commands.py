"""The `sweep` command's words. Only click is imported here; what a command needs is imported when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sweep import __version__
from sweep.errors import SweepError

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; all else on stderr.")
_SWEEP = click.argument("sweep", required=False, metavar="[SWEEP]")
_SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the file: --set trials=5."
)


class _Group(click.Group):
    """Says a mistake in words, with its exit code."""

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


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@_SET
@click.option("--trials", type=int, help="How many configurations: --set trials=N.")
@click.option("--devices", help="Where to run: --set devices=cpu:4.")
@click.option("--seed", type=int, help="Of the sampler: --set seed=N.")
@click.option("--plain", is_flag=True, help="Plain lines instead of the live table.")
@_AS_JSON
def run(space: Path, settings: Sequence[str], plain: bool, as_json: bool, **short: Any) -> None:
    """Runs the sweep that SPACE describes, in the foreground.

    Ctrl-C lets running trials finish and starts no new ones; a second Ctrl-C stops them.
    """
    from sweep.cli.run import run_file

    sys.exit(run_file(space, _overrides(settings, short), plain=plain, as_json=as_json))


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@_SET
@_AS_JSON
def check(space: Path, settings: Sequence[str], as_json: bool) -> None:
    """Validates SPACE and shows what it would run. Starts nothing."""
    from sweep.cli.check import check_file

    check_file(space, _overrides(settings, {}), as_json=as_json)


@cli.command()
@_SWEEP
@click.option("--plain", is_flag=True, help="Plain lines instead of the live table.")
@_AS_JSON
def resume(sweep: str | None, plain: bool, as_json: bool) -> None:
    """Goes on with a sweep whose controller is gone: adopts the trials that still run, and loses nothing."""
    from sweep.cli.run import resume_sweep

    sys.exit(resume_sweep(sweep, plain=plain, as_json=as_json))


@cli.command()
@_SWEEP
@_AS_JSON
def status(sweep: str | None, as_json: bool) -> None:
    """Trials with state, step, metric and why; the newest sweep if SWEEP is left out."""
    from sweep.cli.show import show_status

    show_status(sweep, as_json=as_json)


@cli.command("list")
@_AS_JSON
def list_sweeps(as_json: bool) -> None:
    """What runs and ran in this folder."""
    from sweep.cli.show import show_list

    show_list(as_json=as_json)


@cli.command()
@_SWEEP
@_AS_JSON
def best(sweep: str | None, as_json: bool) -> None:
    """The best trial, or the Pareto set: parameters, value, checkpoint, and the command that reproduces it."""
    from sweep.cli.show import show_best

    show_best(sweep, as_json=as_json)


@cli.command()
@_SWEEP
@click.option("--port", default=5000, show_default=True, help="On loopback; another one if it is taken.")
def ui(sweep: str | None, port: int) -> None:
    """The MLflow UI on this folder's store (or SWEEP's), on loopback."""
    from sweep.cli.show import open_ui

    open_ui(sweep, port)


def _overrides(settings: Sequence[str], short: dict[str, Any]) -> dict[str, Any]:
    """`--set key=value` with the value read as YAML, and the short options beside it."""
    from sweep.config.reading import assignments

    given = {key: value for key, value in short.items() if value is not None}
    return {**given, **assignments(settings)}
