"""What is installed: Python, the packages that sweep needs, the Python that trials run with, py-spy."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from sweep import __version__
from sweep.cli.doctor.finding import Finding
from sweep.prepare import interpreter

_TOLD = ("optuna", "mlflow", "nvidia-ml-py", "py-spy")
_PROBE_TIMEOUT = 5.0  # seconds
_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))

# What the trials' Python has, without importing any of it: Paddle takes seconds.
_PROBE = """
import importlib.metadata as m, importlib.util as u, json, sys
found = {}
for name in ("paddlepaddle", "paddlepaddle-gpu"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
spec = u.find_spec("sweep")
print(json.dumps({"version": sys.version.split()[0], "sweep": bool(spec and spec.origin), "paddle": found}))
"""


def packages() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}; sweep {__version__}")
    try:
        wanted = [Requirement(line) for line in metadata.requires("sweep") or ()]
    except (metadata.PackageNotFoundError, InvalidRequirement) as error:
        said = f"sweep runs from a folder and is not installed ({error}): what it needs is not known"
        yield Finding("packages", "warn", said, "pip install -e . in its folder")
        return
    told, wrong = [], []
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            wrong.append((one, f"{one.name} is not installed"))
            continue
        if not one.specifier.contains(there, prereleases=True):
            wrong.append((one, f"{one.name} {there} is installed; sweep needs {one.specifier}"))
        elif one.name in _TOLD:
            told.append(f"{one.name} {there}")
    for one, said in wrong:
        yield Finding("packages", "bad", said, f"{sys.executable} -m pip install '{one.name}{one.specifier}'")
    if not wrong:
        yield Finding("packages", "ok", ", ".join(told))


def trials_python(environ: Mapping[str, str], *, gpu: bool) -> Iterator[Finding]:
    """gpu: there is an NVIDIA GPU here that Paddle could compute on."""
    python = interpreter("python", environ)
    try:
        done = subprocess.run(
            [python, "-c", _PROBE],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT,
            text=True,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        said = f"`python` in a trial would be {python}, which does not answer: {error}"
        yield Finding("trials", "bad", said, "activate another environment, or none")
        return
    if not found["sweep"]:
        said = f"trials run with {python}, where `import sweep` finds nothing"
        mend = f"{python} -m pip install sweep, unless scripts are read by `report: pattern`, `json` or `mlflow`"
        yield Finding("trials", "warn", said, mend)
    else:
        yield Finding("trials", "ok", f"run with {python} ({found['version']})")
    builds = found["paddle"]
    if gpu and "paddlepaddle" in builds and "paddlepaddle-gpu" not in builds:
        said = f"Paddle {builds['paddlepaddle']} computes on the CPU alone, and there is a GPU"
        yield Finding("paddle", "warn", said, "put a GPU build in its place: README, With a GPU")
    elif len(builds) == 2:
        said = "the CPU build and the GPU build of Paddle lie over each other: which one is imported is chance"
        yield Finding("paddle", "warn", said, f"{python} -m pip uninstall both, then install one")
    elif builds:
        [(name, version)] = builds.items()
        yield Finding("paddle", "ok", f"{name} {version}")


def py_spy() -> Iterator[Finding]:
    """Tried on a process of our own that stands to py-spy as a trial does: it is not below it."""
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which("py-spy", path=folders)  # as launch/stacks.py looks for it
    if program is None:
        said = "not found: of a trial that hangs, its stack is known only if it handles SIGABRT"
        yield Finding("py-spy", "warn", said, f"{sys.executable} -m pip install py-spy")
        return
    try:
        error = _tried(program)
    except (OSError, subprocess.TimeoutExpired) as trouble:
        error = str(trouble)
    if not error:
        yield Finding("py-spy", "ok", "may read the stack of a trial that hangs")
        return
    said = f"may not read the stacks of trials ({error}); a Python that hangs prints its own as it is aborted"
    yield Finding("py-spy", "warn", said, _ptrace_mend())


def _tried(program: str) -> str:
    """What it says against reading a Python process that we start; empty where it reads it. Raises OSError."""
    words = [sys.executable, "-S", "-c", "print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        victim.stdout.readline()
        try:
            command = [program, "dump", "--nonblocking", "--pid", str(victim.pid)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT)
        finally:
            victim.kill()
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def _ptrace_mend() -> str:
    try:
        scope = _SCOPE.read_text().strip()
    except OSError:
        scope = "0"
    if scope != "0":
        return f"sudo sysctl kernel.yama.ptrace_scope=0 (it is {scope})"
    if any(map(Path.exists, _CONTAINER)):
        return "start the container with --cap-add SYS_PTRACE"
    return "let this user ptrace its own processes"
