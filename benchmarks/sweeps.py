"""Runs a sweep for a benchmark and reads from its journal when things happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.core import events as e
from sweep.journal import records
from sweep.rundir import SweepDir

ROOT = Path(__file__).parent


@dataclass
class Timed:
    """Times in seconds since the epoch. `returned` is when `sweep run` itself had ended, MLflow caught up."""

    called: float
    first_start: float
    last_end: float
    returned: float
    events: list[e.Event]
    document: dict[str, Any]


def run(folder: Path, space: str, *options: str) -> Timed:
    """A whole `sweep run` of this space.yaml in this folder."""
    file = folder / "space.yaml"
    file.write_text(space)
    env = {**os.environ, "SWEEP_LOCK_DIR": str(folder / "locks")}
    called = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli", "run", str(file), "--json", *options],
        cwd=folder,
        env=env,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    returned = time.time()
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(done.stderr.decode())
    document = json.loads(done.stdout)
    if document["counts"]["FAIL"]:
        raise SystemExit(f"{document['counts']['FAIL']} trials failed: {document['trials'][-1]['why']}")
    events = [record.event for record in records(SweepDir(Path(document["directory"])).journal)]
    return Timed(
        called=called,
        first_start=min(event.at for event in events if isinstance(event, e.AttemptStarted)),
        last_end=max(event.at for event in events if isinstance(event, e.AttemptEnded)),
        returned=returned,
        events=events,
        document=document,
    )
