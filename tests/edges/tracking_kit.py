"""A sweep's folder with a true history in it, and a follower to run on it: for the tests of sweep.tracking."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.config.model import SweepConfig
from sweep.core import events as e
from sweep.core.codec import to_json
from sweep.core.machine import open_sweep, step
from sweep.core.model import Rules, Sweep
from sweep.rundir import SweepDir
from sweep.tracking.__main__ import SETTINGS, main

START = 1_763_960_000.0


def config(**more: Any) -> dict[str, Any]:
    given = {
        "name": "digits",
        "command": ["python", "train.py", "--lr", "{lr}"],
        "metric": ["val_acc"],
        "direction": ["maximize"],
        "space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}},
        "trials": 10,
        "seed": 7,
        **more,
    }
    return SweepConfig.model_validate(given).model_dump(mode="json")


class History:
    """Writes a journal through the state machine, so that it can only hold what can happen."""

    def __init__(self, project: Path, id: str = "digits-1", *, opened: float = START, **more: Any) -> None:
        folder = project / "sweeps" / id
        (folder / "trials").mkdir(parents=True)
        self.directory = SweepDir(folder)
        self.directory.space.write_text("name: digits\n")
        rules: dict[str, Any] = {"trials": 10, "fail_fast": 0, **more.pop("rules", {})}
        made = config(**more)
        self.now = opened
        self.seq = 0
        self.sweep: Sweep | None = None
        needs_run = made["report"]["mode"] == "mlflow"
        names = {"metrics": tuple(made["metric"]), "directions": tuple(made["direction"])}
        self.add(e.SweepOpened(self.now, id, Rules(**names, needs_run=needs_run, **rules), made))
        self.add(e.ControllerStarted(self.tick(), 1, 1, "boot"))

    def tick(self, seconds: float = 1.0) -> float:
        self.now += seconds
        return self.now

    def add(self, event: e.Event) -> None:
        if isinstance(event, e.SweepOpened):
            self.sweep = open_sweep(event)
        else:
            assert self.sweep is not None
            step(self.sweep, event)
        record = {"v": e.SCHEMA, "seq": self.seq, **to_json(event)}
        with self.directory.journal.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        self.seq += 1

    def sample(self, number: int, **params: Any) -> None:
        self.add(e.TrialSampled(self.tick(), number, params or {"lr": 0.1 + number / 1000, "width": 16 * number}))

    def start(self, number: int, slot: str = "cpu-0") -> int:
        """Sampled if need be, launched and started; the attempt's number."""
        assert self.sweep is not None
        if number not in self.sweep.trials:
            self.sample(number)
        self.add(e.SlotOffered(self.tick(), slot, "cpu"))
        attempt = self.sweep.trials[number].attempts[-1].number
        self.add(e.AttemptStarted(self.tick(), number, attempt, 100 + number, 1, "boot"))
        self.directory.attempt(number, attempt).path.mkdir(parents=True, exist_ok=True)
        return attempt

    def report(self, number: int, at_step: int, **metrics: float) -> None:
        attempt = self.attempt(number)
        self.add(e.Reported(self.tick(), number, attempt, at_step, metrics))

    def checkpoint(self, number: int, at_step: int, text: str = "weights") -> Path:
        attempt = self.attempt(number)
        folder = self.directory.attempt(number, attempt).checkpoints / str(at_step)
        folder.mkdir(parents=True)
        (folder / "model.pdparams").write_text(text)
        relative = str(folder.relative_to(self.directory.path))
        self.add(e.Checkpointed(self.tick(), number, attempt, at_step, relative))
        return folder

    def end(self, number: int, code: int | None = 0, output: str = "", **more: Any) -> None:
        attempt = self.attempt(number)
        if output:
            self.directory.attempt(number, attempt).output.write_text(output)
        self.add(e.AttemptEnded(self.tick(), number, attempt, code, **more))

    def attempt(self, number: int) -> int:
        assert self.sweep is not None
        return self.sweep.trials[number].attempts[-1].number

    def trial(self, number: int, value: float, reports: int = 3, output: str = "") -> None:
        """A whole life that ends COMPLETE with `value`."""
        self.start(number)
        for at_step in range(reports):
            self.report(number, at_step, val_acc=value - (reports - 1 - at_step) / 100, loss=1.0 / (at_step + 1))
        self.end(number, output=output)


@cache
def template_cache() -> Path:
    """One cache folder for all tests, so that MLflow's migrations run once."""
    folder = Path(tempfile.mkdtemp(prefix="sweep-test-cache-"))
    atexit.register(shutil.rmtree, folder, True)
    return folder


def environ(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_"))}
    return {**kept, "XDG_CACHE_HOME": str(template_cache()), **more}


@cache
def _processes() -> Any:
    """Followers are forked from a process that has imported MLflow, for that takes 2 seconds each time."""
    context = multiprocessing.get_context("forkserver")
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    context.set_forkserver_preload(["sweep.tracking.follower", "mlflow.store.tracking.sqlalchemy_store"])
    multiprocessing.forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    return context


def _follow(folder: str, line: socket.socket | None, env: dict[str, str]) -> None:
    """What `python -m sweep.tracking` does, with its output in follower.log."""
    log = os.open(f"{folder}/follower.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["sweep.tracking", folder] + (["--fd", str(line.detach())] if line else [])
    sys.exit(main())


class Following:
    """A follower process, with or without a controller's end of its line."""

    def __init__(self, directory: SweepDir, env: dict[str, str] | None = None, *, line: bool = False) -> None:
        self.directory = directory
        self._in = b""
        self.line: socket.socket | None = None
        theirs: socket.socket | None = None
        if line:
            self.line, theirs = socket.socketpair()
        arguments = (str(directory.path), theirs, env or environ())
        self.process = _processes().Process(target=_follow, args=arguments, daemon=True)
        self.process.start()
        if theirs:
            theirs.close()

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.kill()

    def say(self, **message: Any) -> None:
        assert self.line is not None
        self.line.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, key: str, seconds: float = 20.0) -> Any:
        """The next answer that has this key; others before it are dropped."""
        assert self.line is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while b"\n" in self._in:
                text, _, self._in = self._in.partition(b"\n")
                message = json.loads(text)
                if key in message:
                    return message[key]
            self.line.settimeout(max(0.01, end - time.monotonic()))
            try:
                self._in += self.line.recv(65536)
            except TimeoutError:
                break
        raise AssertionError(f"no {key!r} in {seconds} s; log:\n{self.log()}")

    def rest(self) -> list[dict[str, Any]]:
        """Every answer that is left, until the follower has closed its end."""
        assert self.line is not None
        self.line.settimeout(20)
        while data := self.line.recv(65536):
            self._in += data
        return [json.loads(line) for line in self._in.splitlines()]

    def wait(self, seconds: float = 30.0) -> int:
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, f"the follower has not ended in {seconds} s; log:\n{self.log()}"
        return int(code)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None

    def log(self) -> str:
        return self.directory.follower_log.read_text() if self.directory.follower_log.exists() else ""

    def state(self) -> dict[str, Any]:
        found = rundir.read_json(self.directory.mlflow)
        return found if isinstance(found, dict) else {}

    def until(self, what: Callable[[dict[str, Any]], Any], seconds: float = 20.0) -> dict[str, Any]:
        """Waits until `what(mlflow.json)`, as this follower wrote it, holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state()
            if state.get("pid") == self.process.pid and what(state):
                return state
            assert self.process.is_alive(), f"the follower has ended; log:\n{self.log()}"
            time.sleep(0.02)
        raise AssertionError(f"not so in {seconds} s: {self.state()}; log:\n{self.log()}")


def followed(directory: SweepDir, env: dict[str, str] | None = None) -> str:
    """Runs a follower to its end on a sweep without a controller; its log."""
    with Following(directory, env) as following:
        assert following.wait() == 0, following.log()
        return following.log()
