"""The commands for sweeps that are there: orders, and looks. Imports come late, as in `commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sweep.cli.group import AS_JSON, PLAIN, SWEEP, cli


@cli.command()
@SWEEP
@click.option("--trial", type=int, help="Ends this trial alone.")
@click.option("--now", is_flag=True, help="Without the time for a last checkpoint.")
@AS_JSON
def stop(sweep: str | None, trial: int | None, now: bool, as_json: bool) -> None:
    """Ends a sweep and its trials: a window for a checkpoint, SIGTERM, SIGKILL, the whole tree."""
    from sweep.cli import control

    control.stop(sweep, trial, now=now, as_json=as_json)


@cli.command()
@SWEEP
@AS_JSON
def pause(sweep: str | None, as_json: bool) -> None:
    """Starts no new trials until `sweep resume`; those that run go on."""
    from sweep.cli import control

    control.pause(sweep, as_json=as_json)


@cli.command("set")
@click.argument("sweep")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@AS_JSON
def set_limits(sweep: str, settings: Sequence[str], as_json: bool) -> None:
    """Changes limits of a running SWEEP: trials=100, slots=2 (0: no limit), priority=5."""
    from sweep.cli import control
    from sweep.config.reading import assignments

    control.set_limits(sweep, assignments(settings), as_json=as_json)


@cli.command()
@click.argument("sweep")
@click.argument("params", nargs=-1, required=True, metavar="NAME=VALUE...")
@AS_JSON
def enqueue(sweep: str, params: Sequence[str], as_json: bool) -> None:
    """A configuration of your own for SWEEP, next in line; what you leave out is sampled."""
    from sweep.cli import control
    from sweep.config.reading import assignments

    control.enqueue(sweep, assignments(params), as_json=as_json)


@cli.command()
@SWEEP
@PLAIN
@AS_JSON
def attach(sweep: str | None, plain: bool, as_json: bool) -> None:
    """The live table of a running sweep; leaving it (Ctrl-C) stops nothing."""
    from sweep.cli.follow import attach as follow

    follow(sweep, plain=plain, as_json=as_json)


@cli.command()
@SWEEP
@click.argument("trial", type=int, required=False)
@click.option("-f", "--follow", is_flag=True, help="Goes on as it grows, until the trial has ended.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("--attempt", type=click.IntRange(min=1), help="The newest if it is left out.")
@AS_JSON
def logs(
    sweep: str | None, trial: int | None, follow: bool, lines: int | None, attempt: int | None, as_json: bool
) -> None:
    """The output of TRIAL; of the controller if TRIAL is left out."""
    from sweep.cli.follow import logs as show

    sweep, trial = _sweep_and_trial(sweep, trial)
    show(sweep, trial, attempt=attempt, follow=follow, lines=lines, as_json=as_json)


@cli.command()
@SWEEP
@click.argument("trial", type=int, required=False)
@AS_JSON
def why(sweep: str | None, trial: int | None, as_json: bool) -> None:
    """Why TRIAL waits, was pruned, killed or retried: its events, in words."""
    from sweep.cli.why import why as tell

    sweep, trial = _sweep_and_trial(sweep, trial)
    if trial is None:
        raise click.UsageError("which trial? such as: sweep why 3, sweep why ocr-rec 3")
    tell(sweep, trial, as_json=as_json)


@cli.command()
@SWEEP
@AS_JSON
def status(sweep: str | None, as_json: bool) -> None:
    """Trials with state, step, metric and why; the newest sweep if SWEEP is left out."""
    from sweep.cli.show import show_status

    show_status(sweep, as_json=as_json)


@cli.command("list")
@click.option("--all", "everywhere", is_flag=True, help="In every folder in which you have begun a sweep.")
@AS_JSON
def list_sweeps(everywhere: bool, as_json: bool) -> None:
    """What runs and ran in this folder."""
    from sweep.cli.show import show_list

    show_list(everywhere=everywhere, as_json=as_json)


@cli.command()
@SWEEP
@AS_JSON
def best(sweep: str | None, as_json: bool) -> None:
    """The best trial, or the Pareto set: parameters, value, checkpoint, and the command that reproduces it."""
    from sweep.cli.show import show_best

    show_best(sweep, as_json=as_json)


@cli.command()
@SWEEP
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file to write; by default ID.html, here."
)
@AS_JSON
def report(sweep: str | None, output: Path | None, as_json: bool) -> None:
    """One page about a sweep, for a browser: best trial, history, importances, curves, slots, every trial.

    The page needs no network and no other file. Of a running sweep it shows what is known so far.
    """
    from sweep.cli.report import report as write

    write(sweep, output, as_json=as_json)


@cli.command()
@SWEEP
@click.option(
    "--pruner", metavar="NAME[:KEY=VALUE,...]", help="Any of Optuna's: median:n_warmup_steps=5; nop: none."
)
@click.option("--slots", type=click.IntRange(min=1), help="How many trials at once.")
@AS_JSON
def replay(sweep: str | None, pruner: str | None, slots: int | None, as_json: bool) -> None:
    """What another pruner, or another number of slots, would have cost and found. Runs nothing.

    The recorded curves go through Optuna's pruner once more, in virtual time. Pruner and slots are the sweep's own
    where they are left out. The sampler is not asked again: these are the configurations that it chose after the
    results as they were. What a pruned trial would have reached is not known; such trials are counted.
    """
    from sweep.cli.replay import replay as play

    play(sweep, pruner, slots, as_json=as_json)


@cli.command()
@SWEEP
@click.option("--older-than", metavar="AGE", help="All that ended so long ago: 30d, 12h.")
@click.option("--keep-size", metavar="SIZE", help="The oldest, until all sweeps together take no more: 100GB.")
@click.option("--archive", is_flag=True, help="Loses nothing: packs the whole sweep into sweeps/archived.")
@click.option(
    "--keep-best/--no-keep-best", default=None, help="The best trial's best checkpoint stays; by default it does."
)
@click.option("--purge", is_flag=True, help="Takes the whole folder of the sweep, its journal included.")
@click.option("--dry-run", is_flag=True, help="Says what would go; changes nothing.")
@AS_JSON
def clean(
    sweep: str | None,
    older_than: str | None,
    keep_size: str | None,
    archive: bool,
    keep_best: bool | None,
    purge: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Frees what ended sweeps hold on the disk: checkpoints and the output of trials.

    What tells their story stays, so that status, best, why and list still answer. A sweep that has not ended is
    never touched.
    """
    from sweep.cli.clean import clean as free

    if purge and keep_best:
        raise click.UsageError("--purge leaves nothing: take --keep-best out, or --purge")
    if archive and (purge or keep_best is not None):
        raise click.UsageError("--archive keeps all of it: take --purge and --keep-best out, or --archive")
    free(
        sweep,
        older_than,
        keep_best=keep_best is not False,
        purge=purge,
        dry_run=dry_run,
        as_json=as_json,
        put_away=archive,
        keep_size=keep_size,
    )


@cli.command()
@SWEEP
@AS_JSON
def sync(sweep: str | None, as_json: bool) -> None:
    """Brings MLflow up to date: after an outage that was longer than a day, or killed what sends.

    Waits until MLflow has all of it. Starts no trial.
    """
    from sweep.cli import sync

    sync.sync(sweep, as_json=as_json)


@cli.command()
@SWEEP
@click.option("--port", default=5000, show_default=True, help="On loopback; another one if it is taken.")
def ui(sweep: str | None, port: int) -> None:
    """The MLflow UI on this folder's store (or SWEEP's), on loopback."""
    from sweep.cli.ui import open_ui

    sys.exit(open_ui(sweep, port))


@cli.command()
@click.option("--port", default=9500, show_default=True, help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--once", is_flag=True, help="Prints what a scrape would get, and ends.")
def metrics(port: int, host: str, once: bool) -> None:
    """Serves the sweeps of this folder to Prometheus, until Ctrl-C.

    It reads their files and talks to no controller. Sweeps of which nothing was written for a week are left out.
    """
    from sweep.cli.metrics.command import metrics as serve

    serve(host, port, once=once)


def _sweep_and_trial(sweep: str | None, trial: int | None) -> tuple[str | None, int | None]:
    """A lone number is a trial of the newest sweep."""
    if trial is None and sweep is not None and sweep.isdigit():
        return None, int(sweep)
    return sweep, trial
