"""A controller without a terminal: `sweep run -d` and its like start it, hear that it stands, and return.

    python -m sweep.cli.detached <descriptor> <JSON of what to do>

The new process begins (or resumes) the sweep, writes one line of JSON to the descriptor, either
`{"id", "directory", "controller": {"pid"}}` or `{"error", "exit_code"}`, and drives on, in a session of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweep.cli.plain import PlainLines
from sweep.core import events as e
from sweep.errors import SweepError
from sweep.prepare import PYTHON_OF, interpreter


def start(task: dict[str, Any]) -> dict[str, Any]:
    """Starts the process; returns what it said. Raises SweepError with its words where it could not begin."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as answer:
        subprocess.Popen(
            [sys.executable, "-m", "sweep.cli.detached", str(theirs), json.dumps(task)],
            pass_fds=[theirs],
            env={**os.environ, PYTHON_OF: interpreter("python", os.environ)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        said: dict[str, Any] = json.loads(answer.read() or '{"error": "its controller died at the start"}')
    if "error" in said:
        error = SweepError(said["error"])
        error.exit_code = said.get("exit_code", 1)
        raise error
    return said


def main(arguments: list[str]) -> int:
    with os.fdopen(int(arguments[0]), "w") as answer:
        try:
            session = _open(json.loads(arguments[1]))
        except SweepError as error:
            json.dump({"error": str(error), "exit_code": error.exit_code}, answer)
            return error.exit_code
        directory = session.directory
        log = directory.controller_log.open("a", buffering=1)
        session.controller.look_on(PlainLines(log))
        said = {"id": directory.id, "directory": str(directory.path), "controller": {"pid": os.getpid()}}
        json.dump(said, answer)
    try:
        return int(session.run())
    finally:
        session.close()


def _open(task: dict[str, Any]) -> Any:
    from sweep import session
    from sweep.config.load import load
    from sweep.config.model import SweepConfig
    from sweep.rundir import SweepDir

    if "space" in task:
        space = Path(task["space"])
        config, _ = load(space, task["overrides"])
        return session.begin(config, space.read_bytes(), Path.cwd(), os.environ)
    if "config" in task:
        config = SweepConfig.model_validate(task["config"])
        return session.begin(config, json.dumps(task["config"], indent=1).encode(), Path.cwd(), os.environ)
    events = [e.from_json({**event, "at": 0.0}) for event in task["events"]]
    return session.resume(SweepDir(Path(task["directory"])), os.environ, events=events)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
