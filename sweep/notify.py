"""What `on_fail` and `on_finish` ask for, done once an ending: a command, a webhook, the next file of a chain.

Rules
1.  It is done after the sweep has ended and its controller let go of it, so nothing here changes its result or its
    exit code, or keeps `sweep resume` from it.
2.  `told.json` says what was done about the present ending (the sweep's `endings` counts them), written after each
    hook. A kill -9 in between makes one hook happen twice, never not at all: the next `sweep resume` does what is
    not in there. Commands and webhooks get the ending's number, to know a second time by.
3.  A next sweep is started exactly once. Its journal names the ending and the hook that started it before anything
    of it runs; whoever starts one looks for that first, under `hooks.lock`, which the starting process inherits:
    while one is on its way, nobody else looks.
4.  After you stop a sweep, or drain it, a chain goes no further; messages are sent all the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sweep import journal, rundir
from sweep.config.rounds import Hook
from sweep.core.model import Sweep, SweepState
from sweep.errors import JournalError
from sweep.prepare import interpreter
from sweep.rundir import SweepDir

SAID = 500  # characters of an error that are kept


def due(sweep: Sweep) -> dict[str, Hook]:
    """What the present ending asks for, by the key in the file: on_fail, on_finish, or on_finish[1] in a list."""
    if not sweep.state.ended:
        return {}
    keys = ("on_fail", "on_finish") if sweep.state is SweepState.FAILED else ("on_finish",)
    hooks = {key: sweep.config.get(key, []) for key in keys}
    return {
        key if len(several) == 1 else f"{key}[{index}]": Hook.model_validate(one)
        for key, several in hooks.items()
        for index, one in enumerate(several)
    }


def told(sweep: Sweep, directory: SweepDir) -> dict[str, dict[str, Any]]:
    """What has been done about the present ending: key -> {at, said, failed}."""
    known = rundir.read_json(directory.told) or {}
    return dict(known["hooks"]) if known.get("ending") == sweep.endings else {}


@dataclass(frozen=True)
class _Ending:
    sweep: Sweep
    directory: SweepDir
    document: dict[str, Any]
    environ: Mapping[str, str]
    lock: int

    @property
    def project(self) -> Path:
        return self.directory.path.parent.parent


def tell(
    sweep: Sweep,
    directory: SweepDir,
    describe: Callable[..., dict[str, Any]],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Does what is due and not done. describe: `sweep_document`; say: for who watches.

    Whatever goes wrong is written down, and raises nothing. Only for a process that has let go of the sweep.
    """
    hooks = due(sweep)
    if not hooks.keys() - told(sweep, directory).keys():
        return
    try:
        with _lock(directory) as lock, _unbothered_by_hangup():
            if (rundir.read_json(directory.told) or {}).get("ending", 0) > sweep.endings:
                return  # it was extended meanwhile, and has ended again
            document = describe(sweep, directory, controller_alive=False)
            rundir.write_json(directory.result, document)
            ending = _Ending(sweep, directory, document, environ, lock)
            done = told(sweep, directory)
            for key in [key for key in hooks if key not in done]:
                done[key] = _do(key, hooks[key], ending)
                rundir.write_json(directory.told, {"ending": sweep.endings, "hooks": done})
                text = f"{key}: {done[key]['said']}"
                say(text)
                _log(directory, text)
    except KeyboardInterrupt:
        say(f"interrupted; `sweep resume {sweep.id}` does what is left of on_finish")
    except OSError as error:
        say(f"on_finish: {error.strerror}: {error.filename}; `sweep resume {sweep.id}` tries again")


def _do(key: str, hook: Hook, ending: _Ending) -> dict[str, Any]:
    try:
        if hook.webhook is not None:
            from sweep.webhook import post  # 40 ms, which `sweep status` does not need

            once = f"{ending.sweep.id}/{ending.sweep.endings}/{key}"
            said, failed = post(hook, once, ending.document, ending.environ)
        elif hook.run is not None:
            said, failed = _next_round(key, hook, ending)
        else:
            said, failed = _command(key, hook, ending)
    except KeyboardInterrupt:
        said, failed = "interrupted", True
    except OSError as error:
        said, failed = f"{error.strerror}: {error.filename}", True
    return {"at": time.time(), "said": said, "failed": failed}


# ---- a command


def _command(key: str, hook: Hook, ending: _Ending) -> tuple[str, bool]:
    assert hook.command is not None
    document, directory = ending.document, ending.directory
    best = document["best"] or {"number": "", "values": [""], "checkpoint": None}
    given = {
        "SWEEP_ID": document["id"],
        "SWEEP_STATE": document["state"],
        "SWEEP_WHY": document["why"],
        "SWEEP_DIRECTORY": document["directory"],
        "SWEEP_ENDING": str(ending.sweep.endings),
        "SWEEP_BEST_VALUE": str(best["values"][0]),
        "SWEEP_BEST_TRIAL": str(best["number"]),
        "SWEEP_BEST_CHECKPOINT": best["checkpoint"] or "",
        "SWEEP_RESULT": str(directory.result),
    }
    argv = [interpreter(hook.command[0], ending.environ), *hook.command[1:]]
    with _output(directory, key) as output:
        process = subprocess.Popen(
            argv,
            cwd=ending.project,
            env={**ending.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a group of its own, to be ended as a whole
        )
        try:
            code = process.wait(hook.timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"ended after {hook.timeout:g} s, its timeout; its output is in {directory.hooks_log}", True
        except KeyboardInterrupt:
            _end(process)
            raise
    return ("done", False) if code == 0 else (f"exit code {code}; its output is in {directory.hooks_log}", True)


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _output(directory: SweepDir, key: str) -> Iterator[IO[bytes]]:
    handle = os.open(directory.hooks_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "ab") as file:
        file.write(f"{_now()} {key}\n".encode())
        file.flush()
        yield file


# ---- the next round


def _next_round(key: str, hook: Hook, ending: _Ending) -> tuple[str, bool]:
    assert hook.run is not None
    sweep = ending.sweep
    number = sweep.started_by.get("round", 1)
    if sweep.called_off:
        return f"{hook.run} is not started: the sweep was stopped", False
    if key.startswith("on_finish") and sweep.state is SweepState.FAILED:
        return f"{hook.run} is not started: the sweep failed", False
    if hook.rounds is not None and number >= hook.rounds:
        return f"{hook.run} is not started: this was round {number} of {hook.rounds}", False
    origin = {"sweep": sweep.id, "ending": sweep.endings, "hook": key, "round": number + 1}
    if before := _started(ending.project, origin):
        return f"{before} was started", False
    words = ["run", "-d", "--json", "--started-by", json.dumps(origin), "--", hook.run]
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli", *words],
        cwd=ending.project,
        env=dict(ending.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=[ending.lock],
        start_new_session=True,
        check=False,
    )
    if done.returncode == 0:
        return f"{json.loads(done.stdout)['id']} was started", False
    return f"{hook.run} could not be started: {done.stderr.strip().removeprefix('sweep: ')[-SAID:]}", True


def _started(project: Path, origin: dict[str, Any]) -> str:
    """The sweep that this hook of this ending has started, if there is one."""
    for directory in rundir.sweeps(project):
        try:
            first = next(journal.records(directory.journal), None)
        except JournalError:
            continue
        if first is not None and getattr(first.event, "started_by", {}) == origin:
            return directory.id
    return ""


# ---- around them


@contextmanager
def _lock(directory: SweepDir) -> Iterator[int]:
    """Waits for whoever tells the same sweep's end."""
    handle = os.open(directory.hooks_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _unbothered_by_hangup() -> Iterator[None]:
    """The terminal may be closed meanwhile."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _log(directory: SweepDir, text: str) -> None:
    with directory.controller_log.open("a") as log:
        log.write(f"{_now()} INFO sweep.notify: {text}\n")


def _now() -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"
