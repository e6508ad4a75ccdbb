"""What Prometheus gets, worked out at every scrape. Only trials that run have series of their own.

Names and units: https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sweep import rundir, tempo
from sweep.cli.document import INTERRUPTED, state_word
from sweep.cli.metrics.watched import Project, Watched
from sweep.cli.snapshot import STALE, latest_usage
from sweep.core.model import Attempt, Outcome, Phase, SweepState, Trial, TrialState
from sweep.errors import DeviceError
from sweep.slots.survey import Survey

_STATES = (*(state.value for state in SweepState), INTERRUPTED)

# name -> help, labels; a name that ends in _total is a counter
_OF_SWEEPS = {
    "sweep_info": ("What a sweep is after, always 1.", ("sweep", "name", "metric", "direction")),
    "sweep_state": ("1 for the state that a sweep is in, 0 for the others.", ("sweep", "state")),
    "sweep_trials": ("Trials by state.", ("sweep", "state")),
    "sweep_trials_wanted": ("Trials that there are to be, where the file says how many.", ("sweep",)),
    "sweep_attempts_total": ("Attempts that have ended, by outcome.", ("sweep", "outcome")),
    "sweep_reports_total": ("Reports of all trials.", ("sweep",)),
    "sweep_best_value": ("Value of the best completed trial.", ("sweep", "metric")),
    "sweep_slots": ("Slots that a sweep holds, running a trial or idle.", ("sweep", "state")),
    "sweep_slot_seconds_total": ("Time on slots of all attempts that have ended.", ("sweep",)),
    "sweep_controller_up": ("Whether a controller drives the sweep.", ("sweep",)),
    "sweep_controller_starts_total": ("Controllers that have driven the sweep.", ("sweep",)),
    "sweep_controller_heartbeat_timestamp_seconds": ("When the loop last told how it does.", ("sweep",)),
    "sweep_journal_bytes": ("Size of the journal.", ("sweep",)),
    "sweep_journal_events_total": ("Events in the journal.", ("sweep",)),
    "sweep_mlflow_lag_events": ("Events of the journal that MLflow has not got.", ("sweep",)),
    "sweep_mlflow_outage_seconds": ("For how long MLflow has taken nothing, 0 while it does.", ("sweep",)),
    "sweep_mlflow_follower_up": ("Whether a process brings MLflow up to date.", ("sweep",)),
    "sweep_trial_silence_seconds": (
        "Since the last report of a running trial, or its start where it has not reported.",
        ("sweep", "trial", "slot"),
    ),
    "sweep_trial_step": ("Highest step that a running trial has reported.", ("sweep", "trial", "slot")),
    "sweep_trial_cpu_cores": ("Cores that a running trial keeps busy.", ("sweep", "trial", "slot")),
    "sweep_trial_memory_bytes": ("Resident memory of a running trial.", ("sweep", "trial", "slot")),
}
_OF_DEVICES = {
    "sweep_device_healthy": ("Whether a trial could be started on a device.", ("device", "name")),
    "sweep_device_slots": ("Slots of a device, held or free, whoever holds them.", ("device", "name", "state")),
    "sweep_device_utilisation_ratio": ("How busy a device is, 0 to 1.", ("device", "name")),
    "sweep_device_memory_used_bytes": ("Memory of a device in use.", ("device", "name")),
    "sweep_device_memory_total_bytes": ("Memory of a device.", ("device", "name")),
    "sweep_device_power_watts": ("Power that a device draws.", ("device", "name")),
    "sweep_device_temperature_celsius": ("Temperature of a device.", ("device", "name")),
}
_MEASURED = {
    "utilisation": "sweep_device_utilisation_ratio",
    "memory_used": "sweep_device_memory_used_bytes",
    "memory_total": "sweep_device_memory_total_bytes",
    "power": "sweep_device_power_watts",
    "temperature": "sweep_device_temperature_celsius",
}


class Families:
    """Series under their names; a value of None makes none."""

    def __init__(self, known: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        self._all: dict[str, Any] = {
            name: (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(
                name, text, labels=labels
            )
            for name, (text, labels) in known.items()
        }

    def add(self, name: str, labels: tuple[str, ...], value: float | None) -> None:
        if value is not None:
            self._all[name].add_metric(labels, float(value))

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._all.values())


class SweepCollector(Collector):
    """The sweeps of a folder, and the devices of this machine. One scrape at a time."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._project = Project(folder)
        self._survey = Survey(environ)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._survey.close()

    def describe(self) -> list[Metric]:
        """Nothing: registering would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            began, now = time.monotonic(), time.time()
            families = Families(_OF_SWEEPS)
            turns = HistogramMetricFamily(
                "sweep_controller_turn_seconds", "Time that the loop works between two waits.", labels=("sweep",)
            )
            for watched in self._project.look(now):
                _sweep(watched, families, now)
                _loop(watched, families, turns)
            found = [*families, turns, *self._devices()]
            missing = GaugeMetricFamily("sweep_unreadable", "Sweeps whose journal cannot be read.")
            missing.add_metric((), self._project.unreadable)
            took = GaugeMetricFamily("sweep_exporter_collect_seconds", "Time that this scrape took to work out.")
            took.add_metric((), time.monotonic() - began)
        yield from (*found, missing, took)

    def _devices(self) -> Families:
        families = Families(_OF_DEVICES)
        try:
            standings = self._survey.look()
        except DeviceError:  # the lock folder: `sweep doctor` says what is wrong with it
            return families
        for one in standings:
            labels = (one.device.id, one.device.name)
            held = sum(place.holder is not None for place in one.places)
            families.add("sweep_device_healthy", labels, one.health.word == "ok")
            families.add("sweep_device_slots", (*labels, "held"), held)
            families.add("sweep_device_slots", (*labels, "free"), len(one.places) - held)
            for key, name in _MEASURED.items():
                families.add(name, labels, one.reading.numbers.get(key))
        return families


def _sweep(watched: Watched, families: Families, now: float) -> None:
    sweep, directory = watched.sweep, watched.directory
    mine, rules = (sweep.id,), sweep.rules
    driven = rundir.locked(directory.controller_lock)
    metric, direction = rules.first
    families.add("sweep_info", (sweep.id, str(sweep.config.get("name", "")), metric, direction), 1)
    for word in _STATES:
        families.add("sweep_state", (sweep.id, word), word == state_word(sweep, controller_alive=driven))
    for state in TrialState:
        families.add("sweep_trials", (sweep.id, state.value), sweep.counts[state])
    families.add("sweep_trials_wanted", mine, rules.trials)
    for outcome in Outcome:
        families.add("sweep_attempts_total", (sweep.id, outcome.value), watched.outcomes[outcome.value])
    families.add("sweep_reports_total", mine, watched.reports)
    best = sweep.trials[sweep.best].values if sweep.best is not None else None
    families.add("sweep_best_value", (sweep.id, metric), best[0] if best else None)
    families.add("sweep_slots", (sweep.id, "running"), len(sweep.live))
    families.add("sweep_slots", (sweep.id, "idle"), len(sweep.offers) if driven else 0)
    families.add("sweep_slot_seconds_total", mine, sweep.taken)
    families.add("sweep_controller_up", mine, driven)
    families.add("sweep_controller_starts_total", mine, watched.controllers)
    families.add("sweep_journal_bytes", mine, watched.size)
    families.add("sweep_journal_events_total", mine, watched.events)
    if (lag := watched.lag()) is not None:
        families.add("sweep_mlflow_lag_events", mine, lag.events)
        families.add("sweep_mlflow_outage_seconds", mine, max(0.0, now - lag.since) if lag.since else 0.0)
        families.add("sweep_mlflow_follower_up", mine, rundir.locked(directory.follower_lock))
    for number in sorted(sweep.live):
        trial = sweep.trials[number]
        if trial.attempt is not None and trial.attempt.phase is Phase.RUNNING:
            _running(watched, trial, trial.attempt, families, now)


def _running(watched: Watched, trial: Trial, attempt: Attempt, families: Families, now: float) -> None:
    labels = (watched.sweep.id, str(trial.number), attempt.slot)
    last = attempt.heard or attempt.started or attempt.launched
    usage = latest_usage(watched.directory.attempt(trial.number, attempt.number).usage, now - STALE)
    families.add("sweep_trial_silence_seconds", labels, max(0.0, now - last))
    families.add("sweep_trial_step", labels, attempt.step)
    families.add("sweep_trial_cpu_cores", labels, usage.cpu)
    families.add("sweep_trial_memory_bytes", labels, usage.memory)


def _loop(watched: Watched, families: Families, turns: HistogramMetricFamily) -> None:
    told = tempo.told(watched.directory.tempo)
    if told.at:
        families.add("sweep_controller_heartbeat_timestamp_seconds", (watched.sweep.id,), told.at)
        bounds = [*map(str, tempo.BOUNDS), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, accumulate(told.turns), strict=True)]
        turns.add_metric((watched.sweep.id,), buckets, told.seconds)
