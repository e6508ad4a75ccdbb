"""A real MLflow server, a proxy that makes it fail, and all that a server knows of a sweep."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from sweep.tracking.ui import ui_command, ui_url
from sweep.tracking.uri import tracking_uri

# path of a request -> "ok", "slow", "500", "drop"; "hang" and "late" wait for `late`, and "late" then does it, as
# "mute" does at once; none of the three says anything
Mode = Callable[[str], str]


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server; `mode` decides how they fare."""

    daemon_threads = True

    def __init__(self, port: int, upstream: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = upstream
        self.mode: Mode = lambda path: "ok"
        self.late = threading.Event()
        self.seen: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.late.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode = self.server.mode(self.path)
        self.server.seen.append(self.path)
        self.close_connection = True
        if mode == "drop":
            return
        if mode == "500":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        if mode == "slow":
            time.sleep(0.2)
        if mode in ("late", "hang"):
            self.server.late.wait(20)
        if mode == "hang":
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if mode in ("mute", "late"):
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def log_message(self, *_: Any) -> None: ...


class Server(NamedTuple):
    project: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(project: Path) -> Iterator[Server]:
    """An MLflow server on a project's default store, started as `sweep ui` starts it."""
    argv, env = ui_command(tracking_uri({}, project, {}), project, 0)
    with (project / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=project, env=env, stdout=log, stderr=log, start_new_session=True)
    url, _, _ = ui_url("", argv).partition("/#")
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (project / "log").read_text()
            time.sleep(0.1)
    yield Server(project, int(argv[-1]))
    os.killpg(process.pid, 15)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dump(client: Any, experiment: str, uid_of: str) -> dict[str, Any]:
    """Everything that MLflow knows of a sweep, without what differs from one sending to the next.

    (Run ids; and whether a tag that says nothing was never set, or set back to nothing.)
    """
    found = client.search_experiments(filter_string=f"name = '{experiment}'")
    runs = client.search_runs([found[0].experiment_id], f"tags.`sweep.id` = '{uid_of}'", max_results=1000)
    ids = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(ids.values())) == len(runs), f"a run is there twice: {sorted(ids.values())}"

    def known(value: str) -> str:
        for run_id, name in ids.items():
            value = value.replace(run_id, f"<{name}>")
        return value

    told = {}
    for run in runs:
        history = {
            key: sorted(
                (p.step, p.timestamp, repr(p.value)) for p in client.get_metric_history(run.info.run_id, key)
            )
            for key in run.data.metrics
        }
        told[run.info.run_name] = {
            "status": run.info.status,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "params": dict(run.data.params),
            "tags": {key: known(value) for key, value in run.data.tags.items() if value and key != "mlflow.user"},
            "metrics": history,
            "artifacts": sorted(_artifacts(client, run.info.run_id)),
        }
    return told


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found
