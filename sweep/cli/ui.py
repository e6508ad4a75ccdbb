"""`sweep ui`: MLflow's own server in the foreground, and its address once there is something to see."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from sweep import journal, rundir
from sweep.errors import NotFoundError
from sweep.launch.process import die_with_parent
from sweep.tracking.ui import HOST, ui_command, ui_url
from sweep.tracking.uri import database_file, tracking_uri


def open_ui(wanted: str | None, port: int) -> int:
    """Serves until a signal ends it; returns the exit code. Raises NotFoundError."""
    project, settings = Path.cwd(), {}
    if wanted is not None:
        directory = rundir.find(project, wanted)
        project, settings = directory.path.parent.parent, journal.replay(directory.journal).config["mlflow"]
    uri = tracking_uri(settings, project, os.environ)
    database = database_file(uri)
    if database is not None and not database.exists() and not rundir.sweeps(project):
        hint = "`sweep run space.yaml` begins one; sweeps are looked for in the folder that you are in"
        raise NotFoundError(f"nothing to show in {project}: no sweep, and no {database.name}", hint=hint)
    argv, env = ui_command(uri, project, port)
    if not argv:
        print(f"MLflow: {ui_url(uri, argv)}")
        return 0
    print("MLflow's server is starting ...", flush=True)
    return _serve(argv, env, project, f"MLflow: {ui_url(uri, argv)}  (Ctrl-C ends it)")


def _serve(argv: list[str], env: dict[str, str], project: Path, text: str) -> int:
    """In a session of its own: for Ctrl-C the server has a long traceback, and for SIGTERM a clean end."""
    parent, ended = os.getpid(), False
    server = subprocess.Popen(
        argv, cwd=project, env=env, start_new_session=True, preexec_fn=lambda: die_with_parent(parent)
    )

    def end(*_: object) -> None:
        nonlocal ended
        ended = True
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    while not _listens(int(argv[-1])):
        try:
            server.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        print(text, flush=True)
    code = server.wait()
    return 0 if ended else code or 1


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
