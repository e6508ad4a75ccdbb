"""A job: a sweep of one trial with nothing to search. Same slots, same logs, same verbs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config.command import script_of
from sweep.config.document import Document
from sweep.config.load import by_itself
from sweep.config.model import SweepConfig
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Sweep
from sweep.errors import UsageError
from sweep.ports import Inbox, Judged

log = logging.getLogger("sweep.job")
_OF_A_SEARCH = {
    *("command", "objective", "metric", "direction", "value", "space", "trials", "sampler", "pruner", "seed"),
    *("enqueue", "from_best", "duplicates", "slots", "fail_fast", "fail_rate"),
}


def job(argv: Sequence[str], settings: Mapping[str, Any]) -> SweepConfig:
    """One command as a sweep. settings: dotted keys of space.yaml, of those that hold for a job as well.

    Raises UsageError.
    """
    if not argv:
        raise UsageError("no command", hint="such as: sweep submit -- python train.py --lr 0.01")
    words = [word.replace("{", "{{").replace("}", "}}") for word in argv]  # nothing is filled in
    program = Path(script_of(words) or argv[0]).stem
    name = "".join(char if char.isalnum() or char in "_.-" else "-" for char in program).strip("-.") or "job"
    whole = {"name": name[:40], "command": words, "metric": [], "direction": [], "space": {}, "trials": 1}
    document = Document("sweep submit", whole)
    for key, value in settings.items():
        if key.partition(".")[0] in _OF_A_SEARCH:
            raise UsageError(
                f"--set {key}: a job has nothing to search", hint="write a space.yaml and `sweep run` it"
            )
        document.set(key, value)
    return by_itself(document)


class NothingToSearch:
    """`ports.Search` of a job: its one configuration is empty."""

    def __init__(self, inbox: Inbox, now: Callable[[], float], sampled: int) -> None:
        self._inbox = inbox
        self._now = now
        self._next = sampled

    def reconcile(self, sweep: Sweep, judged: Judged) -> list[dict[str, Any]]:
        return []

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def prefer(self, order: do.Prefer) -> None:
        pass

    def ask(self) -> None:
        self._inbox(e.TrialSampled(self._now(), self._next, {}))
        self._next += 1

    def judge(self, order: do.Judge) -> None:
        pass

    def tell(self, order: do.Tell) -> None:
        log.info("the job ended %s", order.state.value)
