"""A study and an MLflow store on PostgreSQL, which two sweeps share at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from e2e_kit import Project, wait_for
from mlflow import MlflowClient
from mlflow_kit import dump, free_port

TRAIN = """
    import sys, time, sweep
    trial, x = sweep.current_trial(), float(sys.argv[1])
    for step in range(3):
        trial.report(step, acc=x + step)
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a server of our own on loopback, without the name of a database."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = places[-1].parent if places else Path(shutil.which("initdb") or "/nowhere").parent
    if not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server here (Debian: apt install postgresql)")
    as_user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="sweep-pg-"))
    if as_user:
        shutil.chown(folder, "postgres")
    port = free_port()
    initdb = [programs / "initdb", "-D", folder, "-U", "sweep", "--auth=trust", "--no-sync", "-E", "UTF8"]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
    subprocess.run(initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_user)
    server = subprocess.Popen(
        [programs / "postgres", "-D", folder, *options], cwd=folder, stderr=subprocess.DEVNULL, **as_user
    )
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL")
        for name in ("study", "mlflow"):
            subprocess.run(
                [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "sweep", name], check=True
            )
        yield f"postgresql+psycopg://sweep:secret@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder)


def test_two_sweeps_share_one_study_and_one_store(project: Project, postgres: str) -> None:
    project.write("train.py", TRAIN)
    project.space(storage=f"{postgres}/study", mlflow=f"{postgres}/mlflow", trials=4, slots=2, devices="cpu:4")
    one, other = (project.start("run", "--json", "space.yaml") for _ in range(2))
    project.wait_for(lambda: project.events("Reported") and project.events("Reported", "s-2"), "both to train")
    one.kill()
    one.wait()
    project.started.remove(one)
    documents = [project.end(other).json]
    killed = ({"s-1", "s-2"} - {documents[0]["id"]}).pop()
    documents.append(project.sweep("resume", killed, "--json").json)
    assert [one["counts"]["COMPLETE"] for one in documents] == [4, 4]

    study = optuna.load_study(study_name="s", storage=f"{postgres}/study")
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    told = {trial.number: (trial.params["x"], trial.value) for trial in complete}
    ours = {t["number"]: (t["params"]["x"], t["values"][0]) for one in documents for t in one["trials"]}
    assert told == ours and len(ours) == 8
    # what the killed one had asked for and not taken note of
    assert {trial.state.name for trial in study.trials if trial not in complete} <= {"FAIL"}
    for document in documents:
        assert document["mlflow"]["lag"]["complete"], document["mlflow"]
        runs = dump(MlflowClient(f"{postgres}/mlflow"), "s", document["id"])
        assert {run["status"] for run in runs.values()} == {"FINISHED"} and len(runs) == 1 + 4
        for trial in document["trials"]:
            points = runs[f"{document['id']}/{trial['number']}"]["metrics"]["acc"]
            assert [(step, value) for step, _, value in points] == [
                (step, repr(trial["params"]["x"] + step)) for step in range(3)
            ]
    for place in project.path.rglob("*"):
        kept = place.is_file() and place.name not in ("space.yaml", "journal.jsonl")  # the file as given
        assert not kept or b"secret" not in place.read_bytes(), place
