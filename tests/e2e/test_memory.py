"""Trials that want more memory than they may have, and a sampler that learns from it."""

from __future__ import annotations

import optuna
import pytest
from e2e_kit import Project
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweep.launch.limits import kept_by_kernel

NO_GROUPS = "from sweep.launch import limits\nlimits.places = lambda *_: {}\n"
TASK = """
    import time

    def train(width, trial):
        trial.report(0, acc=0.0)
        held = bytearray(b"x") * (width * 1_000_000)
        time.sleep(0.5)
        return width / 1000
    """


@pytest.mark.parametrize("by", [*(["the kernel"] if kept_by_kernel(["memory"]) else []), "its supervisor"])
def test_a_trial_is_held_to_its_memory_and_the_sampler_hears_of_it(project: Project, by: str) -> None:
    project.write("task.py", TASK)
    project.write("no_groups.py", NO_GROUPS)  # imported where trials are forked, so that none of them gets a group
    document = project.run(
        objective="task:train",
        command=None,
        space={"width": {"type": "int", "low": 40, "high": 400}},
        enqueue=[{"width": 400}, {"width": 40}],
        trials=2,
        memory="150MB",
        constraints="oom",
        warm=[] if by == "the kernel" else ["no_groups"],
    )
    trials = {trial["params"]["width"]: trial for trial in document["trials"]}
    assert (trials[40]["state"], trials[40]["values"]) == ("COMPLETE", [0.04])
    assert (trials[400]["state"], trials[400]["outcome"], trials[400]["values"]) == ("FAIL", "OOM", None)
    over = "it went over its limit of 150 MB of memory (signal 9, SIGKILL); its peak: "
    assert trials[400]["why"].startswith(over) and trials[400]["why"].endswith(" MB of memory")
    storage = JournalStorage(JournalFileBackend(str(project.directory().study)))
    told = {trial.params["width"]: trial for trial in optuna.load_study(study_name="s-1", storage=storage).trials}
    assert (told[40].state.name, told[40].constraints) == ("COMPLETE", {})
    assert told[400].state.name == "PRUNED" and 0.1 < told[400].constraints["oom"] < 0.5


def test_check_says_where_the_kernel_cannot_keep_a_limit(project: Project) -> None:
    project.write("train.py", "")
    project.space(memory="16GB")
    warnings = project.sweep("check", "space.yaml", "--json").json["warnings"]
    said = [one for one in warnings if "`memory`: no control group may be made here" in one]
    assert len(said) == (not kept_by_kernel(["memory"]))


def test_what_is_no_limit_is_refused_with_its_line(project: Project) -> None:
    project.space(memory="3MB", constraints="memory")
    refused = project.sweep("check", "space.yaml")
    assert refused.code == 2 and not (project.path / "sweeps").exists()
    assert "memory: found the text '3MB'" in refused.err and "constraints: found the text 'memory'" in refused.err
