"""What an error of MLflow means. It tells of trouble in many ways (a MlflowException with a code, the errors of
requests and SQLAlchemy in the chain behind it, an OSError from an artifact folder). Here they become two:

    Trouble   the store cannot take it now; try again. `everywhere`: no use to try another run meanwhile
    Refused   the store will never take it; note it and go on

When in doubt it is Trouble that is not everywhere; the sender gives up on a run that alone keeps failing.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any

from sweep.errors import StorageError
from sweep.tracking.uri import redacted

_KEYS = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_NOW_NOT = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
_NEVER = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
    "RESOURCE_LIMIT_EXCEEDED",
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
_DRIVERS = ("sqlite3", "psycopg", "psycopg2", "pymysql")


class Trouble(StorageError):
    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Refused(StorageError):
    pass


def judge(error: Exception, where: str) -> StorageError:
    """Trouble or Refused. where: the store, in words."""
    chain = list(_chain(error))
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    text = redacted(_first_line(chain))
    code = str(getattr(error, "error_code", ""))
    status = _http_status(chain)
    if kinds & {"Timeout", "ReadTimeoutError"}:  # the latter, urllib3's, is a ConnectionError to requests
        return Trouble(f"{where} does not answer in time", everywhere=True)
    if status in (401, 403) or code in _KEYS:
        return Trouble(f"{where} refuses the credentials: {text}", everywhere=True)
    if status in (408, 429) or status >= 500:
        return Trouble(f"{where} answers with error {status}", everywhere=status != 500)
    if "ConnectionError" in kinds:
        return Trouble(f"{where} cannot be reached ({_reason(chain)})", everywhere=True)
    if code == "ENDPOINT_NOT_FOUND":
        said = text.partition(" Response body")[0]  # a page of HTML
        return Trouble(f"{where} is no MLflow server, or too old a one: {said}", everywhere=True)
    lacking = next((one for one in chain if isinstance(one, ModuleNotFoundError)), None)
    if lacking is not None:
        return Trouble(f"{where} needs the Python package {lacking.name}, which is not installed", everywhere=True)
    if code in _NOW_NOT or "OperationalError" in kinds:
        return Trouble(f"{where} cannot be used: {text}", everywhere=True)
    if code in _NEVER or status:
        return Refused(text)
    problem = next((one for one in chain if isinstance(one, OSError)), None)
    if problem is not None and problem.errno in _DISK:
        return Trouble(f"{where}: {problem.strerror} ({problem.filename or 'artifacts'})", everywhere=True)
    if isinstance(problem, FileNotFoundError):
        return Refused(f"{problem.strerror}: {problem.filename}")
    if problem is not None and problem.filename:
        return Trouble(f"{where} cannot write {problem.filename}: {problem.strerror}")
    return Trouble(f"{where} fails: {text}")


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


def _http_status(chain: list[BaseException]) -> int:
    """The status of an answer that says no, or 0. (Those that MLflow could retry are told in words only.)"""
    for one in chain:
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        told = re.search(r"too many (\d+) error responses", str(one))
        if told:
            return int(told[1])
    return 0


def _reason(chain: list[BaseException]) -> str:
    """Why there is no connection, in words."""
    for one in chain:
        if isinstance(one, OSError) and one.errno is not None and one.strerror:
            return one.strerror
        if type(one).__name__ == "RemoteDisconnected":
            return "it breaks off the connection"
    return type(chain[-1]).__name__


def _first_line(chain: list[BaseException]) -> str:
    """The plainest words in the chain: the database driver's own if there are any, else MLflow's first line."""
    plain = next((one for one in chain if type(one).__module__.split(".")[0] in _DRIVERS), chain[0])
    lines = str(plain).strip().splitlines() or [type(plain).__name__]
    return lines[0][:300]
