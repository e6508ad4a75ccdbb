"""How far MLflow is behind a sweep, from the outside: for `status` and whoever else asks. Does not import mlflow.

Counted from the follower's cursor and the journal, so that it is true also where the follower died long ago.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweep.rundir import SweepDir, locked, read_json

OUTAGE = 2.0  # seconds
CATCH_UP = 60.0  # seconds that the end of a sweep waits for MLflow
_READ = 1 << 20


@dataclass(frozen=True)
class Lag:
    """What MLflow has not got yet.

    events: lines of the journal. files: outputs of attempts. error: the trouble, while there is one; since, tried:
    its first and its latest failed attempt, seconds since the epoch. refused: what it will never take, in words,
    the last ones. followed: whether a follower lives; pid: of the latest. complete: whether the store had all that
    there was to send then.
    """

    events: int
    files: int
    since: float | None
    tried: float | None
    error: str | None
    refused: tuple[str, ...]
    followed: bool
    complete: bool
    pid: int | None

    @property
    def behind(self) -> bool:
        return not self.complete or self.events > 0

    @property
    def outage(self) -> bool:
        """Whether the trouble outlasts several attempts: nobody should wait for it."""
        return bool(self.since and self.tried and self.tried - self.since > OUTAGE)


def lag_of(directory: SweepDir) -> Lag | None:
    """None where no follower has begun."""
    followed = locked(directory.follower_lock)  # first: what a follower writes last is then seen
    state = read_json(directory.mlflow)
    if not isinstance(state, dict):
        return None
    lag = state.get("lag") or {}
    return Lag(
        events=_lines_behind(directory, int(state.get("cursor") or 0)),
        files=len(state.get("owed") or ()),
        since=lag.get("since"),
        tried=lag.get("tried"),
        error=lag.get("error"),
        refused=tuple(lag.get("errors") or ()),
        followed=followed,
        complete=bool(lag.get("complete", True)),
        pid=state.get("pid"),
    )


def _lines_behind(directory: SweepDir, cursor: int) -> int:
    count = 0
    try:
        with directory.journal.open("rb") as file:
            file.seek(cursor)
            while data := file.read(_READ):
                count += data.count(b"\n")
    except OSError:
        pass
    return count
