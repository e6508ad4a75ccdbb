"""`sweep.run` and a handle, in scripts of their own: what outlives whom, what an interrupt does, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from e2e_kit import LONGEST, Project, wait_for

import sweep
from sweep.errors import NotFoundError, UsageError

TRAIN = """
    import os, sys, time, sweep
    trial = sweep.current_trial()
    for step in range(1, 4):
        trial.report(step, acc=float(sys.argv[1]) * step)
        time.sleep(0.2 if sys.argv[2] == "slow" else 0)
        while sys.argv[2] == "wait" and not os.path.exists("go"):
            time.sleep(0.02)
"""


def script(project: Project, code: str, **options: Any) -> subprocess.Popen[str]:
    file = project.write("script.py", "import sweep\n" + textwrap.dedent(code))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(file)], cwd=project.path, env=project.env, **{**pipes, **options})


def ran(project: Project, code: str) -> list[str]:
    """The lines that it prints."""
    process = script(project, code)
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    return out.splitlines()


def given(project: Project, how: str = "quick", **keys: Any) -> None:
    """how: quick, slow, or wait (for a file `go`)."""
    project.write("train.py", TRAIN)
    project.space(command=f"python train.py {{x}} {how}", **keys)


def test_a_mapping_with_distributions_runs_to_its_end(project: Project) -> None:
    given(project)
    lines = ran(
        project,
        """
        from optuna.distributions import FloatDistribution
        s = sweep.run(
            {
                "name": "mine",
                "command": "python train.py {x} quick",
                "metric": "acc",
                "direction": "maximize",
                "space": {"x": FloatDistribution(0, 1), "kind": ("a", "b")},
                "devices": "cpu:2",
                "mlflow": False,
            },
            trials=3,
            seed=1,
        )
        print(s.id, s.status, len(s.trials), len(s.curves()), s.best.value == max(t.value for t in s.trials))
        """,
    )
    assert lines[-1] == "mine-1 FINISHED 3 9 True"
    assert any("trial 2 complete" in line for line in lines)  # plain lines on the way
    told = project.sweep("check", "sweeps/mine-1/space.yaml", "--json").json["config"]
    assert (told["trials"], told["seed"], told["space"]["kind"]["choices"]) == (3, 1, ["a", "b"])


def test_a_sweep_outlives_the_process_that_began_it(project: Project) -> None:
    given(project, "wait", trials=4)
    [name] = ran(project, 'print(sweep.run("space.yaml", watch=False).id)')
    found = sweep.load(name, project=project.path)
    assert found.status == "RUNNING"
    assert found.wait(0.01) == "RUNNING"
    project.write("go", "")
    assert found.wait(LONGEST) == "FINISHED"
    assert found.counts["COMPLETE"] == 4
    assert len(found.dataframe()) == 4


def test_an_interrupt_lets_running_trials_finish(project: Project) -> None:
    given(project, "wait", trials=50)
    process = script(project, 's = sweep.run("space.yaml")\nprint(s.status, s.counts["COMPLETE"])')
    found = wait_for(lambda: _loaded(project, process), "the sweep")
    wait_for(lambda: found.counts["RUNNING"] == 2, "two running trials")
    os.kill(process.pid, signal.SIGINT)
    wait_for(lambda: found.status == "DRAINING", "the order to come through")
    project.write("go", "")
    out, err = process.communicate(timeout=LONGEST)
    assert (process.returncode, out.splitlines()[-1]) == (0, f"FINISHED {found.counts['COMPLETE']}"), err
    assert found.counts["COMPLETE"] == len([trial for trial in found.trials if trial.started]) == 2
    assert "interrupted" in found.why


def _loaded(project: Project, process: subprocess.Popen[str]) -> sweep.Sweep | None:
    assert process.poll() is None, process.communicate()[1]
    try:
        return sweep.load(project=project.path)
    except NotFoundError:
        return None


def test_a_handle_changes_a_sweep_that_runs_and_one_that_was_left(project: Project) -> None:
    given(project, "slow", trials=50)
    ran(project, 'sweep.run("space.yaml", watch=False)')
    found = sweep.load(project=project.path)
    assert found.enqueue(x=0.25)
    mine = wait_for(lambda: next((t for t in found.trials if t.origin == "enqueued" and t.started), None), "mine")
    assert mine.params == {"x": 0.25}
    found.stop(mine.number)
    assert found.trials[mine.number].outcome == "STOPPED"
    assert found.status == "RUNNING"
    with pytest.raises(UsageError, match="does not"):
        found.enqueue(x=2.0)
    controller = json.loads(project.sweep("status", "--json").out)["controller"]["pid"]
    os.kill(controller, signal.SIGKILL)
    wait_for(lambda: found.status == "INTERRUPTED", "the controller's end")
    assert not found.enqueue(x=0.5)
    lines = ran(project, "s = sweep.load()\ns.stop(now=True)\nprint(s.status, s.counts['RUNNING'])")
    assert lines in (["FINISHED 0"], ["FAILED 0"])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ('sweep.run("space.yaml", trails=3)', "trails: is no key here"),
        (
            'sweep.run({"command": "true", "metric": "a", "direction": "maximize", "space": {"x": 1}, "goal": 3})',
            "goal: is no key here",
        ),
        ('sweep.run("space.yaml", command="python missing.py {x}")', "missing.py"),
        ('sweep.run("space.yaml", sampler="tpo")', "Optuna has no sampler 'tpo'"),
        ('sweep.run("nowhere.yaml")', "nowhere.yaml"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(call: str, told: str, project: Project) -> None:
    given(project)
    process = script(project, call)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 1
    assert told in err.partition("sweep.errors.")[2], err
    assert not (project.path / "sweeps").exists()
