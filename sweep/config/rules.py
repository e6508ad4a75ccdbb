"""The part of space.yaml that the state machine needs."""

from __future__ import annotations

from sweep.config.model import SweepConfig
from sweep.core.model import Rules
from sweep.core.sharing import MOST


def rules(config: SweepConfig) -> Rules:
    """What it says of limits, verdicts and ends, in the machine's words."""
    return Rules(
        metrics=tuple(config.metric),
        directions=tuple(config.direction),
        trials=config.trials,
        value=config.value,
        slots=_most_slots(config),
        timeout=config.timeout,
        retries=_retries(config),
        backoff=config.retry.backoff,
        stall_action=config.stall.action,
        on_nan=config.on_nan,
        duplicates=config.duplicates,
        attempt_timeout=config.attempt_timeout,
        trial_timeout=config.trial_timeout,
        slot_hours=config.budget.gpu_hours if config.budget else None,
        priority=config.priority,
        fail_fast=config.fail_fast,
        fail_rate=config.fail_rate,
        grace=config.grace,
        keep=config.checkpoints.keep,
        heeds=config.report.mode == "api",
        needs_run=config.report.mode == "mlflow",
    )


def _retries(config: SweepConfig) -> dict[str, int]:
    """Outcome -> further attempts; a stall that is to be tried again is, once at least."""
    retries = {name.upper(): config.retry.times for name in config.retry.on} if config.retry.times else {}
    if config.stall.action == "retry":
        retries["STALLED"] = max(1, config.retry.times)
    return retries


def _most_slots(config: SweepConfig) -> int | None:
    """`slots`; for a count of GPUs at most theirs, also while an earlier controller's trials sit on others."""
    if config.devices.kind in ("auto", "cpu") or config.devices.count is None:
        return config.slots
    shares = MOST if config.slots_per_device == "auto" else config.slots_per_device
    most = config.devices.count * shares // config.devices_per_trial
    return min(most, config.slots or most)
