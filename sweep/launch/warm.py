"""Warm starts: the nursery imports modules once, and a `python script.py` trial is a fork of it.

What the script sees should be what a new interpreter would show it: `__main__`, argv, the path, unbuffered output,
random generators of its own, tracebacks without our frames, atexit handlers. What stays as the nursery had it are
the modules themselves and all that they read of the environment when they were imported.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import os
import runpy
import sys
from types import ModuleType
from typing import Any


class Become(Exception):
    """Unwinds the stack of a fork: the interpreter goes on as the trial's own. Holds what to run."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv


def warm_up(modules: list[str], project: str) -> str:
    """Imports them, the project's own among them; returns what went wrong, in words."""
    sys.path[0] = project  # in place of what -m put there
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            return f"warm: cannot import {name}: {error!r}; trials start cold"
    return ""


def run_as_main(argv: list[str]) -> None:
    """Runs `python script.py ...` or `python -m module ...` in this interpreter. Raises SystemExit."""
    gc.enable()  # the nursery does without
    gc.unfreeze()
    if os.environ.get("PYTHONFAULTHANDLER"):  # which a new interpreter would have read
        faulthandler.enable()
    sys.stdout, sys.stderr = _unbuffered(1, sys.stdout), _unbuffered(2, sys.stderr)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]
    if "numpy.random" in sys.modules:  # seeded at its import; `random` and Paddle see to it by themselves
        sys.modules["numpy.random"].seed()
    try:
        if argv[1] == "-m":
            sys.argv = argv[2:]
            sys.path[0] = os.getcwd()
            runpy.run_module(argv[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = argv[1:]
            _run_file(os.path.abspath(argv[1]))
    except Exception as error:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        sys.excepthook(type(error), error.with_traceback(frames), frames)
        sys.exit(1)


def _run_file(path: str) -> None:
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _unbuffered(handle: int, before: Any) -> io.TextIOWrapper:
    """As PYTHONUNBUFFERED makes them, which came too late for this interpreter."""
    raw = io.FileIO(handle, "w", closefd=False)
    return io.TextIOWrapper(raw, before.encoding, before.errors, write_through=True)
