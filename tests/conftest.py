"""Fixtures for more than one folder of tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_kit import Server, serving


class FakeNvml:
    """A machine with the GPUs that `write` says; a process started with `env` sees them through the real pynvml.

    Records are the lines of fake_nvml.c, such as "gpu uuid=GPU-1 used=4" or "proc gpu=0 pid=4242".
    """

    def __init__(self, library: Path, state: Path) -> None:
        self.env = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_STATE": str(state)}
        self._state = state
        self.write()

    def write(self, *records: str) -> None:
        scratch = self._state.with_suffix(".new")
        scratch.write_text("".join(f"{record}\n" for record in records))
        scratch.rename(self._state)


@pytest.fixture(scope="session")
def fake_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake NVML with")
    source = Path(__file__).parent / "edges/fake_nvml/fake_nvml.c"
    library = tmp_path_factory.mktemp("fake_nvml") / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O2", f"-Wl,-soname,{library.name}", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def fake_nvml(fake_nvml_library: Path, tmp_path: Path) -> FakeNvml:
    return FakeNvml(fake_nvml_library, tmp_path / "nvml.txt")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For all who do not mind what others have logged there: it takes seconds to start."""
    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server
