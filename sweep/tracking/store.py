"""The only importer of mlflow: one MLflow store, in the words of the follower."""

from __future__ import annotations

import gc
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
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
from sweep.tracking.trouble import Refused, Trouble, judge
from sweep.tracking.uri import database_file, is_remote, redacted

gc.collect()
gc.freeze()  # the import heap is large and never garbage; a full collection over it costs 0.1 s

UPLOAD_TIMEOUT = "600"  # seconds without an answer; a server may take long over a large file
KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its two faces the UI shows it with
TERMINAL = ("FINISHED", "FAILED", "KILLED")


class Store:
    """One store. Every method raises Trouble or Refused."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.shown = redacted(uri)
        self.experiment_id = ""
        self.through_server = False  # artifacts that only a server can take, and we write to its database directly
        self._client: Any = None

    def open(self, experiment: str, templates: Path) -> None:
        """Makes the database and the experiment if they are not there. Raises Trouble only."""
        try:
            with self._plain_errors():
                self._reach(templates)
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
        if self.through_server:
            raise Refused(
                "this experiment's artifacts go through MLflow's server: give its address (http://host:5000) "
                "as mlflow.tracking_uri, or name another experiment"
            )
        unreadable = [one for one in (path, *path.rglob("*")) if not os.access(one, os.R_OK)]
        if unreadable:
            raise Refused(f"{unreadable[0]} cannot be read")
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

    def _reach(self, templates: Path) -> None:
        """A database is tried first with one plain connection: MLflow's own attempts block for 100 seconds."""
        database = database_file(self.uri)
        if database is not None:
            template.provide(database, templates, VERSION, lambda path: upgrade.callback(f"sqlite:///{path}"))
        if self._client is None and re.match(r"(sqlite|postgresql|mysql|mssql)\b", self.uri):
            import sqlalchemy

            if database is not None:
                _watch_connections()
            engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
            with engine.connect():
                pass

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
        by_server = str(found.artifact_location).startswith("mlflow-artifacts:")
        self.through_server = by_server and not is_remote(self.uri)
        return str(found.experiment_id)

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            raise judge(error, f"the MLflow store {self.shown}") from error


_connections: list[Any] = []  # to SQLite


@cache
def _watch_connections() -> None:
    """Has SQLAlchemy tell of each connection to SQLite that it makes from now on."""
    import sqlalchemy

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        _connections.append(connection)
        # in WAL mode a commit need not reach the platter: after the machine's crash all is sent again (memory.py)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")


def close_all() -> None:
    """No call may follow. The last one to close a database in WAL mode folds its side files into it."""
    for connection in _connections:
        connection.close()


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
