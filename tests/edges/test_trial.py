"""The trial's side alone: a script without a sweep, and one whose attempt folder nobody watches."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.launch.watch import Watch
from sweep.rundir import AttemptDir
from sweep.trial import Trial, TrialPruned, TrialStopped


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "s-1/trials/3/2"
    folder.mkdir(parents=True)
    (folder / "params.json").write_text('{"lr": 0.1, "epochs": 3}')
    return folder


def environ(attempt: Path) -> dict[str, str]:
    return {
        "SWEEP_ID": "s-1",
        "SWEEP_TRIAL": "3",
        "SWEEP_ATTEMPT": attempt.name,
        "SWEEP_ATTEMPT_DIR": str(attempt),
        "SWEEP_PARAMS": str(attempt / "params.json"),
    }


@pytest.fixture
def trial(attempt: Path) -> Trial:
    return Trial(environ(attempt))


def lines(attempt: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (attempt / "reports.jsonl").read_text().splitlines()]


def python(text: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter, outside a sweep unless `env` says otherwise."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SWEEP_")}
    command = [sys.executable, "-c", text]
    return subprocess.run(
        command, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=30, check=False
    )


# ---- outside a sweep -----------------------------------------------------------------------------------------


def test_a_script_runs_alone(tmp_path: Path) -> None:
    done = python(
        """if True:
        import sweep
        trial = sweep.current_trial()
        print(trial.number, trial.attempt, trial.params, trial.resume(), trial is sweep.current_trial())
        trial.report(1, acc=0.5)
        with trial.checkpoint(7) as folder:
            open(folder + "/w", "w").write("whole")
        print(trial.step)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "None None {} None True\n1\n")
    assert (tmp_path / "checkpoints/7/w").read_text() == "whole"
    assert (tmp_path / "checkpoints").stat().st_mode & 0o077 == 0, "private"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_alone_it_refuses_what_a_sweep_would_refuse(tmp_path: Path) -> None:
    done = python("import sweep; t = sweep.current_trial(); t.report(2, a=1); t.report(1, a=1)", tmp_path)
    assert done.returncode == 1 and "steps never go back" in done.stderr


def test_its_import_brings_nothing_that_is_slow(tmp_path: Path) -> None:
    slow = {
        "json",
        "socket",
        "typing",
        "dataclasses",
        "pathlib",
        "re",
        "shutil",
        "inspect",
        "logging",
        "threading",
    }
    ask = f"import sys; before = set(sys.modules); import sweep; print(*(set(sys.modules) - before) & {slow})"
    isolated = ["-S", "-c", ask]  # -S: what other packages' .pth files import is not ours
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, *isolated], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []


# ---- reports -------------------------------------------------------------------------------------------------


def test_a_report_is_one_line_with_the_time_of_saying_it(trial: Trial, attempt: Path) -> None:
    trial.report(0, acc=0.5, loss=2)
    trial.report(0, {"top 5/acc": True}, lr=1e-9)
    first, second = lines(attempt)
    assert first["step"] == 0 and first["metrics"] == {"acc": 0.5, "loss": 2.0} and first["at"] > 1.7e9
    assert second["metrics"] == {"top 5/acc": 1.0, "lr": 1e-9}
    assert trial.step == 0 and trial.params == {"lr": 0.1, "epochs": 3}


def test_odd_numbers_are_words_because_json_has_none(trial: Trial, attempt: Path) -> None:
    trial.report(1, nan=float("nan"), up=float("inf"), down=float("-inf"))
    assert lines(attempt)[0]["metrics"] == {"nan": "NaN", "up": "Infinity", "down": "-Infinity"}


def test_numbers_of_libraries_are_numbers(trial: Trial, attempt: Path) -> None:
    numpy = pytest.importorskip("numpy")
    trial.report(numpy.int64(3), acc=numpy.float32(0.5), one=numpy.array([0.25]).mean(), size=numpy.int8(7))
    assert lines(attempt)[0] == {**lines(attempt)[0], "step": 3, "metrics": {"acc": 0.5, "one": 0.25, "size": 7.0}}


@pytest.mark.parametrize(
    ("step", "metrics", "error", "said"),
    [
        (4, {"acc": 1}, ValueError, "report(4): an earlier report was for step 5; steps never go back"),
        (-1, {"acc": 1}, ValueError, "report(-1): an earlier report was for step 5"),
        (5.5, {"acc": 1}, TypeError, "a step is a whole number, not 5.5"),
        ("6", {"acc": 1}, TypeError, "a step is a whole number, not '6'"),
        (6, {"acc": "0.9x"}, TypeError, "report: acc is a str ('0.9x'), not a number"),
        (6, {"acc": None}, TypeError, "report: acc is a NoneType (None), not a number"),
        (6, {"acc": [1, 2]}, TypeError, "report: acc is a list ([1, 2]), not a number"),
        (6, {"acc": 1, "big": "x" * 9999}, TypeError, "report: big is a str ('xxx"),
    ],
)
def test_what_is_no_report_is_refused_in_words(
    trial: Trial, attempt: Path, step: Any, metrics: Any, error: type[Exception], said: str
) -> None:
    trial.report(5, acc=1)
    with pytest.raises(error) as caught:
        trial.report(step, metrics)
    assert str(caught.value).startswith(said) and len(str(caught.value)) < 200
    assert len(lines(attempt)) == 1 and trial.step == 5
    trial.report(6, acc=1)


@pytest.mark.parametrize(
    ("name", "instead"),
    [("suggest_float", "trial.params has what was chosen"), ("should_prune", "report() raises sweep.TrialPruned")],
)
def test_an_objective_of_optunas_is_told_what_to_use_instead(trial: Trial, name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=name) as caught:
        getattr(trial, name)
    assert instead in str(caught.value)
    assert not hasattr(trial, "parms")


def test_steps_count_from_0(trial: Trial) -> None:
    with pytest.raises(ValueError, match=r"report\(-1\): steps count from 0"):
        trial.report(-1, acc=1)


def test_a_metric_may_have_any_name(trial: Trial, attempt: Path) -> None:
    names = ["step", "at", "naïve", 'a"b', "a\nb", "精度", "", 3]
    trial.report(1, dict.fromkeys(names, 1.0))
    assert lines(attempt)[0]["metrics"] == {str(name): 1.0 for name in names}


@pytest.fixture
def bell(attempt: Path) -> Iterator[socket.socket]:
    """The controller's end of the doorbell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        folder = os.open(attempt.parents[2], os.O_RDONLY)
        bell.bind(f"/proc/self/fd/{folder}/doorbell")
        os.close(folder)
        yield bell


def rings(bell: socket.socket) -> list[bytes]:
    found = []
    while select.select([bell], [], [], 0)[0]:
        found.append(bell.recv(100))
    return found


def test_every_line_rings_after_it_is_written(trial: Trial, attempt: Path, bell: socket.socket) -> None:
    trial.report(1, acc=1)
    trial.report(2, acc=1)
    with trial.checkpoint(2):
        pass
    assert rings(bell) == [b"3/2"] * 3


def test_a_path_that_no_socket_address_holds_still_rings(tmp_path: Path) -> None:
    attempt = tmp_path / ("long" * 40) / "s-1/trials/3/2"
    attempt.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        folder = os.open(attempt.parents[2], os.O_RDONLY)
        bell.bind(f"/proc/self/fd/{folder}/doorbell")
        os.close(folder)
        Trial(environ(attempt)).report(1, acc=1)
        assert rings(bell) == [b"3/2"]


def test_a_controller_that_does_not_listen_never_holds_a_report_up(trial: Trial, attempt: Path, bell: Any) -> None:
    for step in range(3000):  # more datagrams than its buffer holds
        trial.report(step, acc=1)
    assert len(lines(attempt)) == 3000 > len(rings(bell))


def test_lines_of_several_processes_never_mix(attempt: Path) -> None:
    text = """if True:
        import sweep
        trial = sweep.current_trial()
        for step in range(500):
            trial.report(step, {"long" * 50: step})
    """
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("SWEEP_")}, **environ(attempt)}
    both = [subprocess.Popen([sys.executable, "-c", text], env=env) for _ in range(2)]
    assert [one.wait(30) for one in both] == [0, 0]
    assert sorted(line["step"] for line in lines(attempt)) == sorted([*range(500)] * 2)


# ---- verdicts ------------------------------------------------------------------------------------------------


def tell(attempt: Path, verdict: str) -> None:
    (attempt / "verdict.json").write_text(json.dumps({"verdict": verdict, "grace": 1, "kill_after": 1}))


def acknowledged(attempt: Path) -> str | None:
    watch = Watch(3, 2, AttemptDir(attempt), None)
    watch.read(pytest.fail)
    watch.close()
    facts = {"code": 0, "signal": None, "signalled": False, "error": None, "started": 1.0, "ended": 2.0}
    (attempt / "exit.json").write_text(json.dumps(facts))
    return watch.end(0.0).acknowledged


@pytest.mark.parametrize(
    ("verdict", "kind", "word"),
    [("prune", TrialPruned, "prune"), ("stop", TrialStopped, "stop"), ("kill", TrialStopped, "stop")],
)
def test_the_next_report_raises_the_verdict_and_says_that_it_did(
    trial: Trial, attempt: Path, verdict: str, kind: type[TrialPruned], word: str
) -> None:
    trial.report(1, acc=1)
    tell(attempt, verdict)
    with pytest.raises(TrialPruned) as caught:
        trial.report(2, acc=1)
    assert type(caught.value) is kind
    assert [line.get("step") for line in lines(attempt)] == [1, 2, None], "the report itself counts"
    with pytest.raises(TrialPruned):
        trial.report(3, acc=1)
    assert len(lines(attempt)) == 3, "a trial that goes on all the same has no say any more"
    assert acknowledged(attempt) == word


def test_a_stop_leaves_room_for_one_more_checkpoint(trial: Trial, attempt: Path) -> None:
    with trial.checkpoint(1):
        pass
    tell(attempt, "stop")
    trial.report(2, acc=1)
    with pytest.raises(TrialStopped), trial.checkpoint(2) as folder:
        Path(folder, "w").write_text("whole")
    assert (attempt / "checkpoints/2/w").read_text() == "whole"
    assert [next(iter(line)) for line in lines(attempt)] == ["checkpoint", "step", "checkpoint", "acknowledged"]


def test_a_trial_that_has_not_checkpointed_after_a_stop_ends_at_its_second_report(
    trial: Trial, attempt: Path
) -> None:
    assert trial.resume() is None  # so it is one that makes checkpoints
    tell(attempt, "stop")
    trial.report(1, acc=1)
    with pytest.raises(TrialStopped):
        trial.report(2, acc=1)


@pytest.mark.parametrize(
    ("raised", "word"), [("TrialPruned('too slow')", "prune"), ("TrialStopped", "stop"), ("KeyError", None)]
)
def test_a_script_may_give_up_by_itself_without_a_traceback(attempt: Path, raised: str, word: str | None) -> None:
    done = python(f"import sweep; sweep.current_trial(); raise sweep.{raised}" if word else
                  "import sweep; sweep.current_trial(); raise KeyError", attempt, environ(attempt))  # fmt: skip
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == (word is None)
    assert acknowledged(attempt) == word


# ---- checkpoints ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_whole_or_not_there(trial: Trial, attempt: Path) -> None:
    with trial.checkpoint(1) as folder:
        assert Path(folder).is_dir() and not (attempt / "checkpoints/1").exists()
        Path(folder, "deep").mkdir()
        Path(folder, "deep/w").write_text("whole")
        Path(folder, "newest").symlink_to("not there yet")
    assert (attempt / "checkpoints/1/deep/w").read_text() == "whole"
    with pytest.raises(ZeroDivisionError), trial.checkpoint(2) as folder:
        Path(folder, "w").write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in (attempt / "checkpoints").iterdir()] == ["1"]
    assert [line["checkpoint"] for line in lines(attempt)] == [1]
    assert lines(attempt)[0]["directory"] == "trials/3/2/checkpoints/1"


def test_a_checkpoint_of_the_same_step_replaces_the_first(trial: Trial, attempt: Path) -> None:
    for text in ("first", "second"):
        with trial.checkpoint(1) as folder:
            Path(folder, text).write_text(text)
    assert [path.name for path in (attempt / "checkpoints/1").iterdir()] == ["second"]
    assert [path.name for path in (attempt / "checkpoints").iterdir()] == ["1"]


def test_a_process_killed_while_it_writes_leaves_no_checkpoint(trial: Trial, attempt: Path) -> None:
    text = """if True:
        import os, signal, sweep
        trial = sweep.current_trial()
        with trial.checkpoint(4) as folder:
            open(folder + "/w", "w").write("whole")
        with trial.checkpoint(5) as folder:
            open(folder + "/w", "w").write("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(text, attempt, environ(attempt)).returncode == -9
    assert trial.resume() == str(attempt / "checkpoints/4")
    assert [line["checkpoint"] for line in lines(attempt)] == [4]


def test_resume_takes_the_newest_step_of_the_newest_attempt_that_has_one(trial: Trial, attempt: Path) -> None:
    def make(number: int, *names: str) -> None:
        for name in names:
            (attempt.parent / str(number) / "checkpoints" / name).mkdir(parents=True)

    assert trial.resume() is None
    make(1, "9", "10", ".11.4242", "12.tmp")
    assert trial.resume() == str(attempt.parent / "1/checkpoints/10")
    make(3, "99")
    assert trial.resume() == str(attempt.parent / "1/checkpoints/10"), "a later attempt's are not this one's"
    make(2, ".3.1")
    assert trial.resume() == str(attempt.parent / "1/checkpoints/10")
    make(2, "2")
    assert trial.resume() == str(attempt.parent / "2/checkpoints/2")
