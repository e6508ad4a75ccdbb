"""The commands that begin something. Only click is imported here; what one needs is imported when it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import verbs
from sweep.cli.group import AS_JSON, DETACH, PLAIN, SET, SWEEP, cli

if TYPE_CHECKING:
    from sweep.tracking.process import Spare

__all__ = ["cli", "verbs"]  # all of them

PRIORITY = click.option(
    "--priority", type=click.IntRange(-100, 100), default=0, show_default=True, help="Who waits is served by it."
)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@SET
@click.option("--trials", type=int, help="How many configurations: --set trials=N.")
@click.option("--devices", help="Where to run: --set devices=cpu:4.")
@click.option("--seed", type=int, help="Of the sampler: --set seed=N.")
@click.option("--started-by", hidden=True, default="{}")
@click.option("--new", is_flag=True, help="Another sweep, also where one of this file was interrupted.")
@DETACH
@PLAIN
@AS_JSON
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
@PRIORITY
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A key of space.yaml: --set trial_timeout=2h."
)
@AS_JSON
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND...")
def submit(
    name: str | None, devices: str, priority: int, settings: Sequence[str], as_json: bool, command: Sequence[str]
) -> None:
    """Runs one command in the background, on the next free device: `sweep submit -- python train.py`.

    Jobs of one priority wait for devices in the order in which they were submitted.
    """
    from sweep.cli.run import submit_job

    keys = {**({"name": name} if name else {}), **_overrides(settings, {})}
    sys.exit(submit_job(command, devices, keys, priority, as_json=as_json))


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--devices", default="1", show_default=True, help="How many, or which: gpu:1, cpu:4, [0].")
@PRIORITY
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND...")
def exec_(devices: str, priority: int, command: Sequence[str]) -> None:
    """Runs one command here and now on a free device: `sweep exec -- python train.py`.

    It waits in the same line as sweeps and jobs, and nobody gets its device while it runs. Its exit code is the
    command's; what the command leaves running is ended with it.
    """
    from sweep.cli.exec import exec_command

    sys.exit(exec_command(devices, command, priority))


@cli.group(invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Goes on looking; Ctrl-C leaves.")
@AS_JSON
@click.pass_context
def devices(context: click.Context, watch: bool, as_json: bool) -> None:
    """Every device of this machine, its slots, and who has them: sweeps of all users, and foreign processes."""
    if context.invoked_subcommand is None:
        from sweep.cli.devices import show_devices

        show_devices(watch=watch, as_json=as_json)


@devices.command()
@click.argument("device", required=False)
@AS_JSON
def heal(device: str | None, as_json: bool) -> None:
    """Brings DEVICE back into service: its number, its UUID or the beginning of one; all without a word.

    A device goes out of service when different trials fail on it one after another and elsewhere go well, when
    its driver reports that it failed, or when its memory has suffered errors. Heal it when it was reset, or looked
    after.
    """
    from sweep.cli.heal import heal_devices

    heal_devices(device, as_json=as_json)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@SET
@AS_JSON
def check(space: Path, settings: Sequence[str], as_json: bool) -> None:
    """Validates SPACE and shows what it would run. Starts nothing."""
    from sweep.cli.check import check_file

    check_file(space, _overrides(settings, {}), as_json=as_json)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path), required=False)
@AS_JSON
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
@AS_JSON
def init(script: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Writes a first space.yaml for SCRIPT, from its argparse options and what it reports.

    The script is read, not run. Where there is a folder search_spaces, the file goes there.
    """
    from sweep.cli.init import init_file

    init_file(script, output, force=force, as_json=as_json)


@cli.command()
@SWEEP
@click.option("--trials", type=click.IntRange(min=1), help="Extends it to so many configurations.")
@click.option("--failed", is_flag=True, help="Runs the configurations of failed trials once more.")
@click.option("--frozen", is_flag=True, help="With its file as it was, whatever has been changed in it since.")
@DETACH
@PLAIN
@AS_JSON
def resume(sweep: str | None, detach: bool, **options: Any) -> None:
    """Goes on with a sweep: paused, ended with more to do, or without its controller.

    Trials that still run are adopted, and nothing that they said is lost. What was changed in its file since is
    told and taken over, or refused where the study cannot follow.
    """
    from sweep.cli.run import resume_sweep

    sys.exit(resume_sweep(sweep, detach=detach, **options))


def _spare(detach: bool) -> AbstractContextManager[Spare | None]:
    """The follower's process, begun before anything slow is imported here; the background starts its own."""
    if detach:
        return nullcontext()
    from sweep.tracking.process import Spare

    return Spare(os.environ)


def _overrides(settings: Sequence[str], short: dict[str, Any]) -> dict[str, Any]:
    """`--set key=value` with the value read as YAML, and the short options beside it."""
    from sweep.config.reading import assignments

    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    return assignments([*given, *settings])
