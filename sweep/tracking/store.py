"""The only importer of mlflow: one MLflow store, and what its errors mean.

MLflow tells of trouble in many ways (MlflowException with a code, requests' and SQLAlchemy's errors in the chain,
an OSError from an artifact folder). Here they become two:

    Trouble   the store cannot take it now; try again. `everywhere`: no use to try another run meanwhile
    Refused   the store will never take it; note it and go on

When in doubt it is Trouble that is not everywhere; the sender gives up on a run that alone keeps failing.
"""

from __future__ import annotations

import errno
import gc
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.db import upgrade
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.version import VERSION

from sweep.errors import StorageError
from sweep.tracking import template
from sweep.tracking.mirror import PARENT, Birth, Point
from sweep.tracking.uri import database_file, redacted

gc.collect()
gc.freeze()  # the import heap is large and never garbage; a full collection over it costs 0.1 s

UPLOAD_TIMEOUT = "600"  # seconds without an answer; a server may take long over a large file
KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its two faces the UI shows it with
TERMINAL = ("FINISHED", "FAILED", "KILLED")
_NOW_NOT = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
_KEYS = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_NEVER = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
    "RESOURCE_LIMIT_EXCEEDED",
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


class Trouble(StorageError):
    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Refused(StorageError):
    pass


class Store:
    """One store. Every method raises Trouble or Refused."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.shown = redacted(uri)
        self.experiment_id = ""
        self._client: Any = None
        self._connections: list[Any] = []  # SQLite's

    def open(self, experiment: str, cache: Path) -> None:
        """Makes the database and the experiment if they are not there. Raises Trouble only."""
        try:
            with self._plain_errors():
                self._reach(cache)
                self._client = self._client or MlflowClient(self.uri)
                self.experiment_id = self._experiment(experiment)
        except Refused as error:
            raise Trouble(error.message, everywhere=True) from None

    def find(self, uid: str) -> list[tuple[str, int, bool]]:
        """Every run of this sweep, oldest first: run id, trial number (or PARENT), and whether it is deleted."""
        found: list[tuple[str, int, bool]] = []
        token: str | None = None
        with self._plain_errors():
            while True:
                page = self._client.search_runs(
                    [self.experiment_id],
                    f"tags.`sweep.uid` = '{uid}'",
                    ViewType.ALL,
                    max_results=1000,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                for run in page:
                    trial = run.data.tags.get("sweep.trial")
                    deleted = run.info.lifecycle_stage != "active"
                    found.append((run.info.run_id, PARENT if trial is None else int(trial), deleted))
                token = page.token
                if not token:
                    return found

    def create(self, birth: Birth, parent: str | None) -> str:
        tags = {**birth.tags, **({"mlflow.parentRunId": parent} if parent else {})}
        with self._plain_errors():
            run = self._client.create_run(self.experiment_id, birth.start, tags, birth.name)
            return str(run.info.run_id)

    def log(
        self, run_id: str, metrics: Sequence[Point] = (), params: dict[str, str] | None = None, tags: Any = None
    ) -> None:
        """Sends all of it, in calls of at most 1,000 items. A part that is refused takes the rest with it."""
        with self._plain_errors():
            self._client.log_batch(
                run_id,
                [Metric(point.key, point.value, point.at, point.step) for point in metrics],
                [Param(key, value) for key, value in (params or {}).items()],
                [RunTag(key, value) for key, value in (tags or {}).items()],
            )

    def status(self, run_id: str, status: str, ended: int | None) -> None:
        with self._plain_errors():
            if status in TERMINAL:
                self._client.set_terminated(run_id, status, ended)
            else:
                self._client.update_run(run_id, status)

    def alive(self, run_id: str) -> bool:
        """Whether the run is there and not deleted."""
        try:
            with self._plain_errors():
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except Refused:
            return False

    def ping(self) -> None:
        with self._plain_errors():
            self._client.get_experiment(self.experiment_id)

    def drop(self, run_id: str) -> None:
        with self._plain_errors():
            self._client.delete_run(run_id)

    def params(self, run_id: str) -> set[str]:
        """Names of the parameters that a run has."""
        with self._plain_errors():
            return set(self._client.get_run(run_id).data.params)

    def latest(self, run_id: str) -> dict[str, tuple[int, int, float]]:
        """The newest point of every metric of a run: step, milliseconds, value."""
        with self._plain_errors():
            points = self._client.get_run(run_id).data.to_proto().metrics
            return {point.key: (int(point.step), int(point.timestamp), float(point.value)) for point in points}

    def history(self, run_id: str, key: str) -> list[Point]:
        """Every point of one metric. (The SQL stores keep infinity as the largest double; here it is infinity.)"""
        with self._plain_errors():
            points = self._client.get_metric_history(run_id, key)
            return [Point(key, _true(one.value), int(one.timestamp), int(one.step)) for one in points]

    def upload(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """A file, or a folder's contents, into the run's artifacts (below `folder`). Once more replaces it."""
        with self._plain_errors(), _patience():
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), folder)
            else:
                self._client.log_artifact(run_id, str(path), folder)

    def register(self, name: str, run_id: str, folder: str, tags: dict[str, str]) -> str:
        """A version of the registered model `name` from a folder of the run's artifacts; the one that is there."""
        with self._plain_errors():
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{folder}"
            for version in self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
                if version.source == source:
                    return str(version.version)
            made = self._client.create_model_version(name, source, run_id, tags)
            return str(made.version)

    def _reach(self, cache: Path) -> None:
        """A database is tried first with one plain connection: MLflow's own attempts block for 100 seconds."""
        database = database_file(self.uri)
        if database is not None:
            template.provide(database, cache, VERSION, lambda path: upgrade.callback(f"sqlite:///{path}"))
        if self._client is None and re.match(r"(sqlite|postgresql|mysql|mssql)\b", self.uri):
            import sqlalchemy

            if database is not None:
                sqlalchemy.event.listen(sqlalchemy.Engine, "connect", self._connected)
            engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
            with engine.connect():
                pass

    def _connected(self, connection: Any, _record: Any) -> None:
        """In WAL mode a commit need not reach the platter: after a crash of the machine all is sent again."""
        self._connections.append(connection)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """No call may follow. The last one to close a database in WAL mode folds its side files into it."""
        for connection in self._connections:
            connection.close()

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, tags=KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)  # another sweep was faster
        if found.lifecycle_stage != "active":
            raise Trouble(
                f"the experiment {name!r} is deleted in MLflow; "
                f"`mlflow experiments restore -x {found.experiment_id}` brings it back",
                everywhere=True,
            )
        return str(found.experiment_id)

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            raise self._judge(error) from error

    def _judge(self, error: Exception) -> StorageError:
        chain = list(_chain(error))
        kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
        text = redacted(_first_line(chain))
        where = f"the MLflow store {self.shown}"
        if "Timeout" in kinds:
            return Trouble(f"{where} does not answer in time", everywhere=True)
        status = _http_status(chain)
        if status in (401, 403) or _code(error) in _KEYS:
            return Trouble(f"{where} refuses the credentials: {text}", everywhere=True)
        if status in (408, 429) or status >= 500:
            return Trouble(f"{where} answers with error {status}", everywhere=status != 500)
        if "ConnectionError" in kinds:
            return Trouble(f"{where} cannot be reached ({_reason(chain)})", everywhere=True)
        return self._judge_answer(error, chain, kinds, f"{where}", text)

    def _judge_answer(
        self, error: Exception, chain: list[BaseException], kinds: set[str], where: str, text: str
    ) -> StorageError:
        """Of a store that was reached."""
        code = _code(error)
        if code == "ENDPOINT_NOT_FOUND":
            return Trouble(f"{where} is no MLflow server, or too old a one: {text}", everywhere=True)
        if code in _NOW_NOT or "OperationalError" in kinds:
            return Trouble(f"{where} cannot be written: {text}", everywhere=True)
        if code in _NEVER or _http_status(chain):
            return Refused(text)
        problem = next((one for one in chain if isinstance(one, OSError)), None)
        if problem is not None and problem.errno in _DISK:
            return Trouble(f"{where}: {problem.strerror} ({problem.filename or 'artifacts'})", everywhere=True)
        if isinstance(problem, (FileNotFoundError, PermissionError)):
            return Refused(f"{problem.strerror}: {problem.filename}")
        return Trouble(f"{where} fails: {text}")


def _true(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else float(value)


@contextmanager
def _patience() -> Iterator[None]:
    """MLflow reads its timeout at every call; an upload gets a longer one."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name)
    os.environ[name] = UPLOAD_TIMEOUT
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it; MLflow also wraps errors as its message."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            inner = [getattr(one, name, None) for name in ("orig", "reason")]  # SQLAlchemy's and urllib3's
            waiting += [one.__cause__, one.__context__, *inner, *one.args]


def _code(error: BaseException) -> str:
    return str(error.error_code) if isinstance(error, MlflowException) else ""


def _http_status(chain: list[BaseException]) -> int:
    """The status of an answer that says no, or 0. (Those that MLflow could retry are told in words only.)"""
    for one in chain:
        response = getattr(one, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            return int(response.status_code)
        told = re.search(r"too many (\d+) error responses", str(one))
        if told:
            return int(told[1])
    return 0


def _reason(chain: list[BaseException]) -> str:
    """Why there is no connection, in words."""
    for one in chain:
        name = type(one).__name__
        if isinstance(one, OSError) and one.errno is not None and one.strerror:
            return one.strerror
        if name in ("RemoteDisconnected", "ConnectionResetError"):
            return "it breaks off the connection"
    return type(chain[-1]).__name__


def _first_line(chain: list[BaseException]) -> str:
    """The plainest words in the chain: the database driver's own if it is one, else MLflow's first line."""
    for one in chain:
        if type(one).__module__.split(".")[0] in ("sqlite3", "psycopg", "psycopg2", "pymysql"):
            return str(one).strip().splitlines()[0][:200]
    lines = str(chain[0]).strip().splitlines() or [type(chain[0]).__name__]
    return lines[0][:300]
