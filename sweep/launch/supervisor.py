"""The small parent process of one attempt. It outlives the controller, and it is what holds the lease.

Life
1.  Forked off the nursery; a session of its own; sub-reaper, so that every process of the attempt, however it was
    forked, becomes its child when its own parent ends. It forks the process that is to become the command. Both
    wait for an order, it for the nursery's, the child for its own; both end when nobody is left to give one.
2.  With the order, which brings the leases (one for each device), it writes `attempt.json`; only then, and put
    under the order's limits (`limits.py`), does the child get what to become. The command keeps a copy of the
    leases' descriptors: a lock lives as long as any process of the attempt that did not close it.
3.  Waits for signals, with all of them blocked: SIGCHLD (somebody ended), SIGUSR1 (there is a verdict),
    SIGTERM (the same as a verdict to stop). Between them it reads reports in the output, if it is told to.
    SIGIO tells that the output grows: it is kept within its size (`bounded.py`).
4.  A verdict starts the ladder: `grace` seconds for the script to see the file, SIGTERM to the tree,
    `kill_after` seconds later SIGKILL, again and again until nobody is left.
5.  When the command has ended, what is left of its tree is ended by the same ladder, without the grace. A tree
    that goes over a limit gets SIGKILL at once.
6.  When no child is left, `exit.json` is written whole, and the supervisor ends. That ends the lease.

If it is killed itself, the command dies with it (PR_SET_PDEATHSIG); without `exit.json` the attempt is LOST.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
import traceback
from typing import Any

from sweep.launch.bounded import BoundedOutput
from sweep.launch.limits import impose
from sweep.launch.output import OutputReader
from sweep.launch.process import become_subreaper, boot_id, descendants, die_with_parent, oom_kills, start_time
from sweep.launch.warm import Become
from sweep.trial import FULL, ReportFile, report_line

_AWAITED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGIO}
_FOREVER = 3600.0
LARGEST = 1 << 18  # bytes of one order
MOST_HANDLES = 253  # descriptors in one message: SCM_MAX_FD of the kernel
_LOOK = 0.05  # between two looks at the output
LEFTOVER_KILL_AFTER = 2.0


def supervise(channel: socket.socket, lock: int, warm: bool) -> None:
    """Waits for an order and runs that attempt to its end; never returns (os._exit).

    In a warm child it raises Become. channel: where the order (see `local.py`) and the descriptors of the locked
    leases come from. lock: the nursery's, closed when `attempt.json` is written. warm: whether scripts may be
    forked instead of started.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    try:
        os.setsid()
        become_subreaper()
        child = _Child(channel, lock, warm)
        order, leases = receive(channel)
    except Become:
        raise
    except (OSError, ValueError):  # no order came: the nursery is gone
        os._exit(0)
    try:
        channel.close()
        _Attempt(order, leases, lock, child).run()
        os._exit(0)
    except BaseException:
        try:
            with open(os.path.join(order["directory"], "output.log"), "a") as log:
                traceback.print_exc(file=log)
        except OSError:
            pass  # the folder is gone, or the disk is full: there is nobody to tell
        os._exit(70)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """An order and the descriptors that came with it. Raises ValueError where the other end is closed."""
    data, handles, _, _ = socket.recv_fds(channel, LARGEST, MOST_HANDLES)
    return json.loads(data), list(handles)


class _Child:
    """The process that becomes the command, forked before it is known what that is. Raises OSError, Become."""

    def __init__(self, order_channel: socket.socket, lock: int, warm: bool) -> None:
        parent = os.getpid()
        self.identity = {"pid": parent, "start_time": start_time(parent), "boot_id": boot_id()}
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            die_with_parent(parent)
            os.close(lock)
            order_channel.close()
            self.channel.close()
            _become(theirs, warm)
        theirs.close()

    def become(self, order: dict[str, Any], output: int, leases: list[int]) -> str | None:
        """Lets it go on; returns what went wrong before the command could start."""
        words = {key: order[key] for key in ("argv", "env", "cwd", "python")}
        with self.channel:
            socket.send_fds(self.channel, [json.dumps(words).encode()], [output, *leases])
            return self.channel.recv(4096).decode() or None


def _become(channel: socket.socket, warm: bool) -> None:
    """Becomes the command, once told which. What goes wrong before that is sent back. Raises Become."""
    try:
        order, (output, *leases) = receive(channel)
    except (OSError, ValueError):
        os._exit(127)  # the supervisor is gone, or could not write attempt.json
    argv = order["argv"]
    warm = warm and order["python"]
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for handle, number in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(handle, number)
        for handle in (nothing, output):
            os.close(handle)
        for lease in leases:
            os.set_inheritable(lease, True)
        os.chdir(order["cwd"])
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if not warm:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python, warm or not, ignores them
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.environ.update(order["env"])
        if not warm:
            os.execvp(argv[0], argv)
    except OSError as error:
        where = error.filename or argv[0]
        channel.send(f"{error.strerror}: {where}".encode())
        os._exit(127)
    channel.close()
    raise Become(argv)


class _Attempt:
    def __init__(self, order: dict[str, Any], leases: list[int], lock: int, child: _Child) -> None:
        self.order = order
        self.leases = leases
        self.lock = lock
        self.child = child
        self.pid = child.pid
        self.directory = order["directory"]
        self.started = time.time()
        self.code: int | None = None
        self.signal: int | None = None
        self.ended_at: float | None = None  # monotonic, when the command itself ended
        self.signalled = False
        self.excessive = False  # it went over a limit
        self.softly = signal.SIGTERM  # the first signal of the ladder
        self.oom_kills = oom_kills()
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
        self._start()
        self.output = BoundedOutput(self._path("output.log"), self.order["keep"])
        if self.reader is not None:  # opened after the fork: a warm child inherits what is open
            self.reports = ReportFile(self.directory, self.order["trial"], self.order["attempt"])
        while self._reap():
            self._read_output()
            self._look_at_limits()
            self._climb()
            self.output.look()
            heard = signal.sigtimedwait(_AWAITED, self._patience())
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._hear(heard.si_signo)
        self._read_output(last=True)
        self.output.finish()
        self._write_exit()

    # -- start

    def _start(self) -> None:
        output = os.open(self._path("output.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._write("attempt.json", {**self._facts(), "pid": self.pid, "started": self.started})
        os.close(self.lock)
        for lease in self.leases:
            self._sign(lease)
        self.limits = impose(self.order["limits"], self.pid)
        self.error = self.child.become(self.order, output, self.leases)
        os.close(output)

    def _sign(self, lease: int) -> None:
        """Adds to the lock file which attempt holds it; what the controller wrote stays."""
        try:
            facts = json.loads(os.pread(lease, 1 << 16, 0))
            facts |= {"trial": self.order["trial"], "attempt": self.order["attempt"], "pid": os.getpid()}
            os.ftruncate(lease, os.pwrite(lease, json.dumps(facts).encode(), 0))
        except (OSError, ValueError):
            pass  # a courtesy to `sweep devices`; the lock itself is what counts

    def _facts(self) -> dict[str, Any]:
        keys = ("trial", "attempt", "argv", "cwd", "env", "slot", "device")
        return {**{key: self.order[key] for key in keys}, "supervisor": self.child.identity}

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
        if self.limits is not None:
            waits.append(self.limits.patience())
        if self.reader is not None:
            waits.append(_LOOK)
        return max(0.0, min(*waits, self.output.patience(), _FOREVER))

    # -- verdicts and the ladder

    def _hear(self, number: int) -> None:
        if number == signal.SIGIO:
            self.output.stir()
            return
        now = time.monotonic()
        grace, self.kill_after = 0.0, 5.0
        if number == signal.SIGUSR1:
            try:
                with open(self._path("verdict.json"), "rb") as file:
                    verdict = json.load(file)
            except (OSError, ValueError):
                return
            grace, self.kill_after = float(verdict["grace"]), float(verdict["kill_after"])
            if verdict.get("abort"):
                self.softly = signal.SIGABRT
        if self.term_at is None or now + grace < self.term_at:
            self.term_at = now + grace

    def _climb(self) -> None:
        now = time.monotonic()
        if self.ended_at is not None and self.kill_at is None:
            self.term_at, self.kill_after = now, min(self.kill_after, LEFTOVER_KILL_AFTER)
        if self.term_at is not None and now >= self.term_at:
            self._signal_tree(self.softly)
            kill_at = now + self.kill_after
            self.term_at, self.kill_at = None, min(kill_at, self.kill_at or kill_at)
        if self.kill_at is not None and now >= self.kill_at:
            self._signal_tree(signal.SIGKILL)
            self.rescan = min(1.0, 2 * self.rescan)
            self.kill_at = now + self.rescan

    def _look_at_limits(self) -> None:
        if self.limits is not None:
            self.limits.look()
            if self.limits.over and not self.excessive:
                self.excessive = True
                self.kill_at = time.monotonic()

    def _signal_tree(self, number: int) -> None:
        tree = descendants(os.getpid())
        if tree and self.ended_at is None and not self.excessive:
            self.signalled = True
        for pid in tree:
            try:
                if number == signal.SIGABRT:
                    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))  # the stacks are wanted, not its memory
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # one that is stopped would not hear of it
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
                "oom_killed": self.code != 0 and oom_kills() > self.oom_kills,
                **self._limit_facts(),
            },
        )

    def _limit_facts(self) -> dict[str, Any]:
        if self.limits is None:
            return {}
        self.limits.look()  # the last process may have ended by it
        self.limits.close()
        facts = {"by": self.limits.by, "over": self.limits.over, "peak": self.limits.peak}
        return {"limits": {**self.order["limits"], **facts}}

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
