"""What is sampled, in which order, and when there is nothing more to sample."""

from __future__ import annotations

import json
from typing import Any

import pytest
from e2e_kit import Project

TRAIN = """
    import sweep
    trial = sweep.current_trial()
    for step in range(3):
        trial.report(step, acc=trial.params.get("x", 0) * (step + 1))
"""
SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "kind": ["a", "b"],
    "deep": {"type": "int", "low": 1, "high": 1000, "log": True, "when": {"kind": "a"}},
}


def params(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial["params"] for trial in document["trials"]]


def test_a_seed_and_one_slot_give_the_same_sweep_again(project: Project) -> None:
    project.write("train.py", TRAIN)
    wish = {"x": 0.125, "kind": "a", "deep": 10}
    project.space(command="python train.py", space=SPACE, seed=7, devices="cpu:1", trials=15, enqueue=[wish])
    both = [
        project.start("run", "space.yaml", "--json", env={"SWEEP_LOCK_DIR": str(project.path / name)})
        for name in ("locks-1", "locks-2")
    ]
    first, second = (project.end(one).json for one in both)
    assert first["counts"]["COMPLETE"] == 15
    assert params(first) == params(second)
    assert params(first)[0] == wish, "the user's own comes first"
    assert len({json.dumps(one) for one in params(first)}) == 15
    other = project.sweep("check", "space.yaml", "--set", "seed=8", "--json").json["samples"]
    assert other[0]["params"] == wish and other[1]["params"] != params(first)[1]


@pytest.mark.parametrize("sampler", ["grid", "bruteforce"])
def test_an_exhaustive_sampler_ends_the_sweep_although_more_trials_are_allowed(
    project: Project, sampler: str
) -> None:
    project.write("train.py", TRAIN)
    space: dict[str, Any] = {"x": [1, 2, 3], "kind": ["a", "b"], "fixed": 7}
    if sampler == "bruteforce":
        space["deep"] = {"type": "int", "low": 1, "high": 2, "when": {"kind": "a"}}
    document = project.run(command="python train.py", space=space, sampler=sampler, trials=99, devices="cpu:3")
    count = 9 if sampler == "bruteforce" else 6
    assert (document["state"], document["counts"]["COMPLETE"]) == ("FINISHED", count)
    assert len({json.dumps(one, sort_keys=True) for one in params(document)}) == count
    assert all(("deep" in one) == (sampler == "bruteforce" and one["kind"] == "a") for one in params(document))
    assert "Traceback" not in project.log()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sampler": "tpee"}, ["sampler", "tpee", "did you mean `tpe`?"]),
        ({"pruner": {"name": "median", "n_startup": 3}}, ["pruner.n_startup", "n_startup_trials"]),
        ({"sampler": "gp"}, ["sampler", "needs torch", "pip install torch"]),
        ({"command": "python trian.py"}, ["trian.py", "train.py"]),
        ({"spce": {}}, ["spce", "space"]),
    ],
    ids=str,
)
def test_a_mistake_in_the_file_leaves_nothing_behind(
    project: Project, keys: dict[str, Any], said: list[str]
) -> None:
    if keys.get("sampler") == "gp":
        try:
            import torch  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("torch is here, so GP works")
    project.write("train.py", TRAIN)
    project.space(**keys)
    before = sorted(path.name for path in project.path.iterdir())
    done = project.sweep("check" if "spce" in keys else "run", "space.yaml")
    assert done.code == 2 and not done.out and "Traceback" not in done.err
    assert [word for word in ["space.yaml", *said] if word not in done.err] == [], done.err
    assert sorted(path.name for path in project.path.iterdir()) == before
