"""Processes for the tests of slots on fake GPUs; see gpu_kit.py."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_kit import Remote


@pytest.fixture(scope="module")
def shared_remote(fake_nvml_library: Path) -> Iterator[Remote]:
    remote = Remote({"LD_LIBRARY_PATH": str(fake_nvml_library.parent)})
    yield remote
    remote.end()


@pytest.fixture
def remote(shared_remote: Remote, fake_nvml: Any, tmp_path: Path) -> Iterator[Callable[..., Remote]]:
    """Opens a pool `p` on the fake GPUs, in a process that many tests share, or in one of its own."""
    started: list[Remote] = []

    def start(
        devices: str = "",
        shares: int = 1,
        sweep: str | None = None,
        own: bool = False,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        **environ: str,
    ) -> Remote:
        remote = shared_remote
        if own:
            remote = Remote({**fake_nvml.env, **(env or {})}, prefix)
            started.append(remote)
        remote.run(f"locks, environ = Path({str(tmp_path / 'locks')!r}), {environ!r}")
        remote.run(f"os.environ['FAKE_NVML_STATE'] = {fake_nvml.env['FAKE_NVML_STATE']!r}")
        remote.run("pool.FRESH, pool.REFUSED, pool.RETRY = 0.3, 2.0, 5.0")
        remote.run("p.close() if 'p' in globals() else None")
        remote.run(f"p = open_pool(Devices({devices}), {shares}, environ, locks, {sweep!r})")
        return remote

    yield start
    for one in started:
        one.end()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any sweep."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()
