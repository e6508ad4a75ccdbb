"""What imports what: the contracts of pyproject.toml, and how little a start loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what a trial would pay for in milliseconds
SLOW = {"asyncio", "dataclasses", "inspect", "json", "logging", "pathlib", "re", "socket", "subprocess", "typing"}
HEAVY = {
    *("joblib", "mlflow", "numpy", "optuna", "paddle", "pandas", "psutil"),
    *("pydantic", "pynvml", "rich", "sqlalchemy"),
}


def run(code: str, *options: str) -> tuple[set[str], str]:
    """The modules that this code loads on top of a bare interpreter, and what it prints."""
    program = (
        f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_imports_point_down() -> None:
    """Every contract of import-linter holds, each of them."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_trial_imports_the_standard_library_only_and_little_of_it() -> None:
    """`-S`: without site-packages on the path at all."""
    found, _ = run("import sweep; sweep.current_trial().report(1, val_acc=0.5)", "-S")
    assert "sweep.trial" in found
    assert not found & SLOW
    assert {name for name in found if name.startswith("sweep.")} == {"sweep.trial"}


@pytest.mark.parametrize("module", ["nursery", "supervisor", "tether"])
def test_what_runs_around_a_trial_needs_the_standard_library_only(module: str) -> None:
    found, _ = run(f"import sweep.launch.{module}", "-S")
    assert f"sweep.launch.{module}" in found
    assert not {name for name in found if name.startswith("sweep.core")}


def test_the_core_runs_on_the_standard_library() -> None:
    found, _ = run("import sweep.core.machine", "-S")
    assert {"sweep.core.trials", "sweep.core.policy"} <= found
    assert not found & {"asyncio", "logging", "random", "socket", "subprocess", "threading"}


@pytest.mark.parametrize(("word", "says"), [("--help", "Usage: sweep"), ("--version", "sweep")])
def test_help_loads_nothing_heavy(word: str, says: str) -> None:
    call = f"import sweep.cli; sys.argv = ['sweep', '{word}']\ntry: sweep.cli.main()\nexcept SystemExit: pass"
    found, said = run(call)
    assert said.startswith(says)
    assert not {name.partition(".")[0] for name in found} & HEAVY
