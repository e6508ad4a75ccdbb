"""`sweep report` and `sweep replay` of a sweep that was really run, and what they refuse."""

from __future__ import annotations

from typing import Any

from e2e_kit import Project

# those below 0.5 go on until they are pruned, those above 0.9 fail
TRAIN = """
    import sys, time, sweep
    trial = sweep.current_trial()
    x = float(sys.argv[1])
    if x > 0.9:
        raise RuntimeError("no <b>luck</b>")
    for step in range(1, 7 if x > 0.5 else 100_000):
        trial.report(step, acc=x * min(step, 6))
        time.sleep(0.005)
"""
WISHES = [0.55, 0.6, 0.1, 0.7, 0.95, 0.2, 0.8]  # whoever is not pruned is above the median


def run(project: Project) -> dict[str, Any]:
    project.write("train.py", TRAIN)
    wishes = {"enqueue": [{"x": x} for x in WISHES], "trials": len(WISHES)}
    return project.run(pruner={"name": "median", "n_startup_trials": 2}, devices="cpu:1", grace=5, **wishes)


def test_a_sweep_is_reported_and_replayed(project: Project) -> None:
    ran = run(project)
    counts = ran["counts"]
    assert (counts["COMPLETE"], counts["PRUNED"], counts["FAIL"]) == (4, 2, 1)

    written = project.sweep("report", "s", "-o", "mine.html", "--json").json
    assert written == {"id": "s-1", "state": "FINISHED", "path": str(project.path / "mine.html")}
    text = (project.path / "mine.html").read_text()
    assert text.count("<svg") == 5
    assert "no &lt;b&gt;luck&lt;/b&gt;" in text and "<b>luck" not in text

    own = project.sweep("replay", "--json").json
    assert own["pruner"] == {"name": "median", "n_startup_trials": 2}
    assert own["trials"] == 6
    assert own["left_out"]["failed"] == 1
    for column in ("recorded", "same_trials", "replayed"):
        assert (own[column]["complete"], own[column]["pruned"]) == (4, 2)
        assert own[column]["best"]["trial"] == 6
    assert (own["replayed"]["unknown"], own["replayed"]["regret"]) == ([], None)
    assert own["recorded"]["wall_seconds"] >= own["same_trials"]["wall_seconds"] > 0

    none = project.sweep("replay", "s-1", "--pruner", "nop", "--slots", "3", "--json").json
    assert none["replayed"]["unknown"] == [2, 5]
    assert none["replayed"]["slot_seconds"] == none["recorded"]["slot_seconds"]
    assert none["replayed"]["wall_seconds"] < none["recorded"]["wall_seconds"]

    said = project.sweep("replay", "--pruner", "threshold:lower=0,upper=0").out
    assert "pruner threshold (lower=0, upper=0), 1 slot" in said
    assert "regret: everything; trial 6 was pruned at step 1" in said


def test_what_cannot_be_told_is_refused_in_words(project: Project) -> None:
    for command in ("report", "replay"):
        assert project.sweep(command).code == 3
    project.write("train.py", "import sweep\nsweep.current_trial().report(1, acc=1, speed=2)\n")
    project.run(metric=["acc", "speed"], direction=["maximize", "maximize"], trials=1)
    refused = project.sweep("replay")
    assert (refused.code, "s-1 has several objectives" in refused.err) == (2, True)
    project.run(code=1, command="false", trials=1)
    refused = project.sweep("replay")
    assert (refused.code, "nothing to replay" in refused.err) == (2, True)
    assert project.sweep("report").out.strip() == str(project.path / "s-2.html")
