"""`sweep check`: what a file means, without starting anything."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.cli import words
from sweep.cli.rounds import begun
from sweep.config.load import load_document
from sweep.config.model import SweepConfig
from sweep.config.preflight import require
from sweep.prepare import doubts, sample_command
from sweep.search import preview
from sweep.session import check
from sweep.slots.opening import open_pool
from sweep.tracking.uri import tracking_uri

SAMPLES = 5


def check_file(space: Path, overrides: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the space, sampled configurations with their command lines, and slots. Raises SweepError."""
    config, file = load_document(space, overrides)
    require(config, file, Path.cwd())
    warnings = doubts(config, file, Path.cwd())
    what = begun(config, space, Path.cwd(), {})
    config = what.config
    check(config, file.at)
    if config.mlflow.enabled:
        tracking_uri(config.mlflow.model_dump(), Path.cwd(), os.environ)  # raises for one that MLflow would refuse
    per_trial = config.devices_per_trial
    pool = open_pool(config.devices, config.slots_per_device, os.environ, per_trial=per_trial)
    try:
        said, slots = pool.said, [slot.id for slot in pool.slots]
    finally:
        pool.close()
    samples: list[dict[str, Any]] = [
        {"params": params, "command": shlex.join(sample_command(config, number, params))}
        for number, params in enumerate(preview(config, SAMPLES))
    ]
    if as_json:
        document = {
            "config": config.model_dump(mode="json"),
            "samples": samples,
            "slots": slots,
            "said": said,
            "from_best": what.notes,
            "warnings": warnings,
        }
        print(json.dumps(document))
        return
    console = Console()
    console.print(f"[bold]{config.name}[/]  {_task(config)}", highlight=False)
    console.print(_space_table(config))
    for line in what.notes:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nthe first {len(samples)} configurations:", highlight=False)
    for number, sample in enumerate(samples):
        console.print(f"  {number}  {words.parameters(sample['params'])}", highlight=False, markup=False)
        console.print(f"     {sample['command']}", style="dim", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\n{said}", highlight=False)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def _task(config: SweepConfig) -> str:
    goals = ", ".join(f"{way} {name}" for way, name in zip(config.direction, config.metric, strict=True))
    how_many = f"{config.trials} trials" if config.trials else "no limit on trials"
    sampler = config.sampler.name if config.sampler else "tpe"
    pruner = config.pruner.name if config.pruner else "none"
    return f"{goals}; {how_many}; sampler {sampler}, pruner {pruner}"


def _space_table(config: SweepConfig) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for title in ("parameter", "kind", "values", "only when"):
        table.add_column(title)
    for name, parameter in config.space.items():
        when = "; ".join(
            f"{parent} is {' or '.join(words.parameter(one) for one in wanted)}"
            for parent, wanted in (parameter.when or {}).items()
        )
        table.add_row(name, parameter.type, words.possible(parameter), when)
    return table
