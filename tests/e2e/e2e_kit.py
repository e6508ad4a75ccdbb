"""A user's folder with scripts, a space.yaml and the real `sweep` command, which may leave nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweep.rundir import SweepDir

COMMAND = str(Path(sys.executable).with_name("sweep"))
LONGEST = 60.0  # seconds that anything here may take
# what a sweep reads of the environment, and what would make it slow or different
FOREIGN = (
    *("SWEEP_", "MLFLOW_", "CUDA_", "PYTHON", "OMP_", "COLUMNS", "LINES", "TERM", "VIRTUAL_ENV", "CONDA"),
    "XDG_STATE_HOME",
)


def wait_for(seen: Callable[[], Any], what: str, seconds: float = LONGEST) -> Any:
    """Polls until it is true, and returns it."""
    until = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """A zombie is not; whoever inherits it may take its time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The only thing on stdout."""
        assert self.out, self.err
        document: dict[str, Any] = json.loads(self.out)
        return document


class Project:
    """env: what every process started here has; its marker finds them again."""

    def __init__(self, path: Path, locks: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.locks = locks
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        self.started: list[subprocess.Popen[str]] = []
        self.env = {**kept, "SWEEP_LOCK_DIR": str(locks), "SWEEP_TEST_OF": str(path), "HOME": str(path)}

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def space(self, **keys: Any) -> Path:
        """space.yaml: a small sweep of one parameter, changed by the keys; None takes one out."""
        whole = {
            "name": "s",
            "command": "python train.py {x}",
            "metric": "acc",
            "direction": "maximize",
            "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "trials": 3,
            "devices": "cpu:2",
            "grace": 0.3,
            "mlflow": False,
            **keys,
        }
        # JSON is YAML
        return self.write("space.yaml", json.dumps({k: v for k, v in whole.items() if v is not None}, indent=1))

    def start(
        self, *words: str, env: dict[str, str] | None = None, through: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """through: words before the command, of a program that becomes it."""
        usual = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
            "cwd": self.path,
        }
        process = subprocess.Popen(
            [*through, COMMAND, *words], env={**self.env, **(env or {})}, text=True, **{**usual, **options}
        )
        self.started.append(process)
        return process

    def wait_for(self, seen: Callable[[], Any], what: str) -> Any:
        """As `wait_for`, but fails at once where a command has failed meanwhile."""

        def seen_or_failed() -> Any:
            failed = [one for one in self.started if (one.poll() or 0) > 0]
            assert not failed, f"waiting for {what}:\n{failed[0].communicate()[1]}"
            return seen()

        return wait_for(seen_or_failed, what)

    def end(self, process: subprocess.Popen[str]) -> Result:
        """Waits for its end."""
        try:
            out, err = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"did not end in {LONGEST:g} s:\n{out}\n{err}")
        self.started.remove(process)
        return Result(process.returncode, out or "", err or "")

    def sweep(self, *words: str, env: dict[str, str] | None = None, **options: Any) -> Result:
        return self.end(self.start(*words, env=env, **options))

    def run(self, code: int = 0, **keys: Any) -> dict[str, Any]:
        """Writes space.yaml, runs it to its end, and returns what `sweep run --json` says."""
        self.space(**keys)
        done = self.sweep("run", "space.yaml", "--json")
        assert done.code == code, f"exit code {done.code}\n{done.err}"
        return done.json

    def directory(self, name: str = "s-1") -> SweepDir:
        return SweepDir(self.path / "sweeps" / name)

    def events(self, kind: str = "", name: str = "s-1") -> list[dict[str, Any]]:
        """The whole lines of the journal so far."""
        try:
            lines = self.directory(name).journal.read_bytes().split(b"\n")[:-1]
        except OSError:
            return []
        found = [json.loads(line) for line in lines]
        return [one for one in found if not kind or one["event"] == kind]

    def log(self, name: str = "s-1") -> str:
        return self.directory(name).controller_log.read_text()

    def output(self, trial: int, attempt: int = 1, name: str = "s-1") -> str:
        return self.directory(name).attempt(trial, attempt).output.read_text()

    def processes(self, *marks: str) -> dict[int, str]:
        """pid -> command line of all that this folder's commands started, with these in its environment."""
        wanted = [os.fsencode(mark) for mark in (f"SWEEP_TEST_OF={self.path}", *marks)]
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environ = (place / "environ").read_bytes().split(b"\0")
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(mark in environ for mark in wanted) and alive(int(place.name)):
                found[int(place.name)] = line
        return found


@contextmanager
def opened(path: Path) -> Iterator[Project]:
    project = Project(path / "project", path / "locks")
    yield project
    try:
        wait_for(lambda: not project.processes(), "the last process to end", 10)
    except AssertionError:
        left = project.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "left running"
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False)
