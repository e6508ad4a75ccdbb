"""What the file points at is looked for before anything starts, and none of the user's code runs for that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.config.command import split
from sweep.config.load import load_document
from sweep.config.model import Categorical, SweepConfig
from sweep.config.preflight import preflight, require, shadows
from sweep.errors import ConfigError
from sweep.session import check


def said(project: Path, **keys: Any) -> list[str]:
    if "command" in keys:
        keys["command"] = split(keys["command"])
    lr = {"lr": Categorical(choices=[1, 2])}
    return preflight(SweepConfig(name="x", metric=["a"], direction=["maximize"], space=lr, **keys), project)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "deep.py").write_text("")
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "work.py").write_text(
        "raise SystemExit('imported')\ntry:\n    from x import a as b\nexcept ImportError:\n    c = 1\n"
        "def train(): inner = 1\nclass Big: pass\n(d, e) = 1, 2\nasync def later(): pass\n"
    )
    (package / "broken.py").write_text("def train(:\n")
    (package / "star.py").write_text("from x import *\n")
    return tmp_path


@pytest.mark.parametrize(
    "keys",
    [
        {"command": "python train.py --lr {lr}"},
        {"command": "python -u code/deep.py"},
        {"command": "python deep.py", "cwd": "code"},
        {"command": "python -m pkg.work"},
        {"command": "python -m json.tool"},
        {"command": "python {lr}.py"},
        {"command": "sh run.sh"},
        {"command": f"{sys.executable} train.py"},
        {"objective": "pkg.work:train"},
        {"objective": "pkg.work:Big.method"},
        {"objective": "pkg.work:b"},
        {"objective": "pkg.work:c"},
        {"objective": "pkg.work:e"},
        {"objective": "pkg.work:later"},
        {"objective": "pkg.star:whatever"},
        {"objective": "json:dumps", "warm": ["json", "sys"]},
    ],
)
def test_what_is_there(project: Path, keys: dict[str, str]) -> None:
    assert said(project, **keys) == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"command": "python trian.py"}, ["there is no script", "did you mean train.py?"]),
        ({"command": "python train.py", "cwd": "code"}, ["there is no script"]),
        ({"command": "python train.py", "cwd": "nowhere"}, ["cwd: there is no folder"]),
        ({"command": "python -m pkg.wrok"}, ["no module `pkg.wrok`"]),
        ({"command": "./rnu.sh"}, ["there is no program", "did you mean run.sh?"]),
        ({"command": "./run.sh"}, ["cannot be executed", "chmod +x ./run.sh"]),
        ({"command": "./code"}, ["there is no program"]),
        ({"command": "run.sh"}, ["no program `run.sh` on PATH", "write ./run.sh"]),
        ({"command": "python9.9 train.py"}, ["no program `python9.9` on PATH"]),
        ({"command": "sh run.sh", "env": {"PATH": "/nowhere"}}, ["no program `sh` on PATH"]),
        ({"objective": "pkg.wrok:train"}, ["no module `pkg.wrok`"]),
        ({"objective": "train.py:train"}, ["no module `train.py`"]),
        ({"objective": "pkg.work:trian"}, ["has no `trian`", "did you mean `train`?"]),
        ({"objective": "pkg.work:inner"}, ["has no `inner`"]),
        ({"objective": "pkg.broken:train"}, ["broken.py:1 is not Python"]),
        ({"command": "python train.py", "warm": ["padle"]}, ["warm: there is no module `padle`"]),
    ],
)
def test_what_is_not(project: Path, keys: dict[str, Any], words: list[str]) -> None:
    [problem] = said(project, **keys)
    assert [word for word in words if word not in problem] == [], problem


def test_a_program_by_its_path(project: Path) -> None:
    (project / "run.sh").chmod(0o755)
    assert said(project, command="./run.sh --lr {lr}") == []


@pytest.mark.parametrize(
    ("where", "keys", "hides"),
    [
        ("sweep.py", {"command": "python train.py {lr}"}, True),
        ("sweep/__init__.py", {"command": "python train.py {lr}"}, True),
        ("sweep/data.txt", {"command": "python train.py {lr}"}, False),  # no package: it hides nothing
        ("code/sweep.py", {"command": "python code/deep.py"}, True),
        ("code/sweep.py", {"command": "python deep.py", "cwd": "code"}, True),
        ("sweep.py", {"command": "python code/deep.py"}, False),
        ("sweep.py", {"command": "python -m code.deep"}, True),
        ("sweep.py", {"objective": "pkg.work:train"}, True),
        ("sweep.py", {"command": "sh run.sh"}, False),
        ("sweep.py", {"command": "python train.py {lr}", "report": {"mode": "json"}}, False),
        ("other.py", {"command": "python train.py {lr}"}, False),
    ],
    ids=str,
)
def test_a_module_of_the_users_own_that_hides_the_library(
    project: Path, where: str, keys: dict[str, Any], hides: bool
) -> None:
    (project / where).parent.mkdir(exist_ok=True)
    (project / where).write_text("raise SystemExit('imported')")
    if "command" in keys:
        keys = {**keys, "command": split(keys["command"])}
    lr = {"lr": Categorical(choices=[1, 2])}
    config = SweepConfig(name="x", metric=["a"], direction=["maximize"], space=lr, **keys)
    found = shadows(config, project)
    assert bool(found) == hides
    assert not hides or (str(project / where) in found[0] and "rename it" in found[0])


def test_the_library_itself_hides_nothing() -> None:
    root = Path(__file__).parents[2]
    config = SweepConfig(name="x", metric=["a"], direction=["maximize"], space={}, objective="tests.nothing:f")
    assert shadows(config, root) == []


def test_what_is_found_late_has_its_line_as_well(project: Path) -> None:
    file = project / "space.yaml"
    file.write_text(
        "metric: a\ndirection: maximize\ncommand: python trian.py {lr}\nwarm: [nosuch]\nspace: {lr: [1, 2]}\n"
        "pruner:\n  name: hyperband\n  min_resource: 1\n  factor: 3\n"
    )
    config, document = load_document(file)
    with pytest.raises(ConfigError) as missing:
        require(config, document, project)
    first, second = str(missing.value).splitlines()
    assert first.startswith(f"{file}:3: command: there is no script")
    assert second.startswith(f"{file}:4: warm: there is no module `nosuch`")
    with pytest.raises(ConfigError) as odd:
        check(config, document.at)
    assert str(odd.value).startswith(f"{file}:9: pruner.factor: HyperbandPruner has no such argument")
