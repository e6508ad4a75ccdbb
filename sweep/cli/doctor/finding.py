"""What a check of `sweep doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """state: `bad` stands in the way of a sweep; `warn` may, one day. mend: what to type or change."""

    topic: str
    state: Literal["ok", "warn", "bad"]
    what: str
    mend: str = ""
