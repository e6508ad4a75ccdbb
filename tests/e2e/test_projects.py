"""`sweep list --all`: the sweeps of every folder in which one has begun any."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e_kit import Project, opened

from sweep import projects

TRAIN = "import sys, sweep\nsweep.current_trial().report(0, acc=float(sys.argv[1]))"


def test_sweeps_of_every_folder(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        state = {"XDG_STATE_HOME": str(tmp_path / "state")}
        for project in (one, two, one):
            project.write("train.py", TRAIN)
            project.space(trials=1)
            assert project.sweep("run", "space.yaml", env=state).code == 0
        noted = tmp_path / "state/sweep/projects"
        assert noted.read_text() == f"{one.path}\n{two.path}\n" and noted.stat().st_mode & 0o077 == 0
        here = [str(project.directory(name).path) for project, name in ((one, "s-1"), (one, "s-2"), (two, "s-1"))]
        everywhere = two.sweep("list", "--all", "--json", env=state).json["sweeps"]
        assert [sweep["directory"] for sweep in everywhere] == here
        assert [sweep["directory"] for sweep in two.sweep("list", "--json", env=state).json["sweeps"]] == here[2:]
        shown = two.sweep("list", "--all", env={**state, "COLUMNS": "300"}).out.splitlines()
        assert "folder" in shown[0] and shown[3].endswith(str(two.path)) and shown[3].startswith("s-1")
        assert "folder" not in two.sweep("list", env=state).out
        shutil.rmtree(one.path / "sweeps")
        left = one.sweep("list", "--all", "--json", env=state).json["sweeps"]
        assert [sweep["directory"] for sweep in left] == here[2:]


def test_a_folder_that_cannot_be_noted_is_no_trouble(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(trials=1)
    nowhere = {"XDG_STATE_HOME": "/dev/null"}
    assert project.sweep("run", "space.yaml", env=nowhere).code == 0
    listed = project.sweep("list", "--all", "--json", env=nowhere).json["sweeps"]
    assert [sweep["id"] for sweep in listed] == ["s-1"], "the folder that one is in needs no note"
    refused = project.sweep("run", "space.yaml", "--set", "metric=", env={})
    assert refused.code == 2 and not (project.path / ".local").exists(), "no sweep began there"


def test_where_the_note_is_kept(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    home = tmp_path / "home"
    for environ in ({"HOME": str(home)}, {"HOME": str(home), "XDG_STATE_HOME": "relative"}):
        projects.note(tmp_path, environ)
        assert projects.known(environ) == [tmp_path]
    assert (home / ".local/state/sweep/projects").read_text() == f"{tmp_path}\n"
    projects.note(tmp_path, {})
    assert projects.known({}) == []


def test_a_note_that_holds_nonsense_is_read_around(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    file = tmp_path / "state/sweep/projects"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\n\xff\0\nrelative\n" + bytes(tmp_path) + b"\n" + bytes(tmp_path) + b"\n/" + b"x" * 5000)
    assert projects.known(environ) == [tmp_path]
