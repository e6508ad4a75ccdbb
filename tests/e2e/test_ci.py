"""The pipelines in examples/ci do what they say: their steps run as a CI would run them, in a bare folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import LONGEST, Project
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples/ci"


def github() -> tuple[dict[str, str], list[str]]:
    """The variables and the scripts of its one job."""
    [job] = YAML(typ="safe").load(CI / "github-actions.yml")["jobs"].values()
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    return job["env"], [step["run"] for step in job["steps"] if "run" in step]


def gitlab() -> tuple[dict[str, str], list[str]]:
    [job] = YAML(typ="safe").load(CI / "gitlab-ci.yml").values()
    return job["variables"], ["\n".join([*job["before_script"], *job["script"]])]


def kept(name: str) -> list[str]:
    """What is uploaded."""
    file: Any = YAML(typ="safe").load(CI / name)
    if name == "gitlab-ci.yml":
        assert file["sweep"]["artifacts"]["when"] == "always"
        return list(file["sweep"]["artifacts"]["paths"])
    step = file["jobs"]["sweep"]["steps"][-1]
    assert step["if"] == "always()"
    return list(step["with"]["path"].split())


@pytest.fixture
def project(project: Project) -> Project:
    """A checkout, with Python and sweep on PATH, and a pip that has nothing to download."""
    shutil.copytree(CI, project.path / "examples/ci")
    pip = "import sys; assert sys.argv[1:] == ['install', '.'], sys.argv"
    project.write("site/pip.py", pip)
    project.env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{project.env['PATH']}",
        "PYTHONPATH": str(project.path / "site"),
    }
    return project


def run(project: Project, env: dict[str, str], scripts: list[str]) -> int:
    """The exit code of the first script that fails; the variables of a job come from the text of its file."""
    assert all(isinstance(value, str) for value in env.values())
    for script in scripts:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=project.path,
            env={**project.env, **env},
            timeout=LONGEST,
            check=False,
        )
        if done.returncode:
            return done.returncode
    return 0


@pytest.mark.parametrize(("pipeline", "name"), [(github, "github-actions.yml"), (gitlab, "gitlab-ci.yml")])
def test_a_pipeline_passes_and_fails_by_its_threshold(project: Project, pipeline: Any, name: str) -> None:
    env, scripts = pipeline()
    assert run(project, env, scripts) == 0
    assert all((project.path / path).exists() for path in kept(name))
    _, _, gate = scripts[-1].partition("sweep best\n")
    assert run(project, {**env, "THRESHOLD": "0.9999"}, [gate]) == 1


def test_a_pipeline_fails_with_its_sweep(project: Project) -> None:
    project.write("examples/ci/train.py", "raise SystemExit('no data')")
    env, scripts = github()
    assert run(project, env, scripts) == 1
    assert (project.path / "result.json").exists() and not (project.path / "sweeps/ci-2").exists()
