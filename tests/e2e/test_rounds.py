"""Chains of sweeps: `on_finish: {run: ...}` starts the next, `from_best` takes over what the last has found."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from e2e_kit import Project

from sweep import journal
from sweep.config.load import load
from sweep.config.preflight import preflight
from sweep.rundir import sweeps

TRAIN = """
    import sys, sweep
    x, kind = float(sys.argv[1]), sys.argv[2]
    sweep.current_trial().report(0, acc=-(x - 0.6) ** 2 - (kind == "b"))
"""
SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "kind": ["a", "b"],
    "depth": {"type": "int", "low": 1, "high": 9, "when": {"kind": "b"}},
}
COMMAND = "python train.py {x} {kind} --depth {depth}"
WISHES = [{"x": 0.5, "kind": "a"}, {"x": 0.7, "kind": "a"}, {"x": 0.1, "kind": "b", "depth": 3}]


@pytest.fixture
def project(project: Project) -> Project:
    project.write("train.py", TRAIN)
    return project


def write(project: Project, name: str, **keys: Any) -> None:
    """`name`.yaml: a small sweep of that name."""
    project.space(name=name, **{"command": COMMAND, "space": SPACE, "trials": 2, **keys}).rename(
        project.path / f"{name}.yaml"
    )


def states(project: Project) -> dict[str, str]:
    return {one.id: journal.replay(one.journal).state.value for one in sweeps(project.path)}


def finished(project: Project, *ids: str) -> None:
    project.wait_for(lambda: states(project) == dict.fromkeys(ids, "FINISHED"), f"the end of {ids}")


def test_a_sweep_starts_the_next_which_goes_on_from_its_best(project: Project) -> None:
    write(project, "coarse", trials=3, enqueue=WISHES, on_finish={"run": "fine.yaml"})
    write(
        project, "fine", trials=3, from_best={"sweep": "previous", "top": 2, "narrow": 0.2}, enqueue=[{"x": 0.95}]
    )
    assert project.sweep("run", "coarse.yaml").code == 0
    finished(project, "coarse-1", "fine-1")

    first, second = (project.sweep("status", name, "--json").json for name in ("coarse-1", "fine-1"))
    assert first["hooks"][0]["said"] == "fine-1 was started"
    assert second["started_by"] == {"sweep": "coarse-1", "ending": 1, "hook": "on_finish", "round": 2}
    configurations = [trial["params"] for trial in second["trials"]]
    assert {"x": 0.5, "kind": "a"} in configurations[:2] and {"x": 0.7, "kind": "a"} in configurations[:2]
    assert all(0.5 <= one["x"] <= 0.7 and one["kind"] == "a" for one in configurations)

    # what it began with is a file that needs nothing of the other sweep, and neither does its resume
    frozen = project.directory("fine-1").space
    config, warnings = load(frozen)
    assert (config.from_best, warnings) == (None, [])
    assert list(config.space) == ["x", "kind"] and config.command == ["python", "train.py", "{x}", "{kind}"]
    assert len(config.enqueue) == 2, "the file's own lies outside"
    text = frozen.read_text()
    assert "from coarse-1: the best 2 trials" in text and "1 configuration of `enqueue` left out" in text
    shutil.rmtree(project.directory("coarse-1").path)
    done = project.sweep("resume", "fine-1", "--trials", "5", "--json")
    assert done.code == 0 and done.json["counts"]["COMPLETE"] == 5, done.err
    assert all(0.5 <= trial["params"]["x"] <= 0.7 for trial in done.json["trials"])
    assert not project.events("ConfigChanged", "fine-1"), "its file was not edited"


def test_a_next_sweep_is_started_once_whatever_is_forgotten(project: Project) -> None:
    """A kill while the next sweep is on its way, and one between its start and the note of it."""
    write(project, "a", on_finish={"run": "b.yaml"})
    write(project, "b")
    process = project.start("run", "a.yaml")
    project.wait_for(project.directory("a-1").hooks_lock.exists, "the hook")
    process.kill()
    project.end(process)
    assert project.sweep("resume", "a-1").code == 0
    finished(project, "a-1", "b-1")
    project.directory("a-1").told.unlink()
    assert project.sweep("resume", "a-1").code == 0
    assert "b-1 was started" in project.directory("a-1").told.read_text()
    finished(project, "a-1", "b-1")
    assert project.sweep("resume", "a-1", "--trials", "3").code == 0  # which ends anew
    finished(project, "a-1", "b-1", "b-2")


def test_one_file_in_three_rounds_each_narrower(project: Project) -> None:
    write(
        project,
        "zoom",
        on_finish={"run": "zoom.yaml", "rounds": 3},
        from_best={"sweep": "previous", "top": 1, "narrow": 0.5},
        seed=1,
    )
    assert project.sweep("run", "-d", "zoom.yaml").code == 0
    finished(project, "zoom-1", "zoom-2", "zoom-3")
    told = project.directory("zoom-3").told
    project.wait_for(lambda: told.exists() and "round 3 of 3" in told.read_text(), "the last word")
    ranges = [load(project.directory(f"zoom-{n}").space)[0].space["x"] for n in (1, 2, 3)]
    assert [one.high - one.low for one in ranges] == pytest.approx([1.0, 0.5, 0.25])


@pytest.mark.parametrize("where", ["itself", "the other"])
def test_an_endless_chain_is_refused(project: Project, where: str) -> None:
    write(project, "a", on_finish={"run": "a.yaml" if where == "itself" else "b.yaml"})
    write(project, "b", on_finish={"run": "a.yaml"})
    problems = preflight(load(project.path / "a.yaml")[0], project.path)
    assert all("would start itself without end; say how often: `rounds: 3`" in problem for problem in problems)
    assert len(problems) == (1 if where == "itself" else 2)
    write(project, "b", on_finish={"run": "a.yaml", "rounds": 4})
    assert bool(preflight(load(project.path / "b.yaml")[0], project.path)) == (where == "itself")


def test_the_mistake_of_a_later_file_is_told_first(project: Project) -> None:
    write(project, "a", on_finish={"run": "b.yaml"})
    write(project, "b", command="python trian.py {x} {kind}")
    [problem] = preflight(load(project.path / "a.yaml")[0], project.path)
    assert "b.yaml: command: there is no script" in problem and "did you mean train.py?" in problem


def test_no_chain_goes_on_from_a_failure_or_a_stop(project: Project) -> None:
    write(project, "b")
    project.write("bad.py", "raise SystemExit(1)")
    write(project, "failed", command="python bad.py {x}", on_finish={"run": "b.yaml"})
    done = project.sweep("run", "failed.yaml", "--json")
    assert (done.code, done.json["hooks"][0]["said"]) == (1, "b.yaml is not started: the sweep failed")
    write(project, "mended", command="python bad.py {x}", on_fail={"run": "b.yaml"})
    done = project.sweep("run", "mended.yaml", "--json")
    assert done.json["hooks"][0]["said"] == "b-1 was started"

    project.write("slow.py", "import sweep, time; sweep.current_trial().report(0, acc=1.0); time.sleep(0.3)")
    write(project, "stopped", command="python slow.py", trials=500, on_finish={"run": "b.yaml"})
    assert project.sweep("run", "-d", "stopped.yaml").code == 0
    project.wait_for(lambda: project.events("AttemptEnded", "stopped-1"), "a trial")
    assert project.sweep("stop", "stopped").code == 0
    project.wait_for(lambda: project.directory("stopped-1").told.exists(), "the hook")
    hook = json.loads(project.directory("stopped-1").told.read_text())["hooks"]["on_finish"]
    assert hook["said"] == "b.yaml is not started: the sweep was stopped"
    finished_or_failed = {"failed-1": "FAILED", "mended-1": "FAILED", "stopped-1": "FINISHED", "b-1": "FINISHED"}
    project.wait_for(lambda: states(project) == finished_or_failed, "the end")


def test_check_shows_what_is_taken_over(project: Project) -> None:
    write(project, "coarse", trials=3, enqueue=WISHES)
    assert project.sweep("run", "coarse.yaml").code == 0
    write(project, "fine", from_best={"sweep": "coarse", "top": 1, "narrow": 0.5})
    seen = project.sweep("check", "fine.yaml").out
    assert "from coarse-1: the best 1 trial, of which 1 come first here" in seen
    assert "x: 0 to 1 -> 0.25 to 0.75" in seen and "kind: a, b -> a" in seen
    assert "depth: 1 to 9, step 1 -> can no longer be active" in seen
    assert "  0  x=0.5 kind=a\n" in seen
    write(project, "fine", from_best={"sweep": "coarse-1", "top": 3}, direction="minimize")
    document = project.sweep("check", "fine.yaml", "--json").json
    assert document["config"]["space"]["x"]["high"] == 1.0, "without narrow the space stays"
    assert document["config"]["enqueue"][-1] == {"x": 0.1, "kind": "b", "depth": 3}, (
        "the best of *that* sweep first"
    )


def test_a_sweep_to_go_on_from_that_is_not_there_or_has_nothing(project: Project) -> None:
    write(project, "fine", from_best={"sweep": "coarse"})
    done = project.sweep("run", "fine.yaml")
    assert done.code == 2 and "fine.yaml: from_best.sweep: no sweep 'coarse'" in done.err
    project.write("bad.py", "raise SystemExit(1)")
    write(project, "coarse", command="python bad.py {x}")
    assert project.sweep("run", "coarse.yaml").code == 1
    done = project.sweep("run", "-d", "fine.yaml")
    assert done.code == 2 and "coarse-1 has no completed trial" in done.err
    write(project, "fine", from_best={"sweep": "coarce"})
    assert "did you mean `coarse-1`?" in project.sweep("check", "fine.yaml").err
    assert set(states(project)) == {"coarse-1"}
