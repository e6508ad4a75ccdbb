"""Never two holders of a device. `python -m benchmarks contest` is the same at length, and says how it is seen."""

from __future__ import annotations

from typing import Any

from e2e_kit import Project

from benchmarks import contest


def test_three_sweeps_and_twenty_jobs_share_four_gpus_while_processes_are_killed(
    project: Project, fake_nvml: Any
) -> None:
    fake_nvml.write(*contest.MACHINE)
    found = contest.contest(project.path, 6.0, 20, seed=7, env={**project.env, **fake_nvml.env})
    assert {*contest.SWEEPS, "job"} <= set(found.begun) and found.begun["job"] >= 20, found
    assert found.kills > 4 and found.looks > 10, "the contest never took place"
