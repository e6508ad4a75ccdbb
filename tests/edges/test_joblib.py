"""`joblib.Parallel` on sweep's backend: real processes, on CPU shares and on fake GPUs (see gpu_kit.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kit import A, B, C

from sweep.joblib.parcel import Packer, fill, unpack
from sweep.rundir import locked

D = "gpu uuid=GPU-dddddddd-0 name=Fake_H100 total=80000"
HEAD = """
import json, os, signal, subprocess, sys, threading, time
import joblib, numpy as np
import sweep.joblib
from joblib import Parallel, delayed

def note(**words):
    with open("notes", "a") as file:
        file.write(json.dumps({"pid": os.getpid(), "at": time.monotonic(), **words}) + "\\n")

def say(**words):
    print(json.dumps(words), flush=True)

def hang():
    child = subprocess.Popen(["sleep", "600"])
    note(child=child.pid)
    time.sleep(600)
"""
Script = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def script(tmp_path: Path) -> Any:
    started = []

    def start(text: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        file = tmp_path / "script.py"
        file.write_text(HEAD + textwrap.dedent(text))
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SWEEP_", "CUDA_", "OMP_"))
        }
        process = subprocess.Popen(
            [sys.executable, file],
            cwd=tmp_path,
            env={**kept, "SWEEP_LOCK_DIR": str(tmp_path / "locks"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for one in started:
        one.kill()
        one.communicate()


def told(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def notes(folder: Path) -> list[dict[str, Any]]:
    file = folder / "notes"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def held(folder: Path) -> list[str]:
    return [file.name for file in (folder / "locks").iterdir() if file.is_file() and locked(file)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(seen: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def test_each_call_has_a_gpu_and_a_process_of_its_own(script: Script, fake_nvml: Any, tmp_path: Path) -> None:
    fake_nvml.write(A, B, C, D)
    process = script(
        """
        from pathlib import Path
        from sweep.rundir import locked

        def train(number, data):
            began, gpu = time.monotonic(), os.environ["CUDA_VISIBLE_DEVICES"]
            mine = locked(Path(os.environ["SWEEP_LOCK_DIR"], gpu.lower()))
            subprocess.Popen(["sleep", "600"])  # left running: it goes before the device does
            time.sleep(0.3)
            return os.getpid(), gpu, mine, began, time.monotonic(), data + number

        data = np.ones(1 << 18)
        with joblib.parallel_config(backend="sweep"):
            found = Parallel()(delayed(train)(number, data) for number in range(6))
            say(workers=joblib.effective_n_jobs(), calls=[one[:5] for one in found])
            say(sums=[one[5].sum() / (1 << 18) for one in found], mapped=found[0][5].base.base is not None)
            one_at_a_time = Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2))
            say(pids=[os.getpid(), *one_at_a_time])
        """,
        fake_nvml.env,
    )
    first, second, third = told(process)
    assert first["workers"] == 4
    assert len({pid for pid, *_ in first["calls"]}) == 6
    spans: dict[str, list[tuple[float, float]]] = {}
    for _, gpu, mine, began, ended, *_ in first["calls"]:
        assert mine, "the lease is held while the call runs"
        spans.setdefault(gpu, []).append((began, ended))
    assert spans.keys() <= {f"GPU-{letter * 8}-0" for letter in "abcd"} and len(spans) > 1
    for times in map(sorted, spans.values()):
        assert all(before[1] <= after[0] for before, after in pairwise(times))
    assert second == {"sums": [1, 2, 3, 4, 5, 6], "mapped": True}
    assert len(set(third["pids"])) == 3, "no call runs in the script's own process, without a lease"
    assert held(tmp_path) == []


def test_a_call_that_the_system_kills(script: Script, fake_nvml: Any, tmp_path: Path) -> None:
    fake_nvml.write(A, B, C, D)
    process = script(
        """
        def train(lr, *, seed):
            if seed == 2:
                while len(open("notes").readlines()) < 3:
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
            hang()

        from joblib.externals.loky.process_executor import TerminatedWorkerError
        open("notes", "w")
        with joblib.parallel_config(backend="sweep"):
            try:
                Parallel()(delayed(train)(0.1, seed=seed) for seed in range(4))
            except TerminatedWorkerError as error:
                say(message=error.message)
            say(free=Parallel()(delayed(abs)(-i) for i in range(2)))
        """,
        fake_nvml.env,
    )
    first, second = told(process)
    assert first["message"].startswith("call 3, train(0.1, seed=2), on GPU ")
    assert first["message"].endswith("-0) was ended by SIGKILL (signal 9)")
    assert second == {"free": [0, 1]}
    assert held(tmp_path) == []
    assert len(notes(tmp_path)) == 3
    assert not [one for one in notes(tmp_path) if alive(one["pid"]) or alive(one["child"])]


def test_errors_come_back_as_they_were(script: Script, tmp_path: Path) -> None:
    process = script(
        """
        class Diverged(Exception):
            def __init__(self, step, loss):  # not what pickle expects: args is the message alone
                super().__init__(f"step {step}: {loss}")

        class Plain(Exception):
            pass

        def fail(how):
            raise Plain("as it was") if how == "plain" else Diverged(3, "nan")

        with joblib.parallel_config(backend="sweep", devices="cpu:2"):
            for how in "plain", "odd":
                try:
                    Parallel()(delayed(fail)(how) for _ in range(2))
                except Exception as error:
                    say(plain=type(error) is Plain, said=str(error), remote=str(error.__cause__))
            try:
                Parallel()(delayed(os._exit)(3) for _ in range(2))
            except Exception as error:
                say(exit=str(error))
            try:
                Parallel()(delayed(threading.Lock)() for _ in range(2))
            except TypeError as error:
                say(unpicklable=str(error))
        with joblib.parallel_config(backend="sweep", devices="cpuu"):
            try:
                Parallel()
                Parallel()([])
            except Exception as error:
                say(devices=str(error))
        """
    )
    plain, odd, exited, unpicklable, devices = told(process)
    assert (plain["plain"], plain["said"]) == (True, "as it was")
    assert "in fail" in plain["remote"] and "Plain: as it was" in plain["remote"]
    assert (odd["plain"], odd["said"]) == (False, "Diverged: step 3: nan")
    assert "call 1, _exit(3), on CPU share" in exited["exit"] or "call 2, _exit(3), on CPU share" in exited["exit"]
    assert "exit code 3" in exited["exit"]
    assert "pickle" in unpicklable["unpicklable"]
    assert "devices='cpuu': no such device" in devices["devices"]
    assert held(tmp_path) == []


def test_generators_and_calls_inside_calls(script: Script, tmp_path: Path) -> None:
    process = script(
        """
        def square(number):
            note(number=number)
            return number * number

        def outer(number):
            import sweep.joblib
            with_threads = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(3))
            with joblib.parallel_config(backend="sweep", devices="cpu:2"):
                again = Parallel()(delayed(os.getpid)() for _ in range(3))
            return os.getpid(), [*with_threads, *again]

        def endless():
            for number in range(1000):
                yield delayed(hang)() if number else delayed(square)(5)

        with joblib.parallel_config(backend="sweep", devices="cpu:2"):
            one = Parallel(return_as="generator")(delayed(square)(number) for number in range(4))
            first = next(one)
            between = Parallel()(delayed(square)(number) for number in (10, 11))
            say(ordered=[first, *one], between=between)
            say(any=sorted(Parallel(return_as="generator_unordered")(delayed(square)(n) for n in range(3))))
            say(nested=Parallel()(delayed(outer)(number) for number in range(2)))
            left = Parallel(return_as="generator")(endless())
            next(left)
            del left
            say(done=True)
        """
    )
    generator, unordered, nested, _ = told(process)
    assert generator == {"ordered": [0, 1, 4, 9], "between": [100, 121]}
    assert unordered == {"any": [0, 1, 4]}
    for pid, inner in nested["nested"]:
        assert set(inner) == {pid}
    assert held(tmp_path) == []
    assert not [one for one in notes(tmp_path) if alive(one["pid"]) or alive(one.get("child", one["pid"]))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_is_interrupted_or_killed_leaves_nothing_running(
    number: signal.Signals, script: Script, tmp_path: Path
) -> None:
    process = script(
        """
        with joblib.parallel_config(backend="sweep", devices="cpu:2"):
            Parallel()(delayed(hang)() for _ in range(5))
        """
    )
    wait_for(lambda: len(notes(tmp_path)) == 2, "both calls")
    assert len(held(tmp_path)) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in err
        assert held(tmp_path) == [], "the devices are free when the script goes on"
    wait_for(lambda: held(tmp_path) == [], "the devices")
    assert not [one for one in notes(tmp_path) if alive(one["pid"]) or alive(one["child"])]


def test_it_waits_for_a_device_that_somebody_else_has_and_says_so(script: Script, tmp_path: Path) -> None:
    text = """
        with joblib.parallel_config(backend="sweep", devices="cpu:1"):
            say(found=Parallel()(delayed({})(-i) for i in range(2)))
        """
    holder = script(text.format("hang").replace("(-i)", "()"))
    wait_for(lambda: notes(tmp_path), "the first call")
    waiting = script(text.format("abs"))
    assert waiting.stderr
    said = waiting.stderr.readline()
    assert said.startswith("sweep: waiting for a device: cpu-0 is held by hang of script.py of ")
    holder.kill()
    assert told(waiting) == [{"found": [0, 1]}]


def test_a_grid_search_of_scikit_learn(script: Script, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    process = script(
        """
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV, ShuffleSplit
        from sklearn.tree import DecisionTreeClassifier

        once = ShuffleSplit(1, random_state=0)
        search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}, cv=once)
        with joblib.parallel_config(backend="sweep", devices="cpu:2"):
            search.fit(*load_iris(return_X_y=True))
        say(best=search.best_params_, score=search.best_score_)
        """
    )
    (found,) = told(process)
    assert found["best"] == {"max_depth": 3} and found["score"] > 0.8
    assert held(tmp_path) == []


def test_large_arrays_lie_in_a_file_once_and_are_mapped_privately(tmp_path: Path) -> None:
    packer = Packer(1000, str(tmp_path))
    large, small = np.arange(5000.0), np.arange(3)
    one, two = packer.pack({"x": large, "y": small}), packer.pack([large, "other words"])
    assert one.arrays is two.arrays
    size = os.fstat(one.arrays.fileno()).st_size
    assert large.nbytes <= size < 2 * large.nbytes
    mine, again = unpack(one)["x"], unpack(one)
    mine[:] = 0
    assert (again["x"] == large).all() and (again["y"] == small).all(), "each has pages of its own to write into"
    assert list(tmp_path.iterdir()) == [], "the files have no name"
    large[0] = 7.0
    changed = packer.pack(large)
    assert changed.arrays is not one.arrays and unpack(changed)[0] == 7.0


def test_without_mapping_everything_is_in_the_pickle(tmp_path: Path) -> None:
    packer = Packer(None, str(tmp_path))
    answer = packer.empty()
    fill(answer, np.arange(5000.0), None)
    assert os.fstat(answer.arrays.fileno()).st_size == 0
    assert unpack(answer).sum() == np.arange(5000.0).sum()
