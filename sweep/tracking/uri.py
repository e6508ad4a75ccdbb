"""Which MLflow store a sweep writes to. Does not import mlflow: the controller and `sweep ui` ask too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.errors import ConfigError

DATABASE = "mlflow.db"


def tracking_uri(config_mlflow: Mapping[str, Any], project: Path, environ: Mapping[str, str]) -> str:
    """The store: `mlflow.tracking_uri`, else MLFLOW_TRACKING_URI, else what a bare `mlflow ui` in `project` shows.

    Relative paths are taken from `project` and made absolute. Raises ConfigError for MLflow's old file store,
    which MLflow itself refuses unless MLFLOW_ALLOW_FILE_STORE is set.
    """
    allowed = environ.get("MLFLOW_ALLOW_FILE_STORE", "").strip().lower() in ("true", "1")
    chosen = config_mlflow.get("tracking_uri") or environ.get("MLFLOW_TRACKING_URI")
    if not chosen:
        folder = project / "mlruns"
        if not _is_file_store(folder):
            return f"sqlite:///{project.absolute() / DATABASE}"
        if not allowed:
            raise ConfigError(
                f"{folder} is an MLflow file store, which MLflow 3 no longer opens (`mlflow ui` here fails alike)",
                key="mlflow.tracking_uri",
                hint=f"name another store (mlflow: sqlite:///{DATABASE}), or move the old one over: "
                f"mv mlruns mlruns.old && mlflow migrate-filestore --source mlruns.old --target sqlite:///{DATABASE}",
            )
        chosen = "mlruns"
    uri = _absolute(str(chosen), project.absolute())
    if uri.startswith("file:") and not allowed:
        raise ConfigError(
            f"{chosen} is an MLflow file store, which MLflow 3 no longer opens",
            key="mlflow.tracking_uri",
            hint=f"name a database (sqlite:///{DATABASE}) or a server (http://host:5000); "
            "or set MLFLOW_ALLOW_FILE_STORE=true",
        )
    return uri


def _absolute(uri: str, project: Path) -> str:
    if "://" not in uri and not uri.startswith("file:"):
        return uri if uri in ("databricks", "databricks-uc") else f"file://{project / uri}"
    scheme, mark, path = uri.partition(":///")
    if mark and scheme.split("+")[0] == "sqlite" and not path.startswith((":memory:", "/")):
        return f"{scheme}:///{project / path}"
    return uri


def _is_file_store(folder: Path) -> bool:
    """MLflow's own test: mlflow/tracking/_tracking_service/utils.py, _has_existing_mlruns_data."""
    try:
        return any(entry.name.isdigit() and (entry / "meta.yaml").exists() for entry in folder.iterdir())
    except OSError:
        return False


def database_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for every other."""
    scheme, _, path = uri.partition(":///")
    path = path.partition("?")[0]
    return Path(path) if scheme.split("+")[0] == "sqlite" and path and path != ":memory:" else None


def is_remote(uri: str) -> bool:
    """Whether somebody else runs the server: there is a page to open and nothing to start."""
    return uri.startswith(("http://", "https://", "databricks"))


def redacted(text: str) -> str:
    """The text without the user and password that a URI in it may carry."""
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)
