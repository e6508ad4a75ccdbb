"""The server of `sweep metrics`."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from sweep.cli.metrics.collector import SweepCollector
from sweep.errors import UsageError


def metrics(host: str, port: int, *, once: bool) -> None:
    """Serves until SIGINT or SIGTERM; once: prints what a scrape would get. Raises UsageError: port in use."""
    collector = SweepCollector(Path.cwd(), os.environ)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        text = generate_latest(registry).decode()  # the first reads whole journals: no scrape should wait for that
        if once:
            sys.stdout.write(text)
        else:
            _serve(host, port, registry)
    finally:
        collector.close()


def _serve(host: str, port: int, registry: CollectorRegistry) -> None:
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(
        signal.SIG_BLOCK, ending
    )  # before the server's threads begin, which then block them too
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = f"another port: --port {port + 1}" if taken else "an address of this machine, and a port above 1023"
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint=hint) from None
    print(f"metrics: http://{host}:{server.server_port}/metrics  (Ctrl-C ends it)", flush=True)
    signal.sigwait(ending)
    server.shutdown()
    server.server_close()
    thread.join()
