"""What a sweep was run from: git commit and dirty diff, python, packages, host. Facts for `source.json`."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_LONGEST_DIFF = 1 << 20


def gather(project: Path) -> dict[str, Any]:
    """The facts; git's are None outside a repository or without git. Takes some 50 to 100 ms."""
    described = [one.metadata for one in metadata.distributions()]  # each is parsed when it is asked for
    packages = {one["Name"]: one["Version"] for one in described if one["Name"]}
    return {
        "git": _git_facts(project),
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": dict(sorted(packages.items())),
        "host": platform.node(),
        "platform": platform.platform(),
        "user": _user(),
        "project": str(project),
        "argv": sys.argv,
    }


def _git_facts(project: Path) -> dict[str, Any] | None:
    commit = _git(project, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(project, "diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "branch": (_git(project, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "dirty": bool(diff),
        "diff": diff[:_LONGEST_DIFF],
    }


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, capture_output=True, timeout=10, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
