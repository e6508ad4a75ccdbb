"""The MLflow UI on a sweep's store: one worker, no job workers, loopback only."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from sweep.tracking.uri import is_remote, redacted

HOST = "127.0.0.1"


def ui_command(uri: str, project: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """argv and whole environment of the UI's server; argv is empty where a remote server has its own page.

    If `port` is taken, a free one is used: `ui_url` tells. The store's address goes by environment, because it may
    hold a password and a command line is public.
    """
    if is_remote(uri):
        return [], {}
    env = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str(project.absolute() / "mlartifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    server = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1"]
    return [*server, "--port", str(_free(port))], env


def ui_url(uri: str, argv: list[str]) -> str:
    """The page to open for what `ui_command` returned. Without its ending MLflow opens the face for agents."""
    base = f"http://{HOST}:{argv[-1]}" if argv else redacted(uri).rstrip("/")
    return f"{base}/#/experiments?workflowType=machine_learning"


def _free(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
