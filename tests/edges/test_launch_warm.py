"""Warm starts: a fork of the nursery that its script cannot tell from an interpreter of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_kit import Room


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    path = tmp_path_factory.mktemp("warm")
    (path / "lib.py").write_text("import threading\nimported_in = threading.get_native_id()\n")
    room = Room(path, "numpy.random", "lib")
    yield room
    room.close()


def test_it_is_a_fork_that_has_the_modules_already(room: Room) -> None:
    attempt = room.script("""
        import sys
        already = "numpy.random" in sys.modules and "lib" in sys.modules
        import lib, os
        print(already, lib.imported_in == os.getppid(), open("/proc/self/cmdline").read().replace(chr(0), " "))
    """)
    assert attempt.end()["code"] == 0
    already, imported_here, *line = attempt.output.split()
    assert already == "True" and imported_here == "False", "it was imported in the nursery, not in the supervisor"
    assert "sweep.launch.nursery" in line and "script.py" not in line


SAME = {
    "argv and names": """
        import sys, __main__
        print(sys.argv, __name__, __file__, __main__.__file__, sys.path[0], "/" in sys.path)
        print(vars(__main__) is globals())
        print(sorted(name for name in globals() if not name.startswith("__")))
    """,
    "annotations": "x: int = 3\nprint(__annotations__)",
    "annotated": "def f(x: int) -> str: ...\nprint(f.__annotations__)",
    "exit code": "raise SystemExit(7)",
    "exit text": "import sys\nsys.exit('no good')",
    "exit nothing": "raise SystemExit",
    "traceback": "def f():\n    raise ValueError('bad')\nf()",
    "chained traceback": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('x') from error",
    "syntax error": "print('before'\nx = = 3",
    "import error": "import no_such_module",
    "own excepthook": "import sys\nsys.excepthook = lambda *all: print('hooked', all[0].__name__)\n1 / 0",
    "atexit": "import atexit\natexit.register(print, 'last')\nprint('first')",
    "atexit after an error": "import atexit\natexit.register(print, 'last')\n1 / 0",
    "a thread that goes on": """
        import threading, time
        def later():
            time.sleep(0.1)
            print("later", __name__)
        threading.Thread(target=later).start()
    """,
    "output without an end": "import os\nprint('a', end='')\nos.write(1, b'b')\nprint('c')\nos._exit(0)",
    "both outputs": "import sys\nprint(1)\nprint(2, file=sys.stderr)\nsys.__stdout__.write('3\\n')\nprint(4)",
    "unicode": "print('学習率 ü')",
    "a closed pipe": """
        import os
        r, w = os.pipe()
        os.close(r)
        try:
            os.write(w, b"x")
        except BrokenPipeError:
            print("an exception, not a signal")
    """,
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(5)",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "a module beside the script": "import beside\nprint(beside.__name__)",
    "pickle of its own class": """
        import pickle
        class C: ...
        print(type(pickle.loads(pickle.dumps(C()))) is C)
    """,
    "processes": """
        import multiprocessing
        def square(x):
            return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [2, 3]))
            with multiprocessing.get_context("fork").Pool(1) as pool:
                print(pool.map(square, [4]))
    """,
    "subprocess": "import subprocess\nprint(subprocess.run(['echo', 'x'], capture_output=True).stdout)",
    "generators": """
        import random, numpy
        numpy.random.seed(1)
        random.seed(1)
        print(numpy.random.rand(), random.random())
    """,
}


@pytest.mark.parametrize("case", SAME)
def test_a_script_behaves_as_in_an_interpreter_of_its_own(room: Room, case: str) -> None:
    (room.project / "beside.py").write_text("")
    attempt = room.script(SAME[case], "--lr", "0.1", "a b")
    done = attempt.end()
    fresh = subprocess.run(
        [sys.executable, "script.py", "--lr", "0.1", "a b"],
        cwd=room.project,
        env={**room.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    code = done["code"] if done["signal"] is None else -done["signal"]
    if case == "interrupt":  # the last line is enough: between lie the frames of the nursery
        assert attempt.output.splitlines()[-1] == fresh.stdout.splitlines()[-1]
    else:
        assert attempt.output == fresh.stdout
    assert code == fresh.returncode


def test_a_module_runs_by_its_name(room: Room) -> None:
    (room.project / "package").mkdir()
    for name in ("__init__.py", "other.py"):
        (room.project / "package" / name).write_text("")
    (room.project / "package/main.py").write_text(
        "import sys\nfrom . import other\nprint(sys.argv, __name__, __package__)\n1/0"
    )
    attempt = room.start(sys.executable, "-m", "package.main", "--lr", "0.1")
    assert attempt.end()["code"] == 1
    first, *lines = attempt.output.splitlines()
    assert first == f"[{str(room.project / 'package/main.py')!r}, '--lr', '0.1'] __main__ package"
    assert lines[-1] == "ZeroDivisionError: division by zero" and not any("nursery" in line for line in lines)


def test_no_two_of_them_share_their_chance(room: Room) -> None:
    both = [
        room.script("import random, numpy, os\nprint(numpy.random.rand(), random.random(), os.urandom(4).hex())")
        for _ in range(2)
    ]
    for attempt in both:
        assert attempt.end()["code"] == 0
    assert all(one != other for one, other in zip(both[0].output.split(), both[1].output.split(), strict=True))


def test_what_is_no_script_of_this_python_starts_as_ever(room: Room) -> None:
    for argv in (["sh", "-c", "tr '\\0' ' ' < /proc/self/cmdline"], [sys.executable, "-c", "print('tr')"]):
        attempt = room.start(*argv)
        assert attempt.end()["code"] == 0 and "tr" in attempt.output and "nursery" not in attempt.output


@pytest.mark.parametrize(
    ("module", "said"),
    [("no_such_module", "No module named"), ("breaks", "ZeroDivisionError"), ("leaves", "SystemExit")],
)
def test_a_module_that_cannot_be_imported_is_named_and_trials_start_cold(
    tmp_path: Path, module: str, said: str
) -> None:
    (tmp_path / "breaks.py").write_text("1 / 0")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    room = Room(tmp_path, module)
    reply = room.answer()
    assert reply.trouble.startswith(f"warm: cannot import {module}") and said in reply.trouble
    attempt = room.script("print(open('/proc/self/cmdline').read())")
    assert attempt.end()["code"] == 0 and re.search("script.py", attempt.output)
    room.close()
