"""controller.log: lines for people, or with SWEEP_LOG=json one JSON object a line, for Loki and its like.

    {"at": "2026-01-31T12:00:00.250+00:00", "level": "warning", "logger": "sweep.controller", "sweep": "digits-2",
     "message": "the nursery died; another took over"}

What happened to a trial has `event` (its name in the journal), `trial` and `attempt` as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone

from sweep.errors import UsageError

VARIABLE = "SWEEP_LOG"


def as_json(environ: Mapping[str, str]) -> bool:
    """Raises UsageError for a form that there is not."""
    form = environ.get(VARIABLE) or "text"
    if form not in ("text", "json"):
        raise UsageError(f"{VARIABLE}={form} is no form of a log", hint=f"{VARIABLE}=json, or leave it out")
    return form == "json"


def line(at: float, sweep: str, level: str, logger: str, message: str, **fields: object) -> str:
    """One object, without a newline; fields that are None are left out. at: seconds since the epoch."""
    when = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
    known = {name: value for name, value in fields.items() if value is not None}
    record = {"at": when, "level": level, "logger": logger, "sweep": sweep, **known, "message": message}
    return json.dumps(record, ensure_ascii=False)


def formatter(environ: Mapping[str, str], sweep: str) -> logging.Formatter:
    """Raises UsageError as as_json does."""
    return _Json(sweep) if as_json(environ) else logging.Formatter(_TEXT)


_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Json(logging.Formatter):
    def __init__(self, sweep: str) -> None:
        super().__init__()
        self._sweep = sweep

    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else None
        level = record.levelname.lower()
        return line(record.created, self._sweep, level, record.name, record.getMessage(), error=error)
