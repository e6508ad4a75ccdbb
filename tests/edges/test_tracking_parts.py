"""The follower's parts that need no store: where it is, names, the journal's tail, what is owed to whom."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import string
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name
from tracking_kit import START, History, config
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NameResolutionError, ReadTimeoutError

from sweep.core import events as e
from sweep.core.codec import to_json
from sweep.core.model import Attempt, Rules, Trial
from sweep.errors import ConfigError
from sweep.rundir import SweepDir
from sweep.tracking import harvest as harvesting
from sweep.tracking import retry as retrying
from sweep.tracking import template
from sweep.tracking.harvest import Harvest
from sweep.tracking.limits import NAME, Names, clean, param
from sweep.tracking.link import Link
from sweep.tracking.memory import Memory
from sweep.tracking.mirror import PARENT, Batch, Birth, Mirror, Point
from sweep.tracking.retry import PAUSE, QUIET, Retry
from sweep.tracking.sender import TRIES, Sender
from sweep.tracking.tail import Shrunk, Tail
from sweep.tracking.trouble import Refused, Trouble, judge
from sweep.tracking.ui import ui_command, ui_url
from sweep.tracking.uri import database_file, redacted, tracking_uri

# ---- where the store is


def test_the_default_store_is_the_one_that_a_bare_mlflow_ui_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking._tracking_service.utils import _get_default_tracking_uri

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bare = _get_default_tracking_uri()  # what `mlflow ui` takes where nothing is said
    ours = tracking_uri({}, tmp_path, {})
    assert database_file(ours) == Path(bare.removeprefix("sqlite:///")).absolute()


@pytest.mark.parametrize(
    ("config", "environ", "uri"),
    [
        ({"tracking_uri": "http://host:5000"}, {"MLFLOW_TRACKING_URI": "sqlite:///x.db"}, "http://host:5000"),
        ({"tracking_uri": None}, {"MLFLOW_TRACKING_URI": "http://host:5000"}, "http://host:5000"),
        ({"tracking_uri": "sqlite:///runs.db"}, {}, "sqlite:////project/runs.db"),
        ({"tracking_uri": "sqlite:////data/runs.db"}, {}, "sqlite:////data/runs.db"),
        ({"tracking_uri": "postgresql+psycopg://me:pw@db/runs"}, {}, "postgresql+psycopg://me:pw@db/runs"),
        ({"tracking_uri": "databricks"}, {}, "databricks"),
        ({"tracking_uri": "runs"}, {"MLFLOW_ALLOW_FILE_STORE": "true"}, "file:///project/runs"),
    ],
)
def test_tracking_uri(config: dict[str, Any], environ: dict[str, str], uri: str) -> None:
    assert tracking_uri(config, Path("/project"), environ) == uri


def test_an_old_file_store_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
    with pytest.raises(ConfigError, match="migrate-filestore"):
        tracking_uri({}, tmp_path, {})
    allowed = tracking_uri({}, tmp_path, {"MLFLOW_ALLOW_FILE_STORE": "true"})
    assert allowed == f"file://{tmp_path}/mlruns"
    with pytest.raises(ConfigError, match=r"file store"):
        tracking_uri({"tracking_uri": "./mlruns"}, tmp_path, {})


def test_passwords_are_not_shown() -> None:
    assert (
        redacted("at postgresql://me:p@ss@db/x and http://token@host/")
        == "at postgresql://***@db/x and http://***@host/"
    )


def test_ui_command_takes_a_free_port_and_hides_the_address(tmp_path: Path) -> None:
    uri = "postgresql://me:secret@db/runs"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        argv, env = ui_command(uri, tmp_path, port)
    assert argv[-2] == "--port" and argv[-1] != str(port)
    assert "secret" not in " ".join(argv) and env["MLFLOW_BACKEND_STORE_URI"] == uri
    assert ui_url(uri, argv).startswith(f"http://127.0.0.1:{argv[-1]}/#/experiments")
    assert ui_command("http://host:5000", tmp_path, 5000) == ([], {})
    assert ui_url("http://me:pw@host:5000", []).startswith("http://***@host:5000/#/experiments")


# ---- a new database


def _migrated(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE alembic_version (v); INSERT INTO alembic_version VALUES (1);"
            "CREATE TABLE experiments (id);"
        )


def test_a_new_database_is_a_copy_and_an_old_one_is_left_alone(tmp_path: Path) -> None:
    made = []
    cache = tmp_path / "cache"
    for name in ("a", "b", "b"):
        template.provide(
            tmp_path / name / "mlflow.db", cache, "3.1", lambda path: (made.append(path), _migrated(path))
        )  # type: ignore[func-returns-value]
    assert len(made) == 1
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["mlflow.db"]
    old = tmp_path / "a" / "mlflow.db"
    old.write_bytes(b"somebody's")
    template.provide(old, cache, "3.1", _migrated)
    assert old.read_bytes() == b"somebody's"


@pytest.mark.parametrize("spoil", ["torn", "used"])
def test_a_template_that_is_not_sound_is_made_again(tmp_path: Path, spoil: str) -> None:
    kept = tmp_path / "cache" / "mlflow-3.1.db"
    template.provide(tmp_path / "a.db", tmp_path / "cache", "3.1", _migrated)
    if spoil == "torn":
        kept.write_bytes(kept.read_bytes()[:5000])
    else:
        with closing(sqlite3.connect(kept)) as connection:
            connection.execute("INSERT INTO experiments VALUES (1)")
            connection.commit()
    template.provide(tmp_path / "b.db", tmp_path / "cache", "3.1", _migrated)
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        assert connection.execute("SELECT count(*) FROM experiments").fetchone() == (0,)


def test_without_a_cache_the_database_is_made_in_its_place(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    template.provide(tmp_path / "a.db", blocked / "cache", "3.1", _migrated)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("SELECT v FROM alembic_version").fetchone() == (1,)


def test_no_wal_on_a_network_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/home {tmp_path}/net nfs4 rw 0 0\n")
    assert not template.on_network(tmp_path, mounts)
    (tmp_path / "net" / "deep").mkdir(parents=True)
    assert template.on_network(tmp_path / "net" / "deep", mounts)


# ---- names


@given(st.text(max_size=300))
def test_mlflow_takes_every_cleaned_name(name: str) -> None:
    made = clean(name)
    _validate_metric_name(made)
    _validate_param_name(made)
    _validate_tag_name(made)
    assert 0 < len(made) <= NAME
    assert clean(made) == made


@given(st.lists(st.text(alphabet="a/.@#_" + string.digits, max_size=6), max_size=30, unique=True))
def test_two_names_never_become_one(names: list[str]) -> None:
    table = Names()
    made = [table[name] for name in names]
    assert len(set(made)) == len(names)
    assert [table[name] for name in names] == made


def test_values_of_parameters() -> None:
    assert [param(value) for value in (0.1, True, None, 3, "x", [1, "二"])] == [
        "0.1",
        "True",
        "None",
        "3",
        "x",
        '[1, "二"]',
    ]
    assert len(param("x" * 7000)) == 6000


# ---- the journal's tail


@given(st.data())
def test_the_tail_gives_each_whole_line_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tail") / "journal.jsonl"
    events = [e.Noted(START + n, f"事件 {n}") for n in range(data.draw(st.integers(1, 12)))]
    text = b"".join(
        json.dumps({"v": 1, "seq": n, **to_json(event)}, ensure_ascii=False).encode() + b"\n"
        for n, event in enumerate(events)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    tail = Tail(path)
    got = []
    for number, cut in enumerate([*cuts, len(text)]):
        torn = cut < len(text) and text[:cut].endswith(b"\n") and data.draw(st.booleans())
        path.write_bytes(text[:cut] + (b'{"torn' if torn else b""))
        os.utime(path, ns=(number + 1, number + 1))
        got += [event for event, _ in tail.read()]
        assert tail.offset == text[:cut].rfind(b"\n") + 1
    assert got == events
    assert tail.offset == len(text) and tail.caught_up() and tail.unread() == 0


def test_the_tail_waits_for_a_bad_line_and_passes_over_a_repeated_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [json.dumps({"v": 1, "seq": n, **to_json(e.Noted(START, str(n)))}) + "\n" for n in range(3)]
    path.write_text(lines[0] + lines[0] + "garbage\n")
    tail = Tail(path)
    assert [event.text for event, _ in tail.read()] == ["0"]  # type: ignore[attr-defined]
    assert tail.caught_up() and tail.unread() == 1
    path.write_text(lines[0] + lines[0] + lines[1])
    assert [event.text for event, _ in tail.read()] == ["1"]  # type: ignore[attr-defined]
    path.write_text(lines[0])
    with pytest.raises(Shrunk):
        list(tail.read())


# ---- what is sent


def test_memory_survives_and_knows_the_machine(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "mlflow.json", cursor=10, owed=[(1, 1)], runs={PARENT: "p", 3: "r"}, uid="u")
    memory.save({"events": 0}, now=True)
    again = Memory.load(memory.path)
    assert (again.cursor, again.owed, again.runs, again.parent) == (10, [(1, 1)], {PARENT: "p", 3: "r"}, "p")
    document = json.loads(memory.path.read_text())
    memory.path.write_text(json.dumps({**document, "boot_id": "another"}))
    again = Memory.load(memory.path)
    assert (again.cursor, again.owed, again.runs) == (0, [], {PARENT: "p", 3: "r"})
    memory.path.write_text('{"cursor": "?"}')
    assert Memory.load(memory.path).cursor == 0


class FakeStore:
    """Runs in a dictionary. fail: called with the run's trial before each log; may raise."""

    def __init__(self, fail: Callable[[int], None] = lambda number: None) -> None:
        self.fail = fail
        self.made: dict[str, int] = {}
        self.logged: list[tuple[int, Any]] = []
        self.dropped: list[str] = []

    def find(self, uid: str) -> list[tuple[str, int, bool]]:
        return [(run, number, False) for run, number in self.made.items()]

    def create(self, birth: Birth, parent: str | None) -> str:
        run = f"run-{len(self.made)}"
        self.made[run] = PARENT if parent is None else int(birth.name)
        return run

    def log(self, run_id: str, metrics: Any = (), params: Any = None, tags: Any = None) -> None:
        self.fail(self.made[run_id])
        bad = [point for point in metrics if point.key == "bad"]
        if bad:
            raise Refused("a bad metric")
        self.logged.append((self.made[run_id], [point.key for point in metrics]))

    def status(self, run_id: str, status: str, ended: int | None) -> None: ...

    def alive(self, run_id: str) -> bool:
        return True

    def drop(self, run_id: str) -> None:
        self.dropped.append(run_id)

    def ping(self) -> None: ...


def _sender(store: FakeStore, tmp_path: Path) -> Sender:
    return Sender(store, Memory(tmp_path / "mlflow.json"), lambda number: Birth(str(number), 0, {}))  # type: ignore[arg-type]


def test_a_refused_metric_costs_only_itself(tmp_path: Path) -> None:
    store = FakeStore()
    sender = _sender(store, tmp_path)
    points = [Point("bad" if n == 37 else f"m{n}", 1.0, 0, 0) for n in range(100)]
    sender.flush({3: Batch(metrics=points)})
    kept = [key for _, keys in store.logged for key in keys]
    assert sorted(kept) == sorted(point.key for point in points if point.key != "bad")
    assert len(sender.memory.errors) == 1 and "'bad'" in sender.memory.errors[0]


def test_a_run_that_alone_keeps_failing_is_given_up_and_a_store_that_fails_is_not(tmp_path: Path) -> None:
    def poisoned(number: int) -> None:
        if number == 1:
            raise Trouble("error 500")

    sender = _sender(FakeStore(poisoned), tmp_path)
    pending = {1: Batch(tags={"a": "b"}), 2: Batch(tags={"a": "b"})}
    for _ in range(TRIES):
        assert 1 in pending
        with pytest.raises(Trouble):
            sender.flush(pending)
    assert pending == {}
    assert "given up" in sender.memory.errors[-1]

    def down(number: int) -> None:
        raise Trouble("down", everywhere=True)

    sender = _sender(FakeStore(down), tmp_path)
    pending = {1: Batch(), 2: Batch()}
    for _ in range(3 * TRIES):
        with pytest.raises(Trouble):
            sender.flush(pending)
    assert set(pending) == {1, 2}


def test_a_creation_whose_answer_was_lost_is_looked_up(tmp_path: Path) -> None:
    store = FakeStore()
    sender = _sender(store, tmp_path)
    create = store.create

    def lost(birth: Birth, parent: str | None) -> str:
        create(birth, parent)
        raise Trouble("does not answer in time", everywhere=True)

    store.create = lost  # type: ignore[method-assign]
    for _ in range(2):  # the sweep's own run, then the trial's
        with pytest.raises(Trouble):
            sender.run_of(5)
    assert sender.run_of(5) == ("run-1", False)
    store.made["run-2"] = 5  # it was carried out twice after all
    sender.look_up()
    assert store.dropped == ["run-2"] and sender.memory.runs[5] == "run-1"


def test_of_several_runs_the_known_one_stays_and_no_deleted_one_is_preferred(tmp_path: Path) -> None:
    store = FakeStore()
    sender = _sender(store, tmp_path)
    found = [("old", 5, True), ("a", 5, False), ("b", 5, False), ("gone", 6, True), ("p", PARENT, False)]
    store.find = lambda uid: found  # type: ignore[method-assign]
    assert sender.look_up()
    assert sender.memory.runs == {PARENT: "p", 5: "a", 6: "gone"} and store.dropped == ["b"]
    store.dropped.clear()
    sender.memory.runs = {PARENT: "p", 5: "b"}
    sender.look_up()
    assert sender.memory.runs[5] == "b" and store.dropped == ["a"]


def _mlflow_error(
    text: str, code: int = databricks_pb2.INTERNAL_ERROR, cause: Exception | None = None
) -> Exception:
    try:
        raise MlflowException(text, code) from cause
    except MlflowException as error:
        return error


def _http_error(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Error", response=response)


def _name_not_known() -> Exception:
    """As requests says it: urllib3 makes it a kind of timeout."""
    unknown = socket.gaierror(-2, "Name or service not known")
    error = NameResolutionError("host", HTTPConnection("host"), unknown)
    error.__cause__ = unknown
    return requests.ConnectionError(error)


@pytest.mark.parametrize(
    ("error", "kind", "everywhere", "words"),
    [
        (_mlflow_error("x", cause=requests.ReadTimeout("slow")), Trouble, True, "in time"),
        (
            _mlflow_error("x", cause=requests.ConnectionError(ConnectionRefusedError(111, "refused"))),
            Trouble,
            True,
            "refused",
        ),
        (
            _mlflow_error("x", cause=requests.ConnectionError(ReadTimeoutError(None, "/", "Read timed out."))),
            Trouble,
            True,
            "in time",
        ),
        (_mlflow_error("x", cause=_name_not_known()), Trouble, True, "(Name or service not known)"),
        (
            ModuleNotFoundError("no", name="boto3"),
            Trouble,
            True,
            "the Python package boto3, which is not installed",
        ),
        (PermissionError(13, "Permission denied", "/data/x"), Trouble, False, "cannot write /data/x: Permission"),
        (_mlflow_error("Caused by ResponseError('too many 500 error responses')"), Trouble, False, "500"),
        (_mlflow_error("Caused by ResponseError('too many 503 error responses')"), Trouble, True, "503"),
        (_mlflow_error("no", databricks_pb2.PERMISSION_DENIED), Trouble, True, "credentials"),
        (_mlflow_error("no", databricks_pb2.ENDPOINT_NOT_FOUND), Trouble, True, "no MLflow server"),
        (
            _mlflow_error("x", cause=sqlite3.OperationalError("database is locked")),
            Trouble,
            True,
            "database is locked",
        ),
        (_mlflow_error("bad name", databricks_pb2.INVALID_PARAMETER_VALUE), Refused, None, "bad name"),
        (_mlflow_error("no run", databricks_pb2.RESOURCE_DOES_NOT_EXIST), Refused, None, "no run"),
        (OSError(28, "No space left on device", "/data/x"), Trouble, True, "No space left on device (/data/x)"),
        (FileNotFoundError(2, "No such file", "/data/x"), Refused, None, "/data/x"),
        (_http_error(502), Trouble, True, "502"),
        (_http_error(413), Refused, None, "413"),
        (_http_error(403), Trouble, True, "credentials"),
        (ValueError("something new\nat http://me:pw@host/"), Trouble, False, "something new"),
    ],
)
def test_what_an_error_means(error: Exception, kind: type, everywhere: bool | None, words: str) -> None:
    meant = judge(error, "the store")
    assert type(meant) is kind and words in str(meant) and "pw" not in str(meant)
    assert getattr(meant, "everywhere", None) is everywhere


def test_trouble_is_told_once_in_an_outage_and_rarely_where_a_store_comes_and_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(retrying.time, "monotonic", lambda: now[0])
    retry = Retry()
    assert not retry.failed("refused")  # it may be over with the next attempt
    assert [retry.failed(text) for text in ("refused", "slow", "refused", "slow")] == [True, True, False, False]
    assert 0 < retry.due - now[0] <= PAUSE
    assert retry.worked() and not retry.worked() and retry.error == "" and retry.since is None
    assert not any(retry.failed("refused") for _ in range(3)) and not retry.worked()
    now[0] += QUIET
    assert [retry.failed("refused") for _ in range(3)] == [False, True, False] and retry.worked()


def test_a_run_made_ahead_does_not_stay_open_when_the_sweep_ends() -> None:
    rules = Rules(("val_acc",), ("maximize",), trials=5, needs_run=True)
    mirror = Mirror(e.SweepOpened(START, "digits-1", rules, config(report={"mode": "mlflow"})), "uid")
    mirror.feed(e.ControllerStarted(START, 1, 1, "boot"))
    mirror.feed(e.TrialSampled(START + 1, 0, {"lr": 1}))
    assert mirror.pending[0].status == "SCHEDULED"
    assert mirror.pending[0].params == {}  # they come last, for the trial may want to write its own
    mirror.feed(e.StopAsked(START + 2))
    assert mirror.sweep.state.ended
    assert mirror.pending[0].status == "KILLED"
    mirror.feed(e.ResumeAsked(START + 3))
    assert mirror.pending[0].status == "SCHEDULED"
    assert mirror.pending[PARENT].status == "RUNNING"


# ---- metrics that a trial logs by itself


class FakeHistory:
    def __init__(self) -> None:
        self.points: list[Point] = []
        self.reads = 0

    def latest(self, run_id: str) -> dict[str, tuple[int, int, float]]:
        newest: dict[str, tuple[int, int, float]] = {}
        for key, value, at, step in self.points:
            newest[key] = max(newest.get(key, (-1, 0, 0.0)), (step, at, value))
        return newest

    def history(self, run_id: str, key: str) -> list[Point]:
        self.reads += 1
        return [point for point in self.points if point.key == key]


def _reports(path: Path) -> list[tuple[int, dict[str, Any]]]:
    records = [json.loads(line) for line in path.read_text().splitlines() if line.startswith('{"step"')]
    return [(record["step"], record["metrics"]) for record in records]


def test_harvest_writes_each_point_once_for_each_attempt(tmp_path: Path) -> None:
    directory = SweepDir(tmp_path / "sweeps" / "digits-1")
    folder = directory.attempt(4, 1)
    folder.path.mkdir(parents=True)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind(str(directory.doorbell))
    bell.settimeout(5)
    store = FakeHistory()
    trial = Trial(4, {}, attempts=[Attempt(1, "cpu-0", "cpu", launched=1.0)])
    looking = Harvest(directory, store)  # type: ignore[arg-type]
    store.points = [Point("acc", 0.5, 2000, 1), Point("loss", math.nan, 2001, 1), Point("acc", 0.6, 3000, 2)]
    looking.look(trial, trial.attempts[0], "run")
    assert bell.recv(100) == b"4/1"
    assert _reports(folder.reports) == [(1, {"acc": 0.5, "loss": "NaN"}), (2, {"acc": 0.6})]

    reads = store.reads
    store.points += [Point("acc", math.inf, 4000, 3), Point("system/cpu", 1.0, 4000, 3)]
    looking.look(trial, trial.attempts[0], "run")
    assert _reports(folder.reports)[2:] == [(3, {"acc": "Infinity"})]
    assert store.reads <= reads + 2  # NaN is never equal to itself

    with folder.reports.open("a") as file:
        file.write('{"checkpoint": 3, "at"')  # torn
    store.points += [Point("acc", 0.7, 5000, 4)]
    anew = Harvest(directory, store)  # type: ignore[arg-type]
    anew.look(trial, trial.attempts[0], "run", last=True)
    assert _reports(folder.reports)[3:] == [(4, {"acc": 0.7})]

    trial.attempts.append(Attempt(2, "cpu-0", "cpu", launched=6.0))
    second = directory.attempt(4, 2)
    second.path.mkdir(parents=True)
    store.points += [Point("acc", 0.5, 7000, 1)]  # the same value at the same step, but now
    anew.look(trial, trial.attempts[1], "run")
    assert _reports(second.reports) == [(1, {"acc": 0.5})]
    bell.close()


def test_harvest_keeps_points_that_could_not_be_written(tmp_path: Path) -> None:
    directory = SweepDir(tmp_path / "sweeps" / "digits-1")
    store = FakeHistory()
    store.points = [Point("acc", 0.5, 2000, 1)]
    trial = Trial(4, {}, attempts=[Attempt(1, "cpu-0", "cpu", launched=1.0)])
    looking = Harvest(directory, store)  # type: ignore[arg-type]
    reports = directory.attempt(4, 1).reports
    reports.mkdir(parents=True)  # in the way, as a full disk would be
    with pytest.raises(OSError):
        looking.look(trial, trial.attempts[0], "run")
    reports.rmdir()
    looking.look(trial, trial.attempts[0], "run")
    assert _reports(reports) == [(1, {"acc": 0.5})]


def test_two_values_of_one_metric_at_one_step_are_two_reports() -> None:
    points = [Point("a", 1.0, 10, 0), Point("b", 2.0, 11, 0), Point("a", 3.0, 12, 0)]
    lines = [json.loads(line) for line in harvesting._lines(points)]
    assert [(line["at"], line["metrics"]) for line in lines] == [
        (0.011, {"a": 1.0, "b": 2.0}),
        (0.012, {"a": 3.0}),
    ]


def test_the_mirror_is_quick(tmp_path: Path) -> None:
    history = History(tmp_path, trials=300, rules={"trials": 300})
    for number in range(300):
        history.trial(number, 0.5, reports=10)
    mirror: Mirror | None = None
    begun = time.process_time()
    for event, _ in _all(Tail(history.directory.journal)):
        if isinstance(event, e.SweepOpened):
            mirror = Mirror(event, "uid")
        else:
            assert mirror is not None
            mirror.feed(event)
    assert mirror is not None and len(mirror.pending) == 301
    assert (time.process_time() - begun) / history.seq < 0.001


def _all(tail: Tail) -> Any:
    while not tail.caught_up():
        yield from tail.read()


# ---- the line to the controller ------------------------------------------------------------------------------


def test_what_comes_with_the_first_message_waits_for_the_next_look() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b'{"folder": "/x/sweeps/s-1"}\n{"make_run": 3}\n{"make')
        link = Link(theirs.detach())
        assert link.first() == {"folder": "/x/sweeps/s-1"}
        assert link.wait(0.0) == [{"make_run": 3}]
        ours.sendall(b'_run": 4}\n')
        assert link.wait(1.0) == [{"make_run": 4}]


def test_a_follower_that_nobody_needs_is_told_so_by_the_end_of_the_line() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    assert Link(theirs.detach()).first() is None
