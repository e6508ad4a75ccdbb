"""What somebody sees who has begun nothing yet, or is in the wrong folder."""

from __future__ import annotations

import shlex

from e2e_kit import Project, wait_for

from sweep.cli.commands import cli


def test_help_lists_every_command_by_what_it_is_for(project: Project) -> None:
    said = project.sweep().err or project.sweep("--help").out
    listed = [line.split()[0] for line in said.splitlines() if line[:3].strip() and line.startswith("  ")]
    assert set(cli.commands) <= set(listed)
    assert said.index("Begin:") < said.index("  check ") < said.index("Look:") < said.index("  why ")
    assert "..." not in said.partition("Begin:")[2]  # no sentence is cut off


def test_an_empty_folder_is_called_one_and_stays_empty(project: Project) -> None:
    listed = project.sweep("list")
    assert (listed.code, listed.out) == (
        0,
        f"no sweep in {project.path} yet: `sweep run space.yaml` starts one\n",
    )
    assert project.sweep("list", "--json").json == {"sweeps": [], "archived": []}
    shown = project.sweep("ui")
    assert shown.code == 3
    assert f"nothing to show in {project.path}" in shown.err and "in the folder that you are in" in shown.err
    assert not list(project.path.iterdir())


def test_jobs_are_known_by_their_commands(project: Project) -> None:
    commands = [f"echo {number} '{{}}'" for number in range(2)]
    for command in commands:
        words = shlex.split(command)
        assert project.sweep("submit", "--devices", "cpu:1", "--set", "mlflow=false", "--", *words).code == 0
    wait_for(
        lambda: all(one["state"] == "FINISHED" for one in project.sweep("list", "--json").json["sweeps"]), "them"
    )
    assert [one["job"] for one in project.sweep("list", "--json").json["sweeps"]] == commands
    listed = project.sweep("list", env={"COLUMNS": "200"}).out
    assert all(command in listed for command in commands)
