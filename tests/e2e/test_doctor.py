"""`sweep doctor` where something is really broken: each fault is told with its mend, and nothing else is."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, Result
from mlflow_kit import Server, free_port

from sweep.prepare import PYTHON_OF

NOBODY = "65534"
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes another user")


def states(done: Result, topic: str) -> list[str]:
    return [one["state"] for one in done.json["findings"] if one["topic"] == topic]


def told(done: Result, topic: str, state: str) -> dict[str, str]:
    """The one finding of this kind; there is no other that stands in the way, and it has its mend."""
    found = [one for one in done.json["findings"] if (one["topic"], one["state"]) == (topic, state)]
    assert len(found) == 1, done.out
    bad = [one for one in done.json["findings"] if one["state"] == "bad"]
    assert bad == [one for one in found if state == "bad"]
    assert (done.code, done.json["ok"]) == ((1, False) if bad else (0, True))
    assert found[0]["mend"]
    return dict(found[0])


def doctor(project: Project, *words: str, **options: Any) -> Result:
    return project.sweep("doctor", "--json", *words, **options)


def everything(project: Project) -> set[Path]:
    return {path for folder in (project.path, project.locks.parent) for path in folder.rglob("*")}


def test_a_sound_machine_is_told_in_a_table_and_left_as_it_was(project: Project) -> None:
    project.write("train.py", "")
    before = {*everything(project), project.space(mlflow=True)}
    done = project.sweep("doctor", "space.yaml", env={"COLUMNS": "100"})
    assert done.code == 0, done.out
    for topic in ("python", "packages", "trials", "locks", "folder", "shared memory", "cgroup", "mlflow"):
        assert f"ok    {topic} " in done.out
    assert "space.yaml is valid" in done.out and "nothing stands in the way" in done.out
    assert everything(project) == before


def test_a_sweep_that_ran_here_is_no_fault(project: Project) -> None:
    project.write("train.py", "import sweep; sweep.current_trial().report(0, acc=1.0)")
    project.run()
    with closing(sqlite3.connect(project.path / "mlflow.db")) as store:
        store.execute("CREATE TABLE alembic_version (version_num TEXT)")
    done = doctor(project)
    assert states(done, "mlflow") == states(done, "locks") == states(done, "folder") == ["ok"], done.out
    assert [one["what"] for one in done.json["findings"] if one["topic"] == "mlflow"] == [
        f"{project.path}/mlflow.db answers"
    ]


# ---- packages


def install(project: Project, name: str, version: str, *needs: str) -> dict[str, str]:
    """As a package's metadata tells it; the environment in which Python finds that first."""
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {n}" for n in needs),
    ]
    project.write(f"site/{name.replace('-', '_')}-{version}.dist-info/METADATA", "\n".join(lines))
    return {"PYTHONPATH": str(project.path / "site")}


def test_packages_that_are_missing_or_too_old(project: Project) -> None:
    env = install(
        project, "sweep", "0.1.0", "optuna<5,>=4", "nothing-of-the-kind>=1", "mlflow>=3", "unasked; extra == 'dev'"
    )
    done = doctor(project, env=env)
    wrong = [(one["what"], one["mend"]) for one in done.json["findings"] if one["state"] == "bad"]
    assert done.code == 1 and len(wrong) == 2, done.out
    assert "sweep needs <5,>=4" in wrong[0][0] and "pip install 'optuna<5,>=4'" in wrong[0][1]
    assert wrong[1][0] == "nothing-of-the-kind is not installed"


def test_the_python_of_trials(project: Project, fake_nvml: Any) -> None:
    assert "does not answer" in told(doctor(project, env={PYTHON_OF: "/nowhere/python"}), "trials", "bad")["what"]
    fake_nvml.write("gpu uuid=GPU-1")
    install(project, "paddlepaddle", "9.0")
    builds = {**fake_nvml.env, "PYTHONPATH": str(project.path / "site")}
    assert "on the CPU alone" in told(doctor(project, env=builds), "paddle", "warn")["what"]
    install(project, "paddlepaddle-gpu", "9.0")
    assert "lie over each other" in told(doctor(project, env=builds), "paddle", "warn")["what"]


# ---- folders


def open_ways(path: Path) -> None:
    """Lets another user come to it: pytest's folders are closed."""
    for folder in (path, *path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)


@root
def test_a_lock_folder_of_another_user(project: Project) -> None:
    project.locks.mkdir(mode=0o755)
    open_ways(project.path)
    open_ways(project.locks)
    project.path.chmod(0o777)
    done = doctor(project, through=AS_NOBODY)
    [found] = [one for one in done.json["findings"] if one["topic"] == "locks"]
    assert (found["state"], done.code) == ("bad", 1)
    assert "belongs to root" in found["what"] and f"chmod 1777 {project.locks}" in found["mend"]
    project.locks.chmod(0o1777)
    assert states(doctor(project, through=AS_NOBODY), "locks") == ["ok"]


def test_a_lock_folder_that_shuts_others_out_and_one_that_is_a_file(project: Project) -> None:
    project.locks.mkdir(mode=0o700)
    assert "closed to other users" in told(doctor(project), "locks", "warn")["what"]
    project.locks.rmdir()
    project.locks.touch()
    assert "is not a folder" in told(doctor(project), "locks", "bad")["what"]


@root
def test_a_folder_of_another_user(project: Project) -> None:
    open_ways(project.path)
    project.path.chmod(0o755)
    done = doctor(project, through=AS_NOBODY, env={"SWEEP_LOCK_DIR": "/tmp/sweep-doctor-none"})
    assert done.code == 1 and states(done, "folder") == ["bad"], done.out
    assert states(done, "mlflow") == ["bad"], "mlflow.db would be made there as well"


# ---- limits


@pytest.mark.skipif(not shutil.which("prlimit"), reason="sets limits")
def test_limits_of_descriptors_and_of_address_space(project: Project) -> None:
    files = told(doctor(project, through=("prlimit", "--nofile=60:4096")), "limits", "bad")
    assert files["what"].startswith("60 open files") and files["mend"] == "ulimit -n 1024"
    few = told(doctor(project, through=("prlimit", "--nofile=512:512")), "limits", "warn")
    assert "hard limit" in few["mend"]
    space = told(doctor(project, through=("prlimit", "--as=17179869184")), "limits", "warn")
    assert "17.2 GB" in space["what"] and space["mend"] == "ulimit -v unlimited"


# ---- devices


def test_gpus_and_one_that_is_lost(project: Project, fake_nvml: Any) -> None:
    fake_nvml.write("gpu uuid=GPU-1 name=Fake_H100", "gpu uuid=GPU-2 name=Fake_H100")
    done = doctor(project, env=fake_nvml.env)
    assert done.code == 0 and states(done, "nvidia") == ["ok"], done.out
    named = [one["what"] for one in done.json["findings"] if one["topic"] == "devices"]
    assert any("gpu 1 Fake H100" in one for one in named) and any("takes 2 devices" in one for one in named)
    fake_nvml.write("gpu uuid=GPU-1 name=Fake_H100", "gpu uuid=GPU-2 name=Fake_H100 error=15")
    warned = [one for one in doctor(project, env=fake_nvml.env).json["findings"] if "GPU is lost" in one["what"]]
    assert [one["state"] for one in warned] == ["warn"]


@pytest.mark.parametrize(
    ("code", "says", "mend"),
    [
        (18, "driver and library are of different versions", "reboot"),
        (9, "driver not loaded", "nvidia-smi"),
        (4, "no permission", "/dev/nvidia"),
    ],
)
def test_a_driver_that_refuses(project: Project, fake_nvml: Any, code: int, says: str, mend: str) -> None:
    fake_nvml.write(f"init error={code}")
    found = told(doctor(project, env=fake_nvml.env), "nvidia", "bad")
    assert says in found["what"] and mend in found["mend"]


# ---- stores


def test_a_tracking_server_that_is_not_there(project: Project) -> None:
    uri = f"http://someone:secret@127.0.0.1:{free_port()}"
    done = doctor(project, env={"MLFLOW_TRACKING_URI": uri})
    found = told(done, "mlflow", "bad")
    assert "refused" in found["what"] and "MLFLOW_TRACKING_URI" in found["mend"]
    assert "secret" not in done.out


class _Nonsense(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403 if "Authorization" in self.headers else 200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *_: Any) -> None: ...


def test_a_server_that_is_another_one_refuses_or_is_silent(project: Project) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Nonsense) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}"}
        assert "not as an MLflow server" in told(doctor(project, env=env), "mlflow", "bad")["what"]
        refused = told(doctor(project, env={**env, "MLFLOW_TRACKING_TOKEN": "x"}), "mlflow", "bad")
        assert "403" in refused["what"] and "MLFLOW_TRACKING_TOKEN" in refused["mend"]
        server.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        assert "timed out" in told(doctor(project, env=env), "mlflow", "bad")["what"]


def test_a_tracking_server_that_answers(project: Project, mlflow_server: Server) -> None:
    done = doctor(project, env={"MLFLOW_TRACKING_URI": mlflow_server.url})
    assert states(done, "mlflow") == ["ok"], done.out


def test_a_store_that_is_no_database(project: Project) -> None:
    project.write("mlflow.db", "nothing of the kind " * 50)
    assert "not a database" in told(doctor(project), "mlflow", "bad")["what"]
    (project.path / "mlflow.db").unlink()
    project.write("mlruns/0/meta.yaml", "")
    assert "migrate-filestore" in told(doctor(project), "mlflow", "bad")["mend"]


# ---- a file


def test_what_a_file_needs(project: Project) -> None:
    project.write("train.py", "")
    project.space(command="python trian.py {x}")
    assert "did you mean train.py?" in told(doctor(project, "space.yaml"), "file", "bad")["what"]
    project.space(devices="gpu")
    assert "no GPU found" in told(doctor(project, "space.yaml"), "file", "bad")["what"]
    project.space(sampler="tpo")
    assert "tpo" in told(doctor(project, "space.yaml"), "file", "bad")["what"]
    project.space(storage=f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/s")
    done = doctor(project, "space.yaml")
    assert "refused" in told(done, "storage", "bad")["what"] and "secret" not in done.out
    project.write("space.yaml", "name: s\ntrails: 3\n")
    assert "trails" in told(doctor(project, "space.yaml"), "file", "bad")["what"]
