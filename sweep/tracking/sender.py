"""Sends batches to the store, each run created once.

Rules
1.  Creating a run is the only call that must not be repeated. Before the first one, and after any that failed
    without telling whether it happened, the runs of this sweep are looked up by their tag.
2.  Where two runs of one trial are found nevertheless (a server that was too slow to answer did create it), the
    one that was known stays, else the older; the other is deleted, with a note.
3.  A refusal concerns the smallest part that is refused: a batch is halved until that is found. It is noted, and
    the rest goes on. A run that alone keeps failing while others do not is given up for now after TRIES.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sweep.tracking.memory import Memory
from sweep.tracking.mirror import PARENT, Batch, Birth
from sweep.tracking.store import Store
from sweep.tracking.trouble import Refused, Trouble

TRIES = 5
log = logging.getLogger("sweep.tracking")
Item = tuple[str, str, object]  # "metric", "param" or "tag"; name; Point or value


class Sender:
    """own: trials write to their runs too, and their parameters win."""

    def __init__(self, store: Store, memory: Memory, birth: Callable[[int], Birth], *, own: bool = False) -> None:
        self.store = store
        self.own = own
        self.memory = memory
        self.birth = birth
        self.sure = False  # whether `memory.runs` is what the store has
        self.doubtful = False  # whether a creation ever failed without telling if it happened
        self._tries: dict[int, int] = {}
        self._noted: set[str] = set()

    def look_up(self) -> bool:
        """Learns the sweep's runs from the store; says whether the store knew the sweep. Raises Trouble."""
        known = set(self.memory.runs.values())
        runs: dict[int, str] = {}
        found = self.store.find(self.memory.uid)
        for run_id, number, deleted in sorted(found, key=lambda one: (one[2], one[0] not in known)):
            if runs.setdefault(number, run_id) != run_id and not deleted:
                self.store.drop(run_id)
                log.info("run %s of %s was there twice and is deleted", run_id, _name(number))
        self.memory.runs = runs
        self.sure = True
        return PARENT in runs

    def run_of(self, number: int) -> tuple[str, bool]:
        """The run of a trial (or PARENT), made if it is not there, and whether it was made now. Raises Trouble."""
        if not self.sure:
            self.look_up()
        found = self.memory.runs.get(number)
        if found is not None:
            return found, False
        parent = None if number == PARENT else self.run_of(PARENT)[0]
        self.sure = False
        try:
            made = self.store.create(self.birth(number), parent)
        except Refused as error:  # all that is in it is ours: it is the experiment that is not as it should be
            self.sure = True
            raise Trouble(f"no run can be created: {error.message}", everywhere=True) from None
        except Trouble:
            self.doubtful = True
            raise
        self.sure = True
        self.memory.runs[number] = made
        return made, True

    def flush(self, pending: dict[int, Batch]) -> None:
        """Sends what is pending and takes it out. Raises Trouble with what could not be sent left in."""
        failed: dict[int, Trouble] = {}
        went = False
        for number in sorted(pending):
            try:
                self.send(number, pending[number])
            except Trouble as error:
                if error.everywhere:
                    raise
                failed[number] = error
                continue
            del pending[number]
            self._tries.pop(number, None)
            went = True
        if not failed:
            return
        if not went:
            self.store.ping()  # raises where it is the store that is down, and not these runs
        for number, trouble in failed.items():
            self._tries[number] = self._tries.get(number, 0) + 1
            if self._tries[number] >= TRIES:
                self.note(number, f"given up after {TRIES} attempts: {trouble.message}")
                del pending[number]
                del self._tries[number]
        raise next(iter(failed.values()))

    def send(self, number: int, batch: Batch) -> None:
        """Sends one batch; parts that the store refuses are noted. Raises Trouble."""
        run_id, new = self.run_of(number)
        try:
            self._send(number, run_id, new, batch)
        except Refused as error:
            gone = not self.store.alive(run_id)
            self.note(number, f"its run {run_id} was deleted in MLflow" if gone else error.message)

    def _send(self, number: int, run_id: str, new: bool, batch: Batch) -> None:
        params, tags = batch.params, batch.tags
        if self.own and params and number != PARENT:
            there = self.store.params(run_id)
            params = {key: value for key, value in params.items() if key not in there}
        if new:
            born = self.birth(number).tags
            tags = {key: value for key, value in tags.items() if born.get(key, "") != value}
        try:
            self.store.log(run_id, batch.metrics, params, tags)
        except Refused as error:
            if not self.store.alive(run_id):
                raise
            items: list[Item] = [("param", key, value) for key, value in params.items()]
            items += [("tag", key, value) for key, value in tags.items()]
            items += [("metric", point.key, point) for point in batch.metrics]
            self._isolate(number, run_id, items, error)
        if batch.status and not (new and batch.status == "RUNNING"):
            self.store.status(run_id, batch.status, batch.ended)

    def note(self, number: int, text: str) -> None:
        """Says what is refused for good, once: a run that was deleted refuses every batch."""
        line = f"{_name(number)}: {text}"
        if line not in self._noted:
            self._noted.add(line)
            log.info("%s", line)
            self.memory.note(line)

    def _isolate(self, number: int, run_id: str, items: Sequence[Item], error: Refused) -> None:
        """Sends the two halves, and so on; what is refused alone is noted and left out."""
        if len(items) == 1:
            kind, name, value = items[0]
            self.note(number, f"{kind} {name!r} ({str(value)[:60]}) is refused: {error.message}")
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            metrics = [value for kind, _, value in half if kind == "metric"]
            params = {name: value for kind, name, value in half if kind == "param"}
            tags = {name: value for kind, name, value in half if kind == "tag"}
            try:
                self.store.log(run_id, metrics, params, tags)  # type: ignore[arg-type]
            except Refused as refusal:
                self._isolate(number, run_id, half, refusal)


def _name(number: int) -> str:
    return "the sweep's own run" if number == PARENT else f"trial {number}"
