"""`sweep.cache` between real processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.errors import UsageError

SCRIPT = """
import json, os, sys, time
import numpy as np
import sweep

@sweep.cache(ignore=["pause"])
def data(rows, *, seed=0, pause=0.0):
    with open(os.environ["PREPARED"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    while pause and not os.path.exists("go"):
        time.sleep(0.02)
    if rows < 0:
        raise ValueError("fewer than none")
    return {"x": np.full(rows, seed), "names": ["a", "b"]}

rows, seed, pause = json.loads(sys.argv[1])
found = data(rows, seed=seed, pause=pause)
print(json.dumps([type(found["x"]).__name__, int(found["x"].sum()), found["x"].flags.writeable, found["names"]]))
"""
MAPPED = ["memmap", 2000, False, ["a", "b"]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    started = []

    def begin(
        rows: int = 1000,
        seed: int = 2,
        pause: float = 0,
        folder: str = ".",
        text: str = SCRIPT,
        most: int | None = None,
        **env: str,
    ) -> subprocess.Popen[str]:
        """most: bytes that a file may have."""
        script = tmp_path / folder / "script.py"
        script.parent.mkdir(exist_ok=True)
        if not script.exists() or script.read_text() != textwrap.dedent(text):  # somebody may be reading it
            script.write_text(textwrap.dedent(text))
        own = {"SWEEP_CACHE_DIR": str(tmp_path / "cache"), "PREPARED": str(tmp_path / "prepared")}
        process = subprocess.Popen(
            [sys.executable, script, json.dumps([rows, seed, pause])],
            cwd=tmp_path,
            env={**os.environ, **own, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))) if most else None,
        )
        started.append(process)
        return process

    yield begin
    for one in started:
        one.kill()
        one.communicate()


def told(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def prepared(folder: Path) -> list[int]:
    file = folder / "prepared"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(seen: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def results(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*/**/output.pkl*"))


def test_six_at_once_prepare_once_and_map_the_same_file(start: Start, tmp_path: Path) -> None:
    first = start(pause=1)
    wait_for(lambda: prepared(tmp_path), "somebody to begin")
    others = [start() for _ in range(5)]
    assert others[0].stderr
    said = others[0].stderr.readline()
    assert said == f"sweep: waiting for data(): process {first.pid} prepares it\n"
    (tmp_path / "go").touch()
    assert [told(one) for one in (first, *others)] == [MAPPED] * 6
    assert prepared(tmp_path) == [first.pid]
    assert len(results(tmp_path)) == 1
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_kill_in_the_middle_makes_the_next_one_prepare(start: Start, tmp_path: Path) -> None:
    first = start(pause=1)
    wait_for(lambda: prepared(tmp_path), "the first to begin")
    second = start(pause=1)
    assert second.stderr and "waiting" in second.stderr.readline()
    first.kill()
    wait_for(lambda: len(prepared(tmp_path)) == 2, "the second to begin")
    (tmp_path / "go").touch()
    assert told(second) == MAPPED
    assert prepared(tmp_path) == [first.pid, second.pid]


def test_what_a_kill_left_half_written_is_no_result_and_goes(start: Start, tmp_path: Path) -> None:
    assert told(start()) == MAPPED
    (whole,) = results(tmp_path)
    half = whole.with_name("output.pkl.0123-1-1")  # as joblib names what it has not finished
    half.write_bytes(whole.read_bytes()[:100])
    whole.unlink()
    assert told(start()) == MAPPED
    assert len(prepared(tmp_path)) == 2
    assert results(tmp_path) == [whole]


def test_arguments_and_source_and_place_make_it_another_one(start: Start, tmp_path: Path) -> None:
    assert told(start()) == told(start()) == MAPPED
    assert told(start(seed=3)) == ["memmap", 3000, False, ["a", "b"]]
    assert told(start(text=SCRIPT.replace("seed)", "seed + 1)")))[1] == 3000
    assert told(start(folder="elsewhere")) == MAPPED
    assert told(start()) == MAPPED, "the edited one has taken nothing from the former"
    assert len(prepared(tmp_path)) == 4


def test_the_oldest_go_where_there_are_too_many(start: Start, tmp_path: Path) -> None:
    def use(seed: int) -> None:
        assert told(start(10_000, seed, SWEEP_CACHE_SIZE="200kB"))[1] == 10_000 * seed  # 80 kB each

    use(1)
    use(2)
    use(1)  # used last but one
    use(3)
    assert len(results(tmp_path)) == 2
    use(1)
    assert len(prepared(tmp_path)) == 3, "what was used longest ago has gone"


def test_a_result_that_cannot_be_kept_is_returned_all_the_same(start: Start, tmp_path: Path) -> None:
    large = start(SWEEP_CACHE_SIZE="1kB")
    assert told(large)[1] == 2000 and results(tmp_path) == []
    full = start(most=1000)
    assert told(full) == ["ndarray", 2000, True, ["a", "b"]]
    assert [path for path in results(tmp_path) if path.name == "output.pkl"] == []
    assert told(start()) == MAPPED


def test_an_error_is_the_callers_and_frees_the_lock(start: Start, tmp_path: Path) -> None:
    failed = start(-1)
    assert "ValueError: fewer than none" in failed.communicate(timeout=60)[1]
    assert "fewer than none" in start(-1).communicate(timeout=60)[1]
    assert len(prepared(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("SWEEP_CACHE_SIZE", "much", "SWEEP_CACHE_SIZE: found"), ("SWEEP_CACHE_DIR", "open", "written to by others")],
)
def test_mistakes(name: str, value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("open").mkdir()
    Path("open").chmod(0o777)
    monkeypatch.setenv("SWEEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(name, value)

    @sweep.cache
    def one() -> int:
        return 1

    with pytest.raises(UsageError, match=words):
        one()


def test_only_functions_with_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CACHE_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="takes a function"):
        sweep.cache(int)
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec("def f(): return 1", names)
    with pytest.raises(UsageError, match="write it into a file"):
        sweep.cache(names["f"])()
