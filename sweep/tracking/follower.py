"""The loop: journal -> mirror -> store, until the sweep has ended and everything is sent.

Rules
1.  Nobody waits for MLflow: the controller only hears of it over the link. Whatever cannot be sent stays in the
    journal (or, a little of it, in the mirror) and is tried again (retry.py).
2.  The end: told by the controller, or (its end of the link gone) the journal caught up with. A controller that
    vanished without a word leaves the sweep's run RUNNING, unless the journal says that the sweep had ended.
    Once it is the end, a store in trouble is given GRACE seconds; what is missing then, `sweep sync` sends.
3.  One follower for each sweep (a lock). If another controller takes the sweep over while the old follower still
    catches up, the old one leaves; the new one begins where the cursor is.
4.  Artifacts come behind metrics, and their trouble does not hold up the metrics.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from sweep import rundir
from sweep.errors import BusyError, ConfigError, StorageError
from sweep.rundir import SweepDir
from sweep.tracking import finale
from sweep.tracking.files import send_output, send_stall
from sweep.tracking.harvest import Harvest
from sweep.tracking.limits import tag
from sweep.tracking.link import Link
from sweep.tracking.memory import Memory
from sweep.tracking.mirror import PARENT, Mirror, millis
from sweep.tracking.reader import Reader
from sweep.tracking.retry import Retry
from sweep.tracking.sender import Sender
from sweep.tracking.store import TERMINAL, Store, close_all
from sweep.tracking.template import cache_folder
from sweep.tracking.trouble import Refused, Trouble
from sweep.tracking.uri import redacted, tracking_uri

TICK = 0.1  # seconds between looks at the journal
GRACE = 86400.0  # how long a store in trouble is tried after the sweep's end, seconds
PATIENCE = 2.0  # how long the lock of a controller that is gone may be held before it is another one's, seconds
USAGE = 5.0  # seconds between looks at what attempts use
log = logging.getLogger("sweep.tracking")


class Follower:
    def __init__(self, directory: SweepDir, link: Link) -> None:
        self.directory = directory
        self.link = link
        self.memory = Memory.load(directory.mlflow)
        self.reader = Reader(directory, self.memory)
        self.sender: Sender | None = None  # until the store has been reached
        self.harvest: Harvest | None = None
        self.store_retry = Retry()
        self.files_retry = Retry()
        self.wanted_runs: list[int] = []
        self.wanted_looks: list[tuple[int, int]] = []
        self.ending: dict[str, Any] | None = None
        self.closed = False  # the sweep's own run has its last status
        self.best_sent = False
        self._gone_since: float | None = None
        self._deadline: float | None = None
        self._usage_due = 0.0
        self._saved_lag: dict[str, Any] = {}
        self._dirty = self._unsaved = False

    def run(self) -> int:
        """Follows to the end. 0: everything is in MLflow; 1: given up, or the folder is gone."""
        if not self._alone():
            return 1
        while self.directory.path.is_dir():
            trouble = self.store_retry.error or self.files_retry.error
            busy = not trouble and (self.reader.more or self.memory.owed)
            for message in self.link.wait(0.0 if busy else TICK):
                self._hear(message)
            if self._displaced():
                log.info("another controller has taken over; its follower goes on from here")
                return 0
            if not self.reader.read():
                self._disconnect()
            if self.reader.mirror is not None:
                self._work(self.reader.mirror)
            self._save()
            if self._over():
                return self._leave()
        return 1

    def _alone(self) -> bool:
        """Waits for an older follower of this sweep to leave; False if the folder is gone meanwhile."""
        said = False
        while self.directory.path.is_dir():
            try:
                rundir.lock(self.directory.follower_lock, f"the follower with pid {os.getpid()}")
                return True
            except BusyError:
                if not said:
                    log.info("waiting for the sweep's earlier follower to end")
                    said = True
                time.sleep(TICK)
        return False

    def _hear(self, message: dict[str, Any]) -> None:
        if "make_run" in message:
            self.wanted_runs.append(int(message["make_run"]))
        elif "collect" in message:
            trial, attempt = message["collect"]
            self.wanted_looks.append((int(trial), int(attempt)))
        elif "ending" in message:
            self.ending = message

    def _displaced(self) -> bool:
        """Whether our controller is gone and another drives the sweep. (A dying one holds its lock a moment.)"""
        if self.link.open or not rundir.locked(self.directory.controller_lock):
            self._gone_since = None
            return False
        self._gone_since = self._gone_since or time.monotonic()
        return time.monotonic() - self._gone_since > PATIENCE

    # ---- sending ---------------------------------------------------------------------------------------------

    def _work(self, mirror: Mirror) -> None:
        self._attempt(self.store_retry, lambda: self._send(mirror))
        if self.store_retry.error or self.sender is None:
            return
        sender = self.sender
        if mirror.artifacts:
            self._attempt(self.files_retry, lambda: self._send_files(mirror, sender))
        if self._ending_now() and not self.closed:
            self._attempt(self.store_retry, lambda: self._close(mirror, sender))

    def _attempt(self, retry: Retry, work: Callable[[], None]) -> None:
        """Does the work if it is due, and says where it begins to fail, or works again."""
        if time.monotonic() < retry.due:
            return
        try:
            work()
        except (StorageError, OSError) as error:
            text = error.message if isinstance(error, StorageError) else f"{error.strerror}: {error.filename}"
            if retry.failed(text):
                log.info("%s", text)
                self.link.say({"error": text})
            self._dirty = True
        else:
            if retry.worked():
                log.info("MLflow is back")
                self.link.say({"ok": True})
                self._dirty = True

    def _send(self, mirror: Mirror) -> None:
        if self.sender is None and not self._connect(mirror):
            return
        assert self.sender is not None
        for number in list(self.wanted_runs):
            self.link.say({"run": [number, self.sender.run_of(number)[0]]})
            self.wanted_runs.remove(number)
            self._dirty = True
        if time.monotonic() >= self._usage_due:
            self._usage_due = time.monotonic() + USAGE
            self.reader.read_usage()
        if mirror.pending:
            begun = time.monotonic()
            self.sender.flush(mirror.pending)
            self.reader.pace(time.monotonic() - begun)
        self._dirty |= self.reader.sent()
        if self.harvest is not None:
            self.harvest.round(mirror.live(), self.memory.runs)
            self._collect(mirror, self.harvest)

    def _connect(self, mirror: Mirror) -> bool:
        """Reaches the store and learns what it has of this sweep. False if all must be read again for it."""
        config = mirror.sweep.config
        mirror.commit = finale.commit_of(self.directory)
        try:
            uri = tracking_uri(config["mlflow"], self.directory.path.parent.parent, os.environ)
        except ConfigError as error:
            raise Trouble(str(error), everywhere=True) from None
        experiment = config["mlflow"]["experiment"] or os.environ.get("MLFLOW_EXPERIMENT_NAME") or config["name"]
        if not self.memory.tracking_uri:  # so that it can be seen which store does not answer
            self.memory.tracking_uri, self.memory.experiment = redacted(uri), experiment
        store = Store(uri)
        store.open(experiment, cache_folder(os.environ))
        sender = Sender(store, self.memory, mirror.birth, own=mirror.own)
        known = sender.look_up()
        moved = self.memory.settle(redacted(uri), experiment, store.experiment_id)
        if self.memory.cursor and (moved or not known):
            log.info("this store knows nothing of what was sent before; everything is sent to it")
            self.reader.rewind()
            return False
        self.sender = sender
        self.harvest = Harvest(self.directory, store) if mirror.own else None
        self._dirty = True
        return True

    def _disconnect(self) -> None:
        self.sender = self.harvest = None
        self.closed = self.best_sent = False

    def _collect(self, mirror: Mirror, harvest: Harvest) -> None:
        """A last look at the runs of attempts that have ended, for the controller that waits for it."""
        for key in list(self.wanted_looks):
            trial = mirror.sweep.trials.get(key[0])
            run_id = self.memory.runs.get(key[0])
            known = trial is not None and len(trial.attempts) >= key[1]
            if not known and self.reader.more:
                continue  # its launch is still to be read
            if trial is not None and known and run_id is not None:
                try:
                    harvest.look(trial, trial.attempts[key[1] - 1], run_id, last=True)
                except Refused as error:
                    log.info("trial %s: its metrics cannot be read: %s", key[0], error.message)
                harvest.forget(*key)
            self.link.say({"collected": list(key)})
            self.wanted_looks.remove(key)

    def _send_files(self, mirror: Mirror, sender: Sender) -> None:
        begun = time.monotonic()
        finale.send_sources(self.directory, mirror.sweep, sender, self.memory)
        for trial, attempt in list(self.memory.owed):
            try:
                paths, run_id = self.directory.attempt(trial, attempt), sender.run_of(trial)[0]
                send_output(sender.store, run_id, paths.output, attempt)
                send_stall(sender.store, run_id, paths.stall, attempt)
            except Refused as error:
                sender.note(trial, f"its output is not in MLflow: {error.message}")
            self.memory.owed.remove((trial, attempt))
            self._dirty = True
            if self.reader.more or time.monotonic() - begun > TICK:  # news first
                return
        if self._ending_now() and not self.best_sent:
            finale.send_best(self.directory, mirror, sender, self.memory)
            self.best_sent = self._dirty = True

    # ---- the end ---------------------------------------------------------------------------------------------

    def _caught_up(self) -> bool:
        return self.reader.caught_up and not self.wanted_runs and not self.wanted_looks

    def _ending_now(self) -> bool:
        """Whether the sweep's own run may get its last words."""
        mirror = self.reader.mirror
        told = self.ending is not None or (not self.link.open and mirror is not None and mirror.sweep.state.ended)
        return told and self._caught_up()

    def _close(self, mirror: Mirror, sender: Sender) -> None:
        """The summary, and the last status: what the controller said, or what the journal says."""
        batch = finale.summary(mirror, self.memory.runs)
        told = str(self.ending["ending"]) if self.ending else mirror.sweep.state.value
        batch.status = told if told in TERMINAL else "KILLED"
        batch.ended = millis(mirror.sweep.at)
        if self.ending and self.ending.get("why"):
            batch.tags["sweep.why"] = tag(self.ending["why"])
        sender.send(PARENT, batch)
        if sender.doubtful:  # a creation that seemed to fail may have been carried out in the end
            sender.look_up()
        self.closed = self._dirty = True

    def _over(self) -> bool:
        if self.ending is None and (self.link.open or rundir.locked(self.directory.controller_lock)):
            self._deadline = None
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
        return self._complete() or time.monotonic() > self._deadline

    def _complete(self) -> bool:
        mirror = self.reader.mirror
        if not self._caught_up() or self.memory.owed:
            return False
        last_words = self.closed and (self.best_sent or mirror is None or not mirror.artifacts)
        return last_words or not self._ending_now()

    def _leave(self) -> int:
        self._save(now=True)
        close_all()
        if self._complete():
            return 0
        log.info(
            "given up after %d h: %s. `sweep sync %s` sends what is missing",
            GRACE / 3600,
            self.store_retry.error or self.files_retry.error or "the store was too slow",
            self.directory.id,
        )
        return 1

    def _save(self, *, now: bool = False) -> None:
        trouble = next((retry for retry in (self.store_retry, self.files_retry) if retry.error), None)
        if not (self._dirty or now or trouble):
            return
        lag = {
            **self.reader.behind(),
            "since": trouble.since if trouble else None,
            "tried": trouble.tried if trouble else None,
            "error": trouble.error if trouble else None,
            "complete": self._complete(),
        }
        if lag == self._saved_lag and not (self._dirty or now):
            return
        try:
            saved = self.memory.save(lag, now=now)
        except OSError as error:
            if not self._unsaved:
                log.info("cannot write %s: %s", self.directory.mlflow, error.strerror)
            self._unsaved = True
        else:
            self._unsaved = False
            if saved:
                self._saved_lag = lag
                self._dirty = False
