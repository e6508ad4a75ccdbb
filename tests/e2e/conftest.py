"""Folders to run sweeps in; see e2e_kit.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_kit import Project, opened


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with opened(tmp_path) as project:
        yield project


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One folder for the tests of a file that look at the same sweep."""
    with opened(tmp_path_factory.mktemp("shared")) as project:
        yield project
