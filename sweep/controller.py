"""The loop: events -> journal -> step -> effects.

Order, and why
1.  An event is first applied to the state. One that does not fit (a verdict for an attempt that has just ended) is
    dropped there, and never reaches the journal.
2.  What was applied is journaled, and committed once a turn.
3.  Only then are its effects carried out. If the disk refuses the commit, effects wait, no slot is leased, and the
    commit is tried again: trials that run are not touched.
4.  Effects may fail at once (a folder that cannot be made); that is an event of the next round of the same turn.

Nothing here waits for Optuna, MLflow or a process: they wake the loop. What a lost wake-up would leave lying
(datagrams may be lost) is found by a look at everything once a second.
"""

from __future__ import annotations

import logging
import os
import queue
import selectors
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sweep import doorbell, orders
from sweep.attempts import Attempts
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.machine import step
from sweep.core.model import Sweep
from sweep.disk import DiskWatch
from sweep.errors import IllegalEvent, StorageError
from sweep.guard import Guard
from sweep.launch.watch import Watch, end_orphans
from sweep.ports import Clock, Devices, Journal, Launcher, Order, Reply, Search, Slot, Tracker, View
from sweep.rundir import SweepDir
from sweep.sharing import Sharer
from sweep.supply import Supply
from sweep.suspicion import Suspicion
from sweep.tempo import Tempo

log = logging.getLogger("sweep.controller")
LOOK = 1.0  # seconds between two looks at everything
PICTURE = 0.25
LULL = 0.04  # without a launch, before the sampler gets to work
NOTICES = 8

_FOR_THE_SAMPLER = (do.Ask, do.Prefer, do.Tell)
Prepare = Callable[[do.Launch, Slot, Sequence[int]], Order]


class Controller:
    """Drives one sweep to its end, or until `leave` is called."""

    def __init__(
        self,
        sweep: Sweep,
        directory: SweepDir,
        journal: Journal,
        clock: Clock,
        search: Search,
        launcher: Launcher,
        devices: Devices,
        prepare: Prepare,
        disk: DiskWatch,
        guard: Guard,
        suspicion: Suspicion,
        tracker: Tracker | None = None,
        view: View | None = None,
    ) -> None:
        self.sweep = sweep
        self.notices: deque[str] = deque(maxlen=NOTICES)
        self._directory = directory
        self._journal = journal
        self._clock = clock
        self._launcher = launcher
        self._prepare = prepare
        self._disk = disk
        self._guard = guard
        self._suspicion = suspicion
        self._tracker = tracker
        self._view = view
        self._supply = Supply(devices, self.note)
        self._sharer = Sharer(sweep, directory, devices, self.note) if devices.auto else None
        self._tempo = Tempo(directory.tempo, clock.now)
        self._effects: list[do.Effect] = []
        self._unhurried: list[do.Effect] = []  # for the sampler's thread, in order
        self._launched = 0.0  # when, last
        self._inbox: queue.SimpleQueue[e.Event] = queue.SimpleQueue()
        self._leaving = False
        self._stuck = ""
        self._next_look = self._next_picture = 0.0
        self._selector = selectors.DefaultSelector()
        self.attempts = Attempts(sweep, directory, self._selector, tracker, self.feed, self.note, self._ended)
        self._handlers: dict[type[do.Effect], Callable[[Any], None]] = {
            do.Ask: lambda _: search.ask(),
            do.Prefer: search.prefer,
            do.Judge: search.judge,
            do.Tell: search.tell,
            do.Launch: self._launch,
            do.Release: lambda order: self._supply.give_back(order.slot),
            do.Deliver: self.attempts.deliver,
            do.Discard: self._discard,
            do.MakeRun: lambda order: tracker.make_run(order.trial) if tracker else None,
            do.Finish: lambda _: None,
        }
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._bell = _hang_doorbell(directory)
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
        if self._bell is not None:
            self._selector.register(self._bell, selectors.EVENT_READ, self._rung)
        self._launcher_fd = launcher.fileno()
        self._selector.register(self._launcher_fd, selectors.EVENT_READ, self._answered)
        if tracker is not None:
            self._selector.register(tracker.fileno(), selectors.EVENT_READ, self._tracked)

    # ---- for other threads and for signal handlers

    def post(self, event: e.Event) -> None:
        self._inbox.put(event)
        os.eventfd_write(self._wake, 1)

    def leave(self) -> None:
        """Ends the loop and lets the trials train on."""
        self._leaving = True
        os.eventfd_write(self._wake, 1)

    def look_on(self, view: View) -> None:
        """Shows this view what happens from now on."""
        self._view = view

    # ---- the loop

    def run(self) -> None:
        woken = time.monotonic()
        while not self._leaving:
            self._turn()
            if self.sweep.state.ended and not self._stuck:
                break
            self._tempo.turned(time.monotonic() - woken)
            ready = self._selector.select(self._patience())
            woken = time.monotonic()
            for key, _ in ready:
                live = len(self.sweep.live)
                key.data()
                if len(self.sweep.live) < live and len(ready) > 1:
                    self._turn()  # its slot need not wait until the others that ended with it are looked at
        self._hand_to_sampler()
        self._show()  # once more, for what was noted in the last moment

    def _turn(self) -> None:
        self._disk.make_sure(self.sweep)
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK
            self._look()
        while True:
            while not self._inbox.empty():
                self.feed(self._inbox.get())
            if not self._stuck:
                for slot in self._supply.lease(self.sweep, now):
                    self.feed(e.SlotOffered(self._clock.now(), slot.id, slot.device))
            if not self._settle() or self._inbox.empty():
                break
        if now >= self._next_picture:
            self._next_picture = now + PICTURE
            self._show()

    def _show(self) -> None:
        if self._view is not None:
            self._view.picture(self.sweep, self._clock.now(), tuple(self.notices))

    def _patience(self) -> float:
        due = self._next_look
        if self._view is not None:
            due = min(due, self._next_picture)
        if self._unhurried:
            due = min(due, self._launched + LULL)
        probe = self._supply.patience(self.sweep)
        if probe is not None and not self._stuck:
            due = min(due, probe)
        return max(0.0, due - time.monotonic())

    def feed(self, event: e.Event) -> str:
        """Applies one event, journals it, and keeps its effects until the commit; returns why it does not fit."""
        try:
            effects = step(self.sweep, event)
        except IllegalEvent as error:
            log.info("dropped %s: %s", type(event).__name__, error)
            return str(error)
        self._journal.append(event)
        self._effects += effects
        if self._view is not None:
            self._view.saw(event, self.sweep)
        return ""

    def _settle(self) -> bool:
        """Commits, then carries out what follows; False while the disk refuses."""
        try:
            self._journal.commit(behind=True)
        except StorageError as error:
            if not self._stuck:
                self.note(f"{error.message}; no new trials until it can be written")
            self._stuck = error.message
            return False
        if self._stuck:
            self._stuck = ""
            self.note("the journal can be written again")
        effects, self._effects = self._effects, []
        # what a free slot waits for goes first: it does not depend on the others, whose own sequence stays
        for order in sorted(effects, key=lambda effect: not isinstance(effect, do.Launch)):
            if isinstance(order, _FOR_THE_SAMPLER):
                self._unhurried.append(order)
            else:
                self._handlers[type(order)](order)
        if self._sampler_may_work():
            self._hand_to_sampler()
        return True

    def _sampler_may_work(self) -> bool:
        """Not while trials are being started, which takes the same cores; at once if a slot waits for it."""
        waits = bool(self.sweep.offers) and not self.sweep.ready
        return waits or time.monotonic() >= self._launched + LULL

    def _hand_to_sampler(self) -> None:
        """In the order in which the machine gave them."""
        orders, self._unhurried = self._unhurried, []
        for order in orders:
            self._handlers[type(order)](order)

    def note(self, text: str) -> None:
        """Says something to the person who watches, and to the log."""
        log.warning("%s", text)
        self.notices.append(text)

    # ---- what wakes it

    def _woken(self) -> None:
        os.eventfd_read(self._wake)

    def _rung(self) -> None:
        """Who rang is a hint. After a burst some of it may be lost: look at all."""
        rung: set[bytes] = set()
        assert self._bell is not None
        try:
            while len(rung) < 8:
                rung.add(self._bell.recv(64))
        except BlockingIOError:
            pass
        if orders.RING in rung:
            self._take_orders()
        if len(rung) >= 4:
            self.attempts.read_all()
        else:
            self.attempts.read(rung)

    def _answered(self) -> None:
        for reply in self._launcher.replies():
            self.started(reply)
        if self._launcher.fileno() != self._launcher_fd:  # another nursery
            self._selector.unregister(self._launcher_fd)
            self._launcher_fd = self._launcher.fileno()
            self._selector.register(self._launcher_fd, selectors.EVENT_READ, self._answered)
            self.note("the nursery died; another took over")

    def started(self, reply: Reply) -> None:
        """What became of a launch."""
        if reply.trouble:
            self.note(reply.trouble)
        elif reply.started is None:
            self.feed(e.LaunchFailed(self._clock.now(), reply.trial, reply.attempt, reply.error))
        else:
            who = reply.started
            event = e.AttemptStarted(
                self._clock.now(), reply.trial, reply.attempt, who.pid, who.start_time, who.boot_id
            )
            self.feed(event)
            self.attempts.watch(reply.trial, reply.attempt, who.pidfd)

    def _ended(self, watch: Watch) -> e.AttemptEnded:
        """How an attempt ended, with what that says of its device."""
        self._disk.make_sure(self.sweep)
        ended = watch.end(self._clock.now(), self.sweep.config.get("failures", ()))
        ended = self._suspicion.end(self.sweep, ended, self.note)
        if ended.code is None and ended.signal is None and (left := end_orphans(watch.paths)):
            self.note(f"trial {watch.trial} lost its supervisor; {left} processes of it were ended")
        return self._sharer.ended(ended) if self._sharer else ended

    def _tracked(self) -> None:
        assert self._tracker is not None
        for answer in self._tracker.replies():
            if "run" in answer:
                trial, run_id = answer["run"]
                self.feed(e.RunLinked(self._clock.now(), trial, run_id))
            elif "collected" in answer:
                trial, attempt = answer["collected"]
                self.attempts.collected((trial, attempt))
            elif "error" in answer:
                self.note(f"MLflow: {answer['error']}; nothing is lost, it is sent later")
            elif "ok" in answer:
                self.note("MLflow answers again")
            elif "gone" in answer:
                self._selector.unregister(self._tracker.fileno())
                self._tracker.revive()
                self._selector.register(self._tracker.fileno(), selectors.EVENT_READ, self._tracked)
                self.note(f"MLflow: its follower ended ({answer['gone']}); another took over")

    def _take_orders(self) -> None:
        for path, order in orders.waiting(self._directory, self._clock.now()):
            refusal = order if isinstance(order, str) else self.feed(order)
            try:
                orders.answer(path, refusal)
            except OSError as error:  # it would be carried out again at every look
                self.note(f"cannot answer {path}: {error.strerror}; taken as read")
                path.unlink(missing_ok=True)

    # ---- once a second

    def _look(self) -> None:
        self.attempts.read_all()
        for event in self._disk.look(self.sweep):
            log.warning("%s: %s", type(event).__name__, getattr(event, "why", ""))
            self.feed(event)
        self._take_orders()
        self.attempts.look()
        self._supply.look()
        for look in (self._guard.look, self._suspicion.look):
            for event in look(self.sweep, self._clock.now()):
                self.feed(event)
        deadline = self.sweep.deadline()
        if deadline is not None and self._clock.now() >= deadline:
            self.feed(e.TimeUp(self._clock.now()))

    # ---- effects

    def _launch(self, order: do.Launch) -> None:
        self._launched = time.monotonic()
        slot, leases = self._supply.take(order.slot)
        try:
            self._launcher.launch(self._prepare(order, slot, leases))
        except OSError as error:
            self._disk.make_sure(self.sweep)
            cause = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
            self.post(e.LaunchFailed(self._clock.now(), order.trial, order.attempt, cause))

    def _discard(self, order: do.Discard) -> None:
        path = self._directory.path / order.directory
        if path.resolve().is_relative_to(self._directory.trials.resolve()):  # the trial wrote this path
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Gives back what it holds; live attempts are not touched."""
        self._supply.close()
        self.attempts.close()
        self._selector.close()
        os.close(self._wake)
        if self._bell is not None:
            self._bell.close()
            self._directory.doorbell.unlink(missing_ok=True)


def _hang_doorbell(directory: SweepDir) -> socket.socket | None:
    try:
        return doorbell.hang(directory)
    except OSError as error:
        log.warning("no doorbell at %s (%s): reports are looked for once a second", directory.doorbell, error)
        return None
