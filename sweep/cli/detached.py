"""A controller without a terminal: `sweep run -d` and its like start it, hear that it stands, and return.

    python -m sweep.cli.detached <descriptor>

The new process reads what to do as JSON from stdin (a command line is seen by everybody), begins or resumes the
sweep, writes one line of JSON to the descriptor, either
`{"id", "directory", "controller": {"pid"}}` or `{"error", "exit_code"}`, and drives on, in a session of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep.cli.document import sweep_document
from sweep.cli.jsonlines import JsonLines
from sweep.cli.plain import PlainLines
from sweep.core.codec import from_json
from sweep.errors import SweepError
from sweep.logs import as_json
from sweep.notify import tell
from sweep.prepare import PYTHON_OF, interpreter
from sweep.tracking.process import Spare


def start(
    task: dict[str, Any], project: Path | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Starts the process; returns what it said. Raises SweepError with its words where it could not begin.

    project, environ: the folder of its sweeps and its environment, where they are not this process's own.
    """
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweep.cli.detached", str(theirs)],
            pass_fds=[theirs],
            cwd=project,
            env={**(os.environ if environ is None else environ), PYTHON_OF: interpreter("python", os.environ)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as out:  # it died at the start, as the missing answer tells
            out.write(json.dumps(task).encode())
        said: dict[str, Any] = json.loads(answer.read() or '{"error": "its controller died at the start"}')
    if "error" in said:
        error = SweepError(said["error"])
        error.exit_code = said.get("exit_code", 1)
        raise error
    return said


def main(arguments: list[str]) -> int:
    with os.fdopen(int(arguments[0]), "w") as answer:
        try:
            with Spare(os.environ) as spare:
                session = _open(_task(), spare)
        except SweepError as error:
            json.dump({"error": str(error), "exit_code": error.exit_code}, answer)
            return error.exit_code
        directory = session.directory
        log = directory.controller_log.open("a", buffering=1)
        session.controller.look_on(JsonLines(log) if as_json(os.environ) else PlainLines(log))
        said = {"id": directory.id, "directory": str(directory.path), "controller": {"pid": os.getpid()}}
        json.dump(said, answer)
    try:
        code = int(session.run())
    finally:
        session.close()
    tell(session.sweep, directory, sweep_document, os.environ, lambda _: None)
    return code


def _task() -> dict[str, Any]:
    task: dict[str, Any] = json.load(sys.stdin)
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    return task


def _open(task: dict[str, Any], spare: Spare) -> Any:
    from sweep import session
    from sweep.cli.changed import name_of
    from sweep.cli.rounds import begun
    from sweep.config.load import load
    from sweep.config.model import SweepConfig
    from sweep.rundir import SweepDir

    if "space" in task:
        space = Path(task["space"])
        config, _ = load(space, task["overrides"])
        project = Path.cwd()
        what = begun(config, space, project, task["started_by"])
        origin = (name_of(space, project), task["overrides"], task["started_by"], spare)
        return session.begin(what.config, what.text, project, os.environ, None, *origin)
    if "config" in task:
        config = SweepConfig.model_validate(task["config"])
        text = task.get("text") or json.dumps(task["config"], indent=1)
        return session.begin(config, text.encode(), Path.cwd(), os.environ, spare=spare)
    events = [from_json({**event, "at": 0.0}) for event in task["events"]]
    return session.resume(SweepDir(Path(task["directory"])), os.environ, events=events, spare=spare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
