"""One attempt as the controller sees it: its files, read into events."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweep import rundir
from sweep.core import events as e
from sweep.core.codec import number_from_json
from sweep.core.evidence import evidence, excess
from sweep.launch.limits import clear_all
from sweep.rundir import AttemptDir

_TAIL = 16 << 10
_LONGEST_LINE = 1 << 20
_KILLED = re.compile(r"\bkilled\b", re.IGNORECASE)  # a shell, PyTorch's DataLoader and such, of a child of theirs


class Watch:
    """Follows one attempt's `reports.jsonl` and knows how to read its end.

    skip: lines that the journal has already (of an attempt that is taken over from an earlier controller).
    """

    def __init__(self, trial: int, attempt: int, paths: AttemptDir, pidfd: int | None, skip: int = 0) -> None:
        self.trial = trial
        self.attempt = attempt
        self.paths = paths
        self.pidfd = pidfd
        self._skip = skip
        self._file: int | None = None
        self._offset = 0
        self._acknowledged: str | None = None

    def read(self, complain: Callable[[str], None]) -> list[e.Event]:
        """The events of the lines that are new and whole; `complain` gets what is no report."""
        found: list[e.Event] = []
        for line in self._lines(complain):
            try:
                event = self._event(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                complain(f"trial {self.trial}: {line[:80]!r} in {self.paths.reports.name} is no report; ignored")
                continue
            if event is None:
                continue
            if self._skip:
                self._skip -= 1
            else:
                found.append(event)
        return found

    def _lines(self, complain: Callable[[str], None]) -> list[bytes]:
        if self._file is None:
            try:
                self._file = os.open(self.paths.reports, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return []
        data = os.pread(self._file, 1 << 22, self._offset)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) > _LONGEST_LINE:
            complain(f"trial {self.trial}: a line of {self.paths.reports.name} has no end; ignored")
            end = len(data)
        self._offset += end
        lines = data[:end].splitlines()
        return lines + self._lines(complain) if len(data) == 1 << 22 else lines

    def _event(self, record: dict[str, Any]) -> e.Event | None:
        if "acknowledged" in record:
            self._acknowledged = str(record["acknowledged"])
            return None
        at = float(record["at"])
        if "checkpoint" in record:
            return e.Checkpointed(
                at, self.trial, self.attempt, int(record["checkpoint"]), str(record["directory"])
            )
        metrics = {str(name): number_from_json(value) for name, value in record["metrics"].items()}
        return e.Reported(at, self.trial, self.attempt, int(record["step"]), metrics)

    def end(self, now: float, rules: Sequence[Mapping[str, Any]] = ()) -> e.AttemptEnded:
        """How it ended, from `exit.json`, the acknowledgement and the last output; lost without the first.

        rules: `failures` of space.yaml.
        """
        facts = rundir.read_json(self.paths.exit)
        if facts is None:
            return e.AttemptEnded(now, self.trial, self.attempt)
        cause = hint = action = ""
        if facts["error"]:
            cause = f"cannot start it: {facts['error']}"
        elif facts["code"] != 0:
            tail = self._tail()
            cause, hint, action = evidence(tail, rules)
            # the kernel counts for all trials together: it was this one if something of it was killed
            if facts.get("oom_killed") and (facts["signal"] == signal.SIGKILL or _KILLED.search(tail)):
                cause, hint = "the kernel killed it for want of memory", "oom"
            if over := excess(facts.get("limits", {})):
                cause, hint = over
        return e.AttemptEnded(
            min(now, max(facts["started"], facts["ended"])),
            self.trial,
            self.attempt,
            code=facts["code"],
            signal=facts["signal"],
            acknowledged=self._acknowledged,
            signalled=facts["signalled"],
            cause=cause,
            hint=hint,
            action=action,
            peak=self._peak(facts) if hint == "oom" else {},
        )

    def _peak(self, facts: Mapping[str, Any]) -> dict[str, float]:
        """The most that was seen: of its largest process, and every few seconds of all together and its device.

        What its limit was measured by says more of the memory than these, which count what others hold as well.
        """
        peak = {"memory": float(facts["max_rss"])}
        try:
            for line in self.paths.usage.read_bytes().splitlines():
                used = json.loads(line)["metrics"]
                for key in used.keys() & {"memory", "device_memory"}:
                    peak[key] = max(used[key], peak.get(key, 0.0))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        limits = facts.get("limits", {})
        if limits.get("over") == "memory" and limits["peak"]:
            peak["memory"] = float(limits["peak"])
        return peak

    def _tail(self) -> str:
        try:
            with open(self.paths.output, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def close(self) -> None:
        for handle in (self.pidfd, self._file):
            if handle is not None:
                os.close(handle)
        self.pidfd = self._file = None


def end_orphans(paths: AttemptDir) -> int:
    """Kills what is left of an attempt whose supervisor is gone, known by its environment; returns how many."""
    mark = b"SWEEP_ATTEMPT_DIR=" + os.fsencode(paths.path)
    killed: set[int] = set()
    while found := _kill_marked(mark) - killed:  # again, for what was forked meanwhile
        killed |= found
    clear_all()
    return len(killed)


def _kill_marked(mark: bytes) -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            handle = os.pidfd_open(int(name))
        except OSError:
            continue
        try:  # the descriptor was opened first: what is killed is what was looked at
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    found.add(int(name))
        except OSError:
            pass
        finally:
            os.close(handle)
    return found
