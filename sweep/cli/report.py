"""`sweep report`: what Python's `Sweep.report` writes, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

import sweep as api


def report(wanted: str | None, output: Path | None, *, as_json: bool) -> None:
    """Writes the page and says where. Raises NotFoundError, StorageError."""
    matplotlib.use("Agg")
    sweep = api.load(wanted)
    path = sweep.report(output)
    if as_json:
        print(json.dumps({"id": sweep.id, "state": sweep.status, "path": str(path)}))
    else:
        print(path)
