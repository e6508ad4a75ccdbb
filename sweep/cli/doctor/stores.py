"""Whether MLflow's store and Optuna's storage answer. Nothing is made there, and nothing is changed."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from sweep.cli.doctor.finding import Finding
from sweep.errors import ConfigError
from sweep.tracking.uri import database_file, is_remote, redacted, tracking_uri

TIMEOUT = 3.0  # seconds that a server has to answer
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_ASK = "/api/2.0/mlflow/experiments/search?max_results=1"  # MLflow REST API


def mlflow(settings: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The store that a sweep in this folder writes to. settings: `mlflow` of space.yaml, as far as it is given."""
    try:
        uri = tracking_uri(settings, folder, environ)
    except ConfigError as error:
        yield Finding("mlflow", "bad", error.problem, error.hint or "")
        return
    origin = (
        "MLFLOW_TRACKING_URI" if environ.get("MLFLOW_TRACKING_URI") and not settings.get("tracking_uri") else ""
    )
    if uri.startswith(("http://", "https://")):
        yield _server(uri, environ, origin)
    elif is_remote(uri):
        yield Finding("mlflow", "ok", f"{redacted(uri)}: not asked, its client keeps the credentials")
    elif uri.startswith("file:"):
        yield _folder("mlflow", Path(uri.removeprefix("file://")))
    else:
        yield database("mlflow", uri, folder)


def database(topic: str, url: str, folder: Path) -> Finding:
    """A database as SQLAlchemy names it; a SQLite file need not be there yet. Relative paths are from `folder`."""
    file = database_file(url)
    if file is not None:
        return _sqlite(topic, folder / file)
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    shown = redacted(url)
    try:
        place = make_url(url)
        port = place.port or _PORTS.get(place.get_backend_name())
        if place.host and port:
            with socket.create_connection((place.host, port), TIMEOUT):
                pass
        timed = place.get_backend_name() in ("postgresql", "mysql", "mariadb")
        engine = create_engine(place, connect_args={"connect_timeout": int(TIMEOUT)} if timed else {})
        with engine.connect():
            pass
        engine.dispose()
    except ImportError as error:
        mend = "pip install 'psycopg[binary]', and postgresql+psycopg:// in the address; other databases alike"
        return Finding(topic, "bad", f"{shown}: its driver is not installed ({error})", mend)
    except (OSError, SQLAlchemyError) as error:
        said = redacted(str(getattr(error, "orig", None) or error).strip().splitlines()[0])
        return Finding(topic, "bad", f"{shown} does not answer: {said}", "start it, or correct its address")
    return Finding(topic, "ok", f"{shown} answers")


def _server(uri: str, environ: Mapping[str, str], origin: str) -> Finding:
    shown = redacted(uri)
    correct = (
        f"start it, or correct {origin or '`mlflow` in the file'}; sweeps run meanwhile and send it all later"
    )
    try:
        place = urlsplit(uri.rstrip("/"))
        bare = place._replace(netloc=place.netloc.rpartition("@")[2]).geturl()
        request = urllib.request.Request(bare + _ASK, headers=_credentials(place, environ))
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            mend = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return Finding("mlflow", "bad", f"{shown} refuses you ({error.code})", mend)
        return Finding("mlflow", "bad", f"{shown} answers {error.code} {error.reason}", correct)
    except (OSError, ValueError) as error:
        said = getattr(error, "reason", None) or error
        if isinstance(error, ValueError):
            return Finding("mlflow", "bad", f"{shown} answers, but not as an MLflow server: {said}", correct)
        return Finding("mlflow", "bad", f"{shown} does not answer: {said}", correct)
    return Finding("mlflow", "ok", f"{shown} answers")


def _credentials(place: SplitResult, environ: Mapping[str, str]) -> dict[str, str]:
    """As MLflow's own client sends them: mlflow/utils/rest_utils.py; or those in the address."""
    user, password = (environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if place.username and not user:
        user, password = unquote(place.username), unquote(place.password or "")
    if user and password is not None:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    if token := environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _sqlite(topic: str, file: Path) -> Finding:
    if not file.exists():
        made = _folder(topic, file.parent)
        return made if made.state == "bad" else Finding(topic, "ok", f"{file} will be made by the first sweep")
    writable = os.access(file, os.R_OK | os.W_OK, effective_ids=True)
    if not writable or not os.access(file.parent, os.W_OK, effective_ids=True):  # its journal is made beside it
        return Finding(topic, "bad", f"you may not write to {file}", "ask its owner, or name another store")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=TIMEOUT)) as opened:
            opened.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        return Finding(topic, "bad", f"{file} cannot be read: {error}", "move it away, or name another store")
    return Finding(topic, "ok", f"{file} answers")


def _folder(topic: str, folder: Path) -> Finding:
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return Finding(topic, "bad", f"you may not write to {folder}", "name another store")
    return Finding(topic, "ok", f"{folder} is writable")
