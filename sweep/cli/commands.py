"""The `sweep` command's words. Only click is imported here; what a command needs is imported when it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep import __version__
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.tracking.process import Spare

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; all else on stderr.")
_SWEEP = click.argument("sweep", required=False, metavar="[SWEEP]")
_PLAIN = click.option("--plain", is_flag=True, help="Plain lines instead of the live table.")
_DETACH = click.option("-d", "--detach", is_flag=True, help="In the background: returns at once with the id.")
_SET = click.option(
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


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@_SET
@click.option("--trials", type=int, help="How many configurations: --set trials=N.")
@click.option("--devices", help="Where to run: --set devices=cpu:4.")
@click.option("--seed", type=int, help="Of the sampler: --set seed=N.")
@click.option("--started-by", hidden=True, default="{}")
@click.option("--new", is_flag=True, help="Another sweep, also where one of this file was interrupted.")
@_DETACH
@_PLAIN
@_AS_JSON
def run(
    space: Path,
    settings: Sequence[str],
    started_by: str,
    new: bool,
    detach: bool,
    plain: bool,
    as_json: bool,
    **short: Any,
) -> None:
    """Runs the sweep that SPACE describes.

    Where the controller of its newest sweep died, that one goes on, with what was changed in SPACE since.

    Ctrl-C lets running trials finish and starts no new ones; a second Ctrl-C stops them.
    """
    overrides, origin = _overrides(settings, short), json.loads(started_by)
    with _spare(detach) as spare:
        from sweep.cli.run import run_file

        code = run_file(space, overrides, origin, spare, new=new, detach=detach, plain=plain, as_json=as_json)
    sys.exit(code)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--name", help="Of the job; by default the script's.")
@click.option("--devices", default="1", show_default=True, help="How many, or which: gpu:1, cpu:4, [0].")
@_AS_JSON
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND...")
def submit(name: str | None, devices: str, as_json: bool, command: Sequence[str]) -> None:
    """Runs one command in the background, on the next free device: `sweep submit -- python train.py`.

    Jobs wait for devices in the order in which they were submitted.
    """
    from sweep.cli.run import submit_job

    sys.exit(submit_job(name, devices, command, as_json=as_json))


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--devices", default="1", show_default=True, help="How many, or which: gpu:1, cpu:4, [0].")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND...")
def exec_(devices: str, command: Sequence[str]) -> None:
    """Runs one command here and now on a free device: `sweep exec -- python train.py`.

    It waits in the same line as sweeps and jobs, and nobody gets its device while it runs. Its exit code is the
    command's; what the command leaves running is ended with it.
    """
    from sweep.cli.exec import exec_command

    sys.exit(exec_command(devices, command))


@cli.group(invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Goes on looking; Ctrl-C leaves.")
@_AS_JSON
@click.pass_context
def devices(context: click.Context, watch: bool, as_json: bool) -> None:
    """Every device of this machine, its slots, and who has them: sweeps of all users, and foreign processes."""
    if context.invoked_subcommand is None:
        from sweep.cli.devices import show_devices

        show_devices(watch=watch, as_json=as_json)


@devices.command()
@click.argument("device", required=False)
@_AS_JSON
def heal(device: str | None, as_json: bool) -> None:
    """Brings DEVICE back into service: its number, its UUID or the beginning of one; all without a word.

    A device goes out of service when different trials fail on it one after another and elsewhere do not, or when
    its memory has suffered errors. Heal it when it was reset, or looked after.
    """
    from sweep.cli.heal import heal_devices

    heal_devices(device, as_json=as_json)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@_SET
@_AS_JSON
def check(space: Path, settings: Sequence[str], as_json: bool) -> None:
    """Validates SPACE and shows what it would run. Starts nothing."""
    from sweep.cli.check import check_file

    check_file(space, _overrides(settings, {}), as_json=as_json)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path), required=False)
@_AS_JSON
def doctor(space: Path | None, as_json: bool) -> None:
    """What is installed, visible, writable and reachable here, and what to do where it is not.

    With SPACE also what that file needs. Starts nothing; exit code 1 where something stands in the way of a sweep.
    """
    from sweep.cli.doctor.command import doctor as examine

    sys.exit(examine(space, as_json=as_json))


@cli.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write; by default space.yaml.")
@click.option("--force", is_flag=True, help="Writes over a file that is there.")
@_AS_JSON
def init(script: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Writes a first space.yaml for SCRIPT, from its argparse options and what it reports.

    The script is read, not run. Where there is a folder search_spaces, the file goes there.
    """
    from sweep.cli.init import init_file

    init_file(script, output, force=force, as_json=as_json)


@cli.command()
@_SWEEP
@click.option("--trials", type=click.IntRange(min=1), help="Extends it to so many configurations.")
@click.option("--failed", is_flag=True, help="Runs the configurations of failed trials once more.")
@click.option("--frozen", is_flag=True, help="With its file as it was, whatever has been changed in it since.")
@_DETACH
@_PLAIN
@_AS_JSON
def resume(sweep: str | None, detach: bool, **options: Any) -> None:
    """Goes on with a sweep: paused, ended with more to do, or without its controller.

    Trials that still run are adopted, and nothing that they said is lost. What was changed in its file since is
    told and taken over, or refused where the study cannot follow.
    """
    with _spare(detach) as spare:
        from sweep.cli.run import resume_sweep

        code = resume_sweep(sweep, spare, detach=detach, **options)
    sys.exit(code)


def _spare(detach: bool) -> AbstractContextManager[Spare | None]:
    """The follower's process, begun before anything slow is imported here; the background starts its own."""
    if detach:
        return nullcontext()
    from sweep.tracking.process import Spare

    return Spare(os.environ)


@cli.command()
@_SWEEP
@click.option("--trial", type=int, help="Ends this trial alone.")
@click.option("--now", is_flag=True, help="Without the time for a last checkpoint.")
@_AS_JSON
def stop(sweep: str | None, trial: int | None, now: bool, as_json: bool) -> None:
    """Ends a sweep and its trials: a window for a checkpoint, SIGTERM, SIGKILL, the whole tree."""
    from sweep.cli import control

    control.stop(sweep, trial, now=now, as_json=as_json)


@cli.command()
@_SWEEP
@_AS_JSON
def pause(sweep: str | None, as_json: bool) -> None:
    """Starts no new trials until `sweep resume`; those that run go on."""
    from sweep.cli import control

    control.pause(sweep, as_json=as_json)


@cli.command("set")
@click.argument("sweep")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@_AS_JSON
def set_limits(sweep: str, settings: Sequence[str], as_json: bool) -> None:
    """Changes limits of a running SWEEP: trials=100, slots=2 (0: no limit), priority=5."""
    from sweep.cli import control
    from sweep.config.reading import assignments

    control.set_limits(sweep, assignments(settings), as_json=as_json)


@cli.command()
@click.argument("sweep")
@click.argument("params", nargs=-1, required=True, metavar="NAME=VALUE...")
@_AS_JSON
def enqueue(sweep: str, params: Sequence[str], as_json: bool) -> None:
    """A configuration of your own for SWEEP, next in line; what you leave out is sampled."""
    from sweep.cli import control
    from sweep.config.reading import assignments

    control.enqueue(sweep, assignments(params), as_json=as_json)


@cli.command()
@_SWEEP
@_PLAIN
def attach(sweep: str | None, plain: bool) -> None:
    """The live table of a running sweep; leaving it (Ctrl-C) stops nothing."""
    from sweep.cli.follow import attach as follow

    follow(sweep, plain=plain)


@cli.command()
@_SWEEP
@click.argument("trial", type=int, required=False)
@click.option("-f", "--follow", is_flag=True, help="Goes on as it grows, until the trial has ended.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("--attempt", type=click.IntRange(min=1), help="The newest if it is left out.")
def logs(sweep: str | None, trial: int | None, follow: bool, lines: int | None, attempt: int | None) -> None:
    """The output of TRIAL; of the controller if TRIAL is left out."""
    from sweep.cli.follow import logs as show

    sweep, trial = _sweep_and_trial(sweep, trial)
    show(sweep, trial, attempt=attempt, follow=follow, lines=lines)


@cli.command()
@_SWEEP
@click.argument("trial", type=int, required=False)
@_AS_JSON
def why(sweep: str | None, trial: int | None, as_json: bool) -> None:
    """Why TRIAL waits, was pruned, killed or retried: its events, in words."""
    from sweep.cli.why import why as tell

    sweep, trial = _sweep_and_trial(sweep, trial)
    if trial is None:
        raise click.UsageError("which trial? such as: sweep why 3, sweep why ocr-rec 3")
    tell(sweep, trial, as_json=as_json)


@cli.command()
@_SWEEP
@_AS_JSON
def status(sweep: str | None, as_json: bool) -> None:
    """Trials with state, step, metric and why; the newest sweep if SWEEP is left out."""
    from sweep.cli.show import show_status

    show_status(sweep, as_json=as_json)


@cli.command("list")
@click.option("--all", "everywhere", is_flag=True, help="In every folder in which you have begun a sweep.")
@_AS_JSON
def list_sweeps(everywhere: bool, as_json: bool) -> None:
    """What runs and ran in this folder."""
    from sweep.cli.show import show_list

    show_list(everywhere=everywhere, as_json=as_json)


@cli.command()
@_SWEEP
@_AS_JSON
def best(sweep: str | None, as_json: bool) -> None:
    """The best trial, or the Pareto set: parameters, value, checkpoint, and the command that reproduces it."""
    from sweep.cli.show import show_best

    show_best(sweep, as_json=as_json)


@cli.command()
@_SWEEP
@click.option("--older-than", metavar="AGE", help="All that ended so long ago: 30d, 12h.")
@click.option("--keep-size", metavar="SIZE", help="The oldest, until all sweeps together take no more: 100GB.")
@click.option("--archive", is_flag=True, help="Loses nothing: packs the whole sweep into sweeps/archived.")
@click.option(
    "--keep-best/--no-keep-best", default=None, help="The best trial's best checkpoint stays; by default it does."
)
@click.option("--purge", is_flag=True, help="Takes the whole folder of the sweep, its journal included.")
@click.option("--dry-run", is_flag=True, help="Says what would go; changes nothing.")
@_AS_JSON
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
@_SWEEP
@_AS_JSON
def sync(sweep: str | None, as_json: bool) -> None:
    """Brings MLflow up to date: after an outage that was longer than a day, or killed what sends.

    Waits until MLflow has all of it. Starts no trial.
    """
    from sweep.cli import sync

    sync.sync(sweep, as_json=as_json)


@cli.command()
@_SWEEP
@click.option("--port", default=5000, show_default=True, help="On loopback; another one if it is taken.")
def ui(sweep: str | None, port: int) -> None:
    """The MLflow UI on this folder's store (or SWEEP's), on loopback."""
    from sweep.cli.show import open_ui

    open_ui(sweep, port)


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


def _overrides(settings: Sequence[str], short: dict[str, Any]) -> dict[str, Any]:
    """`--set key=value` with the value read as YAML, and the short options beside it."""
    from sweep.config.reading import assignments

    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    return assignments([*given, *settings])
