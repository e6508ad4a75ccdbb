"""The `sweep` command itself, and the options that several of its commands share."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import click

from sweep import __version__
from sweep.errors import SweepError, UsageError

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; all else on stderr.")
SWEEP = click.argument("sweep", required=False, metavar="[SWEEP]")
PLAIN = click.option("--plain", is_flag=True, help="Plain lines instead of the live table.")
DETACH = click.option("-d", "--detach", is_flag=True, help="In the background: returns at once with the id.")
SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the file: --set trials=5."
)


# In the order in which somebody comes to need them.
_PARTS = {
    "Begin": ("init", "doctor", "check", "run"),
    "Look": ("status", "attach", "logs", "why", "best", "list", "ui", "report", "replay"),
    "Change": ("pause", "resume", "set", "enqueue", "stop"),
    "One command": ("submit", "exec"),
    "This machine": ("devices", "clean", "sync", "metrics"),
}


class _Group(click.Group):
    """Lists its commands by what they are for; says a mistake in words, with its exit code."""

    def list_commands(self, context: click.Context) -> list[str]:
        order = [name for names in _PARTS.values() for name in names]
        return sorted(super().list_commands(context), key=order.index)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _PARTS.items():
            with formatter.section(title):
                # whole sentences: click would cut them off at the end of a line
                formatter.write_dl([(name, self.commands[name].get_short_help_str(200)) for name in names])

    def invoke(self, context: click.Context) -> Any:
        try:
            Path.cwd()
        except FileNotFoundError:
            raise UsageError("the folder that you are in was removed", hint="cd to another one") from None
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
        except OSError as error:
            _refuse_if_full(error)
            raise
        finally:
            try:
                sys.stdout.flush()
            except OSError as error:  # Python would try once more, and complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                _refuse_if_full(error)  # nothing else is worth a word: `sweep ... | head`


def _refuse_if_full(error: OSError) -> None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        click.echo(f"sweep: cannot write: {error.strerror}", err=True)
        sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweep")
def cli() -> None:
    """Hyperparameter sweeps on the GPUs that you already have.

    sweep run space.yaml samples configurations with Optuna, runs each trial as a process of its own on a free
    device, prunes what will not win, and logs everything to MLflow.
    """
