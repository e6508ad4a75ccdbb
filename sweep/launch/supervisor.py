"""The small parent process of one attempt. It outlives the controller, and it is what holds the lease.

Life
1.  Forked off the nursery; a session of its own; sub-reaper, so that every process of the attempt, however it was
    forked, becomes its child when its own parent ends.
2.  Forks the command, which waits until `attempt.json` is on disk. The command keeps a copy of the
    lease's descriptor: the lock lives as long as any process of the attempt that did not close it.
3.  Waits for signals, with all of them blocked: SIGCHLD (somebody ended), SIGUSR1 (there is a verdict),
    SIGTERM (the same as a verdict to stop). Between them it reads reports in the output, if it is told to.
4.  A verdict starts the ladder: `grace` seconds for the script to see the file, SIGTERM to the tree,
    `kill_after` seconds later SIGKILL, again and again until nobody is left.
5.  When the command has ended, what is left of its tree is ended by the same ladder, without the grace.
6.  When no child is left, `exit.json` is written whole, and the supervisor ends. That ends the lease.

If it is killed itself, the command dies with it (PR_SET_PDEATHSIG); without `exit.json` the attempt is LOST.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import traceback
from typing import Any

from sweep.launch.output import OutputReader
from sweep.launch.process import become_subreaper, boot_id, descendants, die_with_parent, start_time
from sweep.launch.warm import Become
from sweep.trial import FULL, ReportFile, report_line

_AWAITED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM}
_FOREVER = 3600.0
_LOOK = 0.05  # between two looks at the output
LEFTOVER_KILL_AFTER = 2.0


def supervise(order: dict[str, Any], lease: int, lock: int, warm: bool) -> None:
    """Runs one attempt to its end; never returns (os._exit), except in the warm child: raises Become.

    order: see `local.py`. lease: descriptor of the locked lease. lock: the nursery's, closed when `attempt.json`
    is written. warm: fork the script instead of starting it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    try:
        os.setsid()
        become_subreaper()
        _Attempt(order, lease, lock, warm).run()
        os._exit(0)
    except Become:
        raise
    except BaseException:
        with open(os.path.join(order["directory"], "output.log"), "a") as log:
            traceback.print_exc(file=log)
        os._exit(70)


class _Attempt:
    def __init__(self, order: dict[str, Any], lease: int, lock: int, warm: bool) -> None:
        self.order = order
        self.lease = lease
        self.lock = lock
        self.warm = warm
        self.directory = order["directory"]
        self.started = time.time()
        self.code: int | None = None
        self.signal: int | None = None
        self.ended_at: float | None = None  # monotonic, when the command itself ended
        self.signalled = False
        self.error: str | None = None
        self.term_at: float | None = None
        self.kill_at: float | None = None
        self.kill_after = LEFTOVER_KILL_AFTER
        self.rescan = 0.01  # between two rounds of SIGKILL; a process in the kernel may take its time
        report = order["report"]
        self.reader: OutputReader | None = None
        if report["mode"] in ("pattern", "json"):
            self.reader = OutputReader(self._path("output.log"), report["mode"], report["patterns"])

    def run(self) -> None:
        self.pid = self._start()
        if self.reader is not None:  # opened after the fork: a warm child inherits what is open
            self.reports = ReportFile(self.directory, self.order["trial"], self.order["attempt"])
        while self._reap():
            self._read_output()
            self._climb()
            heard = signal.sigtimedwait(_AWAITED, self._patience())
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._hear(heard.si_signo)
        self._read_output(last=True)
        self._write_exit()

    # -- start

    def _start(self) -> int:
        output = os.open(self._path("output.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        go, gate = os.pipe()
        complaint, complain = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(gate)
            os.close(complaint)
            self._child(parent, output, go, complain)
        for handle in (output, go, complain):
            os.close(handle)
        self._write("attempt.json", {**self._facts(), "pid": pid, "started": self.started})
        os.close(self.lock)
        self._sign_lease()
        os.write(gate, b"!")
        os.close(gate)
        self.error = os.read(complaint, 4096).decode() or None
        os.close(complaint)
        return pid

    def _child(self, parent: int, output: int, go: int, complain: int) -> None:
        """Becomes the command. Whatever goes wrong before that is written to `complain`."""
        try:
            os.setsid()
            die_with_parent(parent)
            os.close(self.lock)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.set_inheritable(self.lease, True)
            if not os.read(go, 1):
                os._exit(127)  # the supervisor could not write attempt.json
            for handle in (nothing, output, go):
                os.close(handle)
            os.chdir(self.order["cwd"])
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            if not self.warm:
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python, warm or not, ignores them
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.environ.update(self.order["env"])
            argv = self.order["argv"]
            if not self.warm:
                os.execvp(argv[0], argv)
        except OSError as error:
            where = error.filename or self.order["argv"][0]
            os.write(complain, f"{error.strerror}: {where}".encode())
            os._exit(127)
        os.close(complain)
        raise Become(argv)

    def _sign_lease(self) -> None:
        """Adds to the lock file which attempt holds it; what the controller wrote stays."""
        try:
            facts = json.loads(os.pread(self.lease, 1 << 16, 0))
            facts |= {"trial": self.order["trial"], "attempt": self.order["attempt"], "pid": os.getpid()}
            os.ftruncate(self.lease, os.pwrite(self.lease, json.dumps(facts).encode(), 0))
        except (OSError, ValueError):
            pass  # a courtesy to `sweep devices`; the lock itself is what counts

    def _facts(self) -> dict[str, Any]:
        order, me = self.order, os.getpid()
        keys = ("trial", "attempt", "argv", "cwd", "env", "slot", "device")
        identity = {"pid": me, "start_time": start_time(me), "boot_id": boot_id()}
        return {**{key: order[key] for key in keys}, "supervisor": identity}

    # -- wait

    def _reap(self) -> bool:
        """Collects who has ended; False when no child is left, which is the end of the whole tree."""
        while True:
            try:
                pid, status, _ = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.ended_at = time.monotonic()
                code = os.waitstatus_to_exitcode(status)
                self.code, self.signal = (code, None) if code >= 0 else (None, -code)

    def _patience(self) -> float:
        """Seconds until something has to be done even if no signal comes."""
        waits = [at - time.monotonic() for at in (self.term_at, self.kill_at) if at is not None]
        if self.reader is not None:
            waits.append(_LOOK)
        return max(0.0, min(waits, default=_FOREVER))

    # -- verdicts and the ladder

    def _hear(self, number: int) -> None:
        now = time.monotonic()
        grace, self.kill_after = 0.0, 5.0
        if number == signal.SIGUSR1:
            try:
                with open(self._path("verdict.json"), "rb") as file:
                    verdict = json.load(file)
            except (OSError, ValueError):
                return
            grace, self.kill_after = float(verdict["grace"]), float(verdict["kill_after"])
        if self.term_at is None or now + grace < self.term_at:
            self.term_at = now + grace

    def _climb(self) -> None:
        now = time.monotonic()
        if self.ended_at is not None and self.kill_at is None:
            self.term_at, self.kill_after = now, min(self.kill_after, LEFTOVER_KILL_AFTER)
        if self.term_at is not None and now >= self.term_at:
            self._signal_tree(signal.SIGTERM)
            kill_at = now + self.kill_after
            self.term_at, self.kill_at = None, min(kill_at, self.kill_at or kill_at)
        if self.kill_at is not None and now >= self.kill_at:
            self._signal_tree(signal.SIGKILL)
            self.rescan = min(1.0, 2 * self.rescan)
            self.kill_at = now + self.rescan

    def _signal_tree(self, number: int) -> None:
        tree = descendants(os.getpid())
        if tree and self.ended_at is None:
            self.signalled = True
        for pid in tree:
            try:
                os.kill(pid, number)
            except OSError:
                pass  # ended in between

    # -- output and end

    def _read_output(self, last: bool = False) -> None:
        if self.reader is not None:
            for step, metrics in self.reader.read(last):
                self.reports.write(report_line(step, metrics))
            if last:
                self.reports.finish()

    def _write_exit(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._write(
            "exit.json",
            {
                "code": self.code if self.error is None else 127,
                "signal": self.signal,
                "signalled": self.signalled,
                "error": self.error,
                "started": self.started,
                "ended": time.time(),
                "max_rss": usage.ru_maxrss * 1024,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
            },
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _write(self, name: str, value: dict[str, Any]) -> None:
        """Waits while the disk is full: without its files the attempt would be lost."""
        scratch = self._path(f".{name}.{os.getpid()}")
        while True:
            try:
                with open(scratch, "w") as file:
                    json.dump(value, file)
                os.rename(scratch, self._path(name))
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
            time.sleep(0.2)
