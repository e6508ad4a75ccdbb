"""As if nobody had died: kill -9 at exact moments. `python -m benchmarks kills` tries them all."""

from __future__ import annotations

import random

import pytest
from e2e_kit import Project

from benchmarks import kills
from sweep.journal import records

TRIALS = 6  # of which one is pruned, and one crashes once


@pytest.fixture(scope="module")
def wanted(shared: Project) -> dict[int, kills.Ended]:
    return kills.undisturbed(shared.path / "undisturbed", TRIALS, shared.env)


@pytest.mark.parametrize("who", kills.WHO)
def test_who_is_killed_after_a_record_leaves_no_trace(
    shared: Project, wanted: dict[int, kills.Ended], who: str
) -> None:
    """Two moments each, one of them in the first half: between the journal and what follows from its record."""
    count = len(list(records(kills.directory(shared.path / "undisturbed").journal)))
    chance = random.Random(f"{who} 1")
    for moment in (chance.randrange(count // 2), chance.randrange(count // 2, count)):
        found = kills.disturbed(shared.path / f"{who}-{moment}", TRIALS, moment, who, shared.env)
        assert found == wanted, f"killed after record {moment}"


def test_a_controller_that_is_killed_again_and_again(project: Project) -> None:
    """Every trial of very many was run once, and told once."""
    found = kills.many(project.path, 120, every=20, seed=2, env=project.env)
    assert found.kills >= 3
