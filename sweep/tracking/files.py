"""What lies in an attempt's folder and belongs to its run: output, usage, what it did when it hung."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import psutil

from sweep.core.model import Trial
from sweep.rundir import SweepDir
from sweep.tracking.mirror import Point, millis
from sweep.tracking.store import Store

WHOLE = 5_000_000  # bytes of output up to which it goes up whole
PART = 1_000_000  # bytes of a longer one's head and tail


def send_output(store: Store, run_id: str, log: Path, attempt: int) -> None:
    """An attempt's output as `output/attempt-N.log`. Raises Trouble or Refused; nothing is there to send: fine."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return
    if size == 0:
        return
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        copy = Path(folder) / f"attempt-{attempt}.log"
        if size <= WHOLE:
            copy.symlink_to(log)
        else:
            with log.open("rb") as source, copy.open("wb") as target:
                target.write(source.read(PART))
                left_out = size - 2 * PART
                target.write(
                    f"\n[sweep: {left_out} of {size} bytes are left out here; more of it is in {log}]\n".encode()
                )
                source.seek(size - PART)
                target.write(source.read())
        store.upload(run_id, copy, "output")


def send_stall(store: Store, run_id: str, folder: Path, attempt: int) -> None:
    """What an attempt did when it hung, as `stall/attempt-N/`; nothing where it never did. Raises as above."""
    if folder.is_dir():
        store.upload(run_id, folder, f"stall/attempt-{attempt}")


class Usage:
    """usage.jsonl as MLflow's system metrics (names of mlflow/system_metrics/metrics/, 3.17).

    A step is the whole seconds since the trial's first launch; cpu is in per cent of all cores of this machine.
    """

    def __init__(self, directory: SweepDir) -> None:
        self.directory = directory
        self._offsets: dict[tuple[int, int], int] = {}
        self._cores = os.cpu_count() or 1
        self._memory = psutil.virtual_memory().total

    def read(self, trial: Trial, attempt: int) -> list[Point]:
        """The points that came since the last call."""
        key = (trial.number, attempt)
        start = self._offsets.get(key, 0)
        try:
            with self.directory.attempt(*key).usage.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[key] = start + len(whole)
        zero = trial.attempts[0].launched
        return [point for line in whole.splitlines() for point in self._points(line, zero)]

    def forget(self, trial: int, attempt: int) -> None:
        self._offsets.pop((trial, attempt), None)

    def _points(self, line: bytes, zero: float) -> list[Point]:
        try:
            record: dict[str, Any] = json.loads(line)
            at = float(record["at"])
            used = {key: float(value) for key, value in record["metrics"].items()}
            devices = [{key: float(value) for key, value in one.items()} for one in record.get("devices", [used])]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        step = max(0, int(at - zero))
        values: dict[str, float] = {}
        if "cpu" in used:
            values["cpu_utilization_percentage"] = 100 * used["cpu"] / self._cores
        if "memory" in used:
            values["system_memory_usage_megabytes"] = used["memory"] / 1e6
            values["system_memory_usage_percentage"] = 100 * used["memory"] / self._memory
        for place, device in enumerate(devices):
            if "device_utilisation" in device:
                values[f"gpu_{place}_utilization_percentage"] = 100 * device["device_utilisation"]
            if "device_memory" in device:
                values[f"gpu_{place}_memory_usage_megabytes"] = device["device_memory"] / 1e6
        return [Point(f"system/{key}", round(value, 2), millis(at), step) for key, value in values.items()]
