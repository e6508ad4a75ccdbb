"""`on_finish` and `on_fail`: what is told when a sweep has ended, how often, and to whom it says what."""

from __future__ import annotations

import fcntl
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from e2e_kit import Project

from sweep.config.load import load
from sweep.config.preflight import preflight
from sweep.config.rounds import Hook
from sweep.errors import ConfigError
from sweep.rundir import locked
from sweep.webhook import post

GOOD = """
    import sys, sweep
    x = float(sys.argv[1])
    trial = sweep.current_trial()
    with trial.checkpoint(0) as directory:
        open(f"{directory}/model", "w").write("weights")
    trial.report(0, acc=x)
"""
# a hook of the tests: one line a call in `told`, what it was given beside it
HOOK = """
    import json, os, pathlib, sys, time
    given = {name: text for name, text in os.environ.items() if name.startswith("SWEEP_")}
    result = json.load(open(given["SWEEP_RESULT"]))
    with open("told", "a") as file:
        file.write(json.dumps({"by": sys.argv[1], "given": given, "result": result}) + "\\n")
    print("a word of", sys.argv[1])
    while pathlib.Path("hold").exists():
        time.sleep(0.02)
    sys.exit(sys.argv[2:] == ["badly"] and 3)
"""


@pytest.fixture
def project(project: Project) -> Project:
    project.write("train.py", GOOD)
    project.write("hook.py", HOOK)
    return project


def said(project: Project) -> list[dict[str, Any]]:
    file = project.path / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def by(project: Project) -> list[str]:
    return [one["by"] for one in said(project)]


def test_a_command_gets_the_result_once_an_ending(project: Project) -> None:
    done = project.run(on_finish="python hook.py end", on_fail="python hook.py failed")
    [told] = said(project)
    assert told["by"] == "end"
    best = done["best"]
    ours = {
        "SWEEP_ID": "s-1",
        "SWEEP_STATE": "FINISHED",
        "SWEEP_WHY": "",
        "SWEEP_ENDING": "1",
        "SWEEP_DIRECTORY": str(project.directory().path),
        "SWEEP_BEST_TRIAL": str(best["number"]),
        "SWEEP_BEST_VALUE": str(best["values"][0]),
        "SWEEP_BEST_CHECKPOINT": best["checkpoint"],
        "SWEEP_RESULT": str(project.directory().path / "result.json"),
    }
    assert told["given"].items() >= ours.items()
    status = project.sweep("status", "--json").json
    [hook] = status.pop("hooks")
    [before] = told["result"].pop("hooks")
    assert told["result"].items() <= status.items(), "what `sweep run --json` prints, in the words of status"
    assert before == {"hook": "on_finish", "at": None, "said": "", "failed": False}
    assert hook["said"] == "done" and not hook["failed"]
    assert (project.directory().path / "hooks.log").read_text().endswith("on_finish\na word of end\n")

    assert project.sweep("resume", "s-1", "--json").code == 0
    assert len(said(project)) == 1, "the same ending is told once"
    assert project.sweep("resume", "s-1", "--trials", "5", "--json").code == 0
    assert [one["given"]["SWEEP_ENDING"] for one in said(project)] == ["1", "2"], "another ending is told"


def test_a_failure_is_told_first_and_a_hook_changes_nothing(project: Project) -> None:
    project.write("train.py", "raise SystemExit('no data')")
    done = project.run(
        code=1,
        trials=9,
        on_fail=["python", "hook.py", "failed"],
        on_finish=[["python", "hook.py", "end", "badly"]],
    )
    assert done["state"] == "FAILED" and by(project) == ["failed", "end"]
    assert said(project)[0]["given"]["SWEEP_BEST_TRIAL"] == ""
    assert "failed alike" in said(project)[0]["given"]["SWEEP_WHY"]
    assert "on_finish: exit code 3" in project.sweep("status").out
    assert "on_finish: exit code 3" in project.log()
    assert [one["failed"] for one in done["hooks"]] == [False, True]


def test_in_the_background_and_after_a_stop(project: Project) -> None:
    project.write("train.py", "import time; time.sleep(60)")
    project.space(on_finish="python hook.py end", report="json")
    assert project.sweep("run", "-d", "space.yaml").code == 0
    project.wait_for(lambda: project.events("AttemptStarted"), "a trial")
    assert project.sweep("stop").code == 0
    project.wait_for(project.directory().told.exists, "the hook")
    assert said(project)[0]["given"]["SWEEP_STATE"] == "FAILED"


def test_a_controller_that_is_killed_before_it_told(project: Project) -> None:
    project.space(on_finish="python hook.py end")
    lock = project.path / "sweeps/s-1/hooks.lock"
    first = project.start("run", "space.yaml", "--json")
    project.wait_for(lambda: project.events("SweepOpened"), "the start")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # it waits for us before it tells
        project.wait_for(lambda: len(project.events("AttemptEnded")) == 3, "the end")
        project.wait_for(lambda: not locked(project.directory().controller_lock), "its leave")
        first.kill()
        project.end(first)
    assert said(project) == []
    assert "on_finish: not done" in project.sweep("status").out
    assert project.sweep("resume", "--json").code == 0
    assert by(project) == ["end"]


def test_a_controller_that_is_killed_while_it_tells(project: Project) -> None:
    """What was done is not done again; what it was at is, with the same number."""
    hold = project.write("hold", "")
    project.space(on_finish=[["python", "-c", "open('told', 'a').close()"], "python hook.py slow"])
    first = project.start("run", "space.yaml", "--json")
    project.wait_for(lambda: said(project), "the second hook")
    first.kill()
    project.end(first)
    hold.unlink()
    again = project.sweep("resume", "--json").json
    assert [(one["by"], one["given"]["SWEEP_ENDING"]) for one in said(project)] == [("slow", "1")] * 2
    assert [one["said"] for one in again["hooks"]] == ["done", "done"]
    log = (project.directory().path / "hooks.log").read_text()
    assert log.count(" on_finish[0]\n") == 1 and log.count(" on_finish[1]\n") == 2


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(project: Project) -> None:
    hang = "import subprocess; subprocess.run(['sleep', '300'])"
    done = project.run(on_finish={"command": ["python", "-c", hang], "timeout": 0.5})
    assert "its timeout" in done["hooks"][0]["said"]
    # that nothing is left running is looked at by the fixture


class Receiver:
    """A webhook on loopback that answers with these codes, one a request."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.got: list[tuple[dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), json.loads(body)))
                self.send_response(outer.codes[len(outer.got) - 1])
                self.send_header("Location", outer.url + "elsewhere")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def test_a_webhook_is_told_and_its_secrets_are_not(project: Project, receiver: Receiver) -> None:
    project.env |= {"HOOK_URL": f"{receiver.url}secret-path", "TOKEN": "secret-token"}
    receiver.codes = [503, 200]
    headers = {"Authorization": "Bearer ${TOKEN}", "Title": "sweep"}
    unreachable = {"webhook": "http://127.0.0.1:9/${TOKEN}", "timeout": 0.5}
    done = project.run(on_finish=[{"webhook": "${HOOK_URL}", "headers": headers}, unreachable])
    assert len(receiver.got) == 2, "503 may be better another time"
    headers, body = receiver.got[-1]
    assert headers["Authorization"] == "Bearer secret-token" and headers["Title"] == "sweep"
    assert {headers["Idempotency-Key"] for headers, _ in receiver.got} == {"s-1/1/on_finish[0]"}
    assert body["id"] == "s-1" and body["best"] == done["best"] and "trials" not in body
    assert body["text"].startswith("s-1 finished: 3 complete; best is trial")
    first, second = done["hooks"]
    assert first["said"] == "HTTP 200" and not first["failed"]
    assert second["said"] == "the webhook failed: cannot be reached: Connection refused" and second["failed"]
    written = [file.read_bytes() for file in project.directory().path.rglob("*") if file.is_file()]
    assert not any(b"secret-" in text for text in written)


@pytest.mark.parametrize("code", [302, 404])
def test_a_webhook_that_says_no_is_asked_once(receiver: Receiver, code: int) -> None:
    """A redirect is not followed: the headers are for the address in the file."""
    receiver.codes = [code]
    document = {"id": "s-1", "state": "FINISHED", "why": "", "counts": {"COMPLETE": 1}, "best": None}
    assert post(Hook(webhook=receiver.url), "once", document, {}) == (f"the webhook failed: HTTP {code}", True)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"webhook": "${NO_SUCH}"}, "on_finish: there is no environment variable NO_SUCH"),
        ({"webhook": "http://h/", "headers": {"X-Token": "abc"}}, "would hold a secret in the file"),
        ({"webhok": "http://h/"}, "did you mean `webhook`?"),
        ({"webhook": "http://h/", "run": "space.yaml"}, "has `webhook`, `run` in one"),
        ({"command": "true", "rounds": 3}, "on_finish.rounds: belongs to a `run`"),
        ("no-such-program", "on_finish: there is no program `no-such-program` on PATH"),
        (["python", "hok.py"], "did you mean hook.py?"),
        ({"run": "no.yaml"}, "there is no such file"),
    ],
    ids=str,
)
def test_a_mistake_is_told_before_anything_starts(project: Project, hooks: Any, words: str) -> None:
    file = project.space(on_finish=hooks)
    with pytest.raises(ConfigError, match=re.escape(words)):
        config, _ = load(file)
        raise ConfigError("\n".join(preflight(config, project.path)))
