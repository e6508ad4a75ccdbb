"""The trial's side: what a training script sees of the sweep that runs it.

Standard library only, and little of it: this module is imported by every trial, so what costs milliseconds
(`json`, `socket`, `shutil`, `typing`) is imported where it is first needed, or avoided.

Outside a sweep `current_trial()` gives a trial without a number: it has no parameters, takes reports and forgets
them, and writes checkpoints to `./checkpoints/<step>`.

The order inside `report()` is what makes it safe: first the line in `reports.jsonl` (one write to a descriptor
opened with O_APPEND, so lines of several processes never mix), then the doorbell (a datagram that may be lost),
then the look for a verdict. The line outlives a kill -9 of everybody; nothing is synced to the disk here. A line
that a full disk has no room for is kept and written before the next one, at the latest when the script ends.
"""

from __future__ import annotations

import errno
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, SupportsFloat


FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = {
    "prune": "the trial was told to prune",
    "stall": "nothing was heard of the trial for too long",
    "time": "the trial's time is up",
    "move": "the trial goes on elsewhere",
    "stop": "the trial was told to stop",
    "kill": "the trial was told to stop at once",
}
PATIENCE = 600.0  # seconds that an ended script waits for room on the disk


class TrialPruned(Exception):
    """Raised by `report()` when the trial should end; a script may raise it by itself to give up."""


class TrialStopped(TrialPruned):
    """The trial should end because somebody stopped it, not because it was losing."""


class Trial:
    """One attempt at one configuration; get it from `current_trial()`.

    number, attempt: None outside a sweep. directory: the attempt's own folder, for whatever the script keeps.
    step: the last one reported.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.sweep = environ.get("SWEEP_ID")
        folder = environ.get("SWEEP_ATTEMPT_DIR")
        self.directory: str | None = folder
        self.number = int(environ["SWEEP_TRIAL"]) if folder else None
        self.attempt = int(environ["SWEEP_ATTEMPT"]) if folder else None
        self._params_file = environ.get("SWEEP_PARAMS")
        self._params: dict[str, Any] | None = None
        self._verdict_file = f"{folder}/verdict.json"
        self.step: int | None = None
        self._ended = False
        self._window = False  # a stop was seen, and one more checkpoint is allowed
        self._checkpoints = False
        self._reports = ReportFile(folder, self.number, self.attempt) if folder else None

    if not TYPE_CHECKING:  # to a type checker a name that is not here stays a mistake

        def __getattr__(self, name):
            """An objective written for Optuna asks its trial for more: says what stands for that here."""
            hint = ""
            if name.startswith("suggest_"):
                hint = ": the ranges stand in space.yaml, and trial.params has what was chosen"
            elif name == "should_prune":
                hint = ": report() raises sweep.TrialPruned when the trial should end"
            raise AttributeError(f"a sweep.Trial has no {name}{hint}")

    @property
    def params(self) -> dict[str, Any]:
        """This trial's configuration, constants included; empty outside a sweep."""
        if self._params is None:
            self._params = {}
            if self._params_file:
                import json

                with open(self._params_file, "rb") as file:
                    self._params = json.load(file)
        assert self._params is not None
        return self._params

    def report(
        self, step: int, metrics: Mapping[str, SupportsFloat] | None = None, /, **more: SupportsFloat
    ) -> None:
        """Says how far the trial is, at a step that never goes back.

        step: 0 or more. metrics: numbers, by keyword or (for odd names) as a mapping. NaN and infinity are taken.
        Raises TrialPruned when the trial should end, ValueError for a step that goes back, TypeError for a metric
        that is not a number.
        """
        step = _whole(step)
        if self.step is not None and step < self.step:
            raise ValueError(f"report({step}): an earlier report was for step {self.step}; steps never go back")
        if step < 0:
            raise ValueError(f"report({step}): steps count from 0")
        line = report_line(step, {**(metrics or {}), **more})
        self.step = step
        if self._reports is None:
            return
        if self._ended:
            raise TrialPruned("the trial was told to end")
        self._reports.write(line)
        self._heed()

    def checkpoint(self, step: int) -> Checkpoint:
        """`with trial.checkpoint(step) as directory:` fills a folder that appears whole or not at all."""
        self._checkpoints = True
        return Checkpoint(self, _whole(step))

    def resume(self) -> str | None:
        """The folder of this trial's newest whole checkpoint, from this attempt or an earlier one, or None."""
        self._checkpoints = True
        if self.directory is None or self.attempt is None:
            return None
        for attempt in range(self.attempt, 0, -1):
            folder = os.path.join(os.path.dirname(self.directory), str(attempt), "checkpoints")
            try:
                steps = [int(name) for name in os.listdir(folder) if name.isdigit()]
            except OSError:
                continue
            if steps:
                return os.path.join(folder, str(max(steps)))
        return None

    def _heed(self) -> None:
        """Looks for a verdict. A stop leaves room for one more checkpoint, if the script makes any."""
        try:
            os.stat(self._verdict_file)
        except OSError:
            return
        import json

        with open(self._verdict_file, "rb") as file:
            verdict = json.load(file)["verdict"]
        if verdict in ("stop", "time", "move") and self._checkpoints and not self._window:
            self._window = True
            return
        self._end(verdict)

    def _end(self, verdict: str) -> None:
        self.acknowledge("prune" if verdict == "prune" else "stop")
        raise (TrialPruned if verdict == "prune" else TrialStopped)(_SAID[verdict])

    def acknowledge(self, verdict: str) -> None:
        """Puts on record that the script itself ends by this verdict (once)."""
        if self._reports is not None and not self._ended:
            self._ended = True
            self._reports.write(f'{{"acknowledged":"{verdict}","at":{time.time():.6f}}}\n')


class ReportFile:
    """The attempt's `reports.jsonl`, and the bell that says that it has grown."""

    def __init__(self, folder: str, trial: object, attempt: object) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(f"{folder}/reports.jsonl", flags, 0o600)
        self._ring = f"{trial}/{attempt}".encode()
        self._waiting = b""  # what the disk has had no room for yet
        # socket costs 3 ms to import, its C half nothing; sun_path takes 107 bytes, so go through /proc for more
        import _socket

        self._bell = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._bell.setblocking(False)
        sweep_folder = os.path.dirname(os.path.dirname(os.path.dirname(folder)))
        self._address = f"{sweep_folder}/doorbell"
        if len(os.fsencode(self._address)) > 100:
            self._folder = os.open(sweep_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._address = f"/proc/self/fd/{self._folder}/doorbell"

    def write(self, line: str) -> None:
        """Raises OSError, but not for a full disk."""
        self._waiting += line.encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if error.errno not in FULL:
                raise
        try:
            self._bell.sendto(self._ring, self._address)
        except OSError:
            pass  # no controller at the moment, or one that is behind: it reads the file anyway

    def finish(self) -> None:
        """Waits until the disk has room for what is left, but not for ever."""
        until = time.monotonic() + PATIENCE
        while self._waiting and time.monotonic() < until:
            time.sleep(0.2)
            self.write("")


def report_line(step: int, metrics: Mapping[str, SupportsFloat]) -> str:
    """One line of `reports.jsonl`. Raises TypeError for a metric that is not a number."""
    text = ",".join([f"{_quoted(name)}:{_number(name, value)}" for name, value in metrics.items()])
    return f'{{"step":{step},"at":{time.time():.6f},"metrics":{{{text}}}}}\n'


class Checkpoint:
    """A folder under another name until it is whole and on the disk; then it gets its own name at once."""

    def __init__(self, trial: Trial, step: int) -> None:
        self._trial = trial
        self._step = step
        parent = os.path.join(trial.directory or ".", "checkpoints")
        self._final = os.path.join(parent, str(step))
        self._scratch = os.path.join(parent, f".{step}.{os.getpid()}")

    def __enter__(self) -> str:
        self._clear(self._scratch)
        os.makedirs(os.path.dirname(self._scratch), 0o700, exist_ok=True)  # only the last of several has the mode
        os.mkdir(self._scratch, 0o700)
        return self._scratch

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self._clear(self._scratch)
            return
        for folder, _folders, files in os.walk(self._scratch):
            for path in [folder, *(os.path.join(folder, name) for name in files)]:
                if os.path.islink(path):
                    continue
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        old = f"{self._scratch}.old"
        if os.path.exists(self._final):
            os.rename(self._final, old)
        os.rename(self._scratch, self._final)
        self._clear(old)
        trial = self._trial
        if trial._reports is not None:
            where = os.path.join("trials", str(trial.number), str(trial.attempt), "checkpoints", str(self._step))
            trial._reports.write(f'{{"checkpoint":{self._step},"at":{time.time():.6f},"directory":"{where}"}}\n')
            if trial._window:
                trial._end("stop")

    @staticmethod
    def _clear(path: str) -> None:
        if os.path.lexists(path):
            import shutil

            shutil.rmtree(path)


_current: Trial | None = None


def current_trial() -> Trial:
    """The trial that this process works on; the same object at every call."""
    global _current
    if _current is None:
        _current = Trial(os.environ)
        if _current._reports is not None:
            import atexit

            atexit.register(_current._reports.finish)
            _quiet_end(_current)
    return _current


def _quiet_end(trial: Trial) -> None:
    """An uncaught TrialPruned is an end, not an error: one line instead of a traceback."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, TrialPruned):
            trial.acknowledge("stop" if issubclass(kind, TrialStopped) else "prune")
            print(f"sweep: trial {trial.number} ends at step {trial.step}: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook


def _whole(step: Any) -> int:
    number = int(step)
    if number != step:
        raise TypeError(f"a step is a whole number, not {step!r}")
    return number


def _number(name: str, value: Any) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"report: {name} is a {type(value).__name__} ({value!r:.60}), not a number") from None
    if number != number:
        return '"NaN"'
    if number in (float("inf"), float("-inf")):
        return '"Infinity"' if number > 0 else '"-Infinity"'
    return repr(number)


def _quoted(name: object) -> str:
    text = str(name)
    if text.isidentifier() and text.isascii():
        return f'"{text}"'
    import json

    return json.dumps(text)
