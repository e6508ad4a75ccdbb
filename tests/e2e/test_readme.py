"""What README.md says to type works as it stands, and its files mean something.

Sweeps are cut to two trials, and `make` targets are what CI itself calls; nothing else is changed.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from e2e_kit import Project, opened, wait_for

from sweep.cli.commands import cli
from sweep.config.load import load
from sweep.config.model import SweepConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every command in the shell blocks, without their remarks."""
    lines = [line.partition("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    return [words for words in lines if words]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    with opened(tmp_path_factory.mktemp("readme")) as project:
        for folder in ("examples", "search_spaces"):
            shutil.copytree(ROOT / folder, project.path / folder)
        yield project


def test_every_make_target_is_there() -> None:
    targets = {words[1] for words in commands() if words[0] == "make"}
    makefile = (ROOT / "Makefile").read_text()
    assert targets == {"run", "ui"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "sweep"], ids=" ".join)
def test_every_command_runs(words: list[str], project: Project) -> None:
    """In the order of the page: what looks at a sweep finds the ones that were run before."""
    if words[1] == "ui":
        _ui_answers(project)
        return
    short = ["--set", "trials=2"] if words[1] == "run" else []
    done = project.sweep(*words[1:], *short)
    assert done.code == 0, done.err
    assert done.out.strip()


def _ui_answers(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = project.start("ui", "--port", str(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _status(f"http://127.0.0.1:{port}/") == 200, "the MLflow UI")
    finally:
        server.terminate()
        server.wait()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_file_loads_without_a_warning(text: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    _, warnings = load(file)
    assert warnings == []


def test_the_table_of_keys_is_whole_and_true() -> None:
    rows = re.findall(r"^\| (`.*?) \|", README.partition("### The file")[2], re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert told - set(SweepConfig.model_fields) == set()
    assert set(SweepConfig.model_fields) - told == {"name"}


def test_every_command_of_the_tour_exists() -> None:
    named = set(re.findall(r"`sweep (\w+)", README)) | {words[1] for words in commands() if words[0] == "sweep"}
    assert named <= set(cli.commands)
