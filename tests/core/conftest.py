"""Journals for those who cut them."""

from __future__ import annotations

from pathlib import Path

import pytest
from journals import WORLD, write


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a real journal of 30 trials."""
    path = write(tmp_path_factory.mktemp("journal") / "journal.jsonl", WORLD.log)
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"
