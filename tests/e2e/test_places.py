"""Folders that make trouble: a path too long for a socket, one that cannot be written, a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from e2e_kit import Project, opened
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


def mounted(folder: Path, options: str) -> None:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Project]:
    """A project on a disk of 80 MiB of its own."""
    mounted(tmp_path / "disk", "size=80m")
    try:
        with opened(tmp_path / "disk") as project:
            yield project
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


def test_reports_ring_at_the_end_of_a_very_long_path(tmp_path: Path) -> None:
    with opened(tmp_path / ("a-long-name-" * 12) / ("and-another-" * 8)) as project:
        project.write(
            "train.py",
            """
            import time, sweep
            trial = sweep.current_trial()
            said = time.monotonic()
            try:
                for step in range(10_000):
                    trial.report(step, acc=99)
                    time.sleep(0.002)
            finally:
                open(trial.directory + "/waited", "w").write(str(time.monotonic() - said))
            """,
        )
        document = project.run(1, trials=6, pruner={"name": "threshold", "upper": 10})
        assert document["counts"]["PRUNED"] == 6
        waited = [float(file.read_text()) for file in project.directory().trials.glob("*/1/waited")]
        # reports that do not ring are found once a second; one of them may meet a busy machine
        assert len(waited) == 6 and sorted(waited)[4] < 0.3


def test_what_cannot_be_printed_or_read_is_said_in_words(project: Project) -> None:
    project.write("train.py", "import sweep\nsweep.current_trial().report(0, acc=1)\n")
    with Path("/dev/full").open("w") as full:
        for words in (["run", "space.yaml"], ["status"], ["list", "--json"]):
            project.space(trials=1)
            done = project.sweep(*words, stdout=full)
            assert done.code == 1 and done.err.endswith("sweep: cannot write: No space left on device\n")
    assert project.sweep("status", "--json").json["state"] == "FINISHED", "its output is not the sweep"
    project.directory().journal.write_text("garbage\n" + project.directory().journal.read_text())
    listed = project.sweep("list", "--json")
    assert listed.json["sweeps"] == [] and "s-1 cannot be read; `sweep status s-1` says why" in listed.err
    (project.path / "gone").mkdir()
    gone = project.sweep(
        "status", cwd=project.path / "gone", through=["sh", "-c", 'rmdir ../gone; exec "$@"', "sh"]
    )
    assert gone.code == 2 and gone.err.startswith("sweep: the folder that you are in was removed")


@needs_root
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        mounted(project.path / "sealed", "size=1m,mode=755")
        try:
            project.write("sealed/train.py", "print()")
            (project.path / "sealed/space.yaml").write_text(project.space().read_text())
            subprocess.run(["mount", "-o", "remount,ro", str(project.path / "sealed")], check=True)
            done = project.sweep("run", "space.yaml", cwd=project.path / "sealed")
            assert done.code == 1 and "Traceback" not in done.err
            assert f"cannot make a folder for the sweep in {project.path}/sealed/sweeps: Read-only" in done.err
        finally:
            subprocess.run(["umount", "-l", str(project.path / "sealed")], check=True)


@needs_root
def test_launches_stop_before_the_disk_is_full(small_disk: Project) -> None:
    """While a tenth of it is left everybody can still write; what runs runs to its end, and then all goes on."""
    project = small_disk
    project.write(
        "train.py",
        """
        import os, sweep, time
        trial = sweep.current_trial()
        if trial.number == 0:
            with open("filler", "wb") as file:
                file.write(bytes((75 << 20) - (os.statvfs(".").f_blocks - os.statvfs(".").f_bfree) * 4096))
            while "LaunchesHeld" not in open("sweeps/s-1/journal.jsonl").read():
                time.sleep(0.1)
        trial.report(0, acc=trial.params["x"])
        with trial.checkpoint(0) as folder:
            open(folder + "/model", "wb").write(bytes(1 << 20))
        """,
    )
    project.space(trials=3, devices="cpu:1")
    process = project.start("run", "space.yaml", "--json")
    (ended,) = project.wait_for(lambda: project.events("AttemptEnded"), "the first trial")
    assert ended["code"] == 0 and project.directory().attempt(0, 1).exit.exists()
    said = project.sweep("status").out
    assert "are free on the disk of" in said and "8.39 MB stay in reserve" in " ".join(said.split())
    assert len(project.events("AttemptStarted")) == 1
    (project.path / "filler").unlink()
    done = project.end(process)
    assert done.code == 0 and done.json["counts"]["COMPLETE"] == 3
    assert "no new trials: " in done.err and "going on" in done.err


@needs_root
def test_a_full_disk_loses_nothing(small_disk: Project, tmp_path: Path) -> None:
    """Reports, journal, study and ends wait for room; nothing new is started; then all goes on."""
    project = small_disk
    project.write(
        "train.py",
        """
        import os, sweep
        trial = sweep.current_trial()
        x = trial.params["x"]
        trial.report(0, acc=x)
        if trial.number == 1:
            with open("filler", "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError as error:
                    assert error.errno == 28
            os.rename("filler", "full")
        for step in range(1, 50):
            trial.report(step, {"acc": x + step, "a long name " * 20: 1.0})  # more than a block has room for
        trial.report(50, acc=10 * x)
        """,
    )
    project.space(trials=5, devices="cpu:1")
    screen = tmp_path / "stderr"
    with screen.open("w") as file:
        process = project.start("run", "space.yaml", "--json", stderr=file)
    project.wait_for(lambda: (project.path / "full").exists(), "a full disk")
    project.wait_for(lambda: "no new trials" in screen.read_text(), "a word about it")
    paths = project.directory().attempt(1, 1)
    assert not paths.exit.exists() and len(paths.reports.read_text().splitlines()) < 51, "they wait for room"
    (project.path / "full").unlink()
    done = project.end(process)
    assert done.code == 0 and "Traceback" not in screen.read_text()
    study = optuna.load_study(
        study_name="s-1", storage=JournalStorage(JournalFileBackend(str(project.directory().study)))
    )
    for ours, theirs in zip(done.json["trials"], study.trials, strict=True):
        x = ours["params"]["x"]
        assert (ours["state"], ours["values"], ours["step"]) == ("COMPLETE", [10 * x], 50)
        assert len(ours["attempts"]) == 1
        assert theirs.values == [10 * x] and len(theirs.intermediate_values) == 51
        lines = project.directory().attempt(ours["number"], 1).reports.read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(51))
