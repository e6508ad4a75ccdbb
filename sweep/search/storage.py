"""The default storage: Optuna's journal file with one writer."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation as Op
from optuna.trial import TrialState as OptunaState

from sweep.lines import parsed

log = logging.getLogger("sweep.search")
_OF_STUDY = (Op.CREATE_STUDY, Op.SET_STUDY_USER_ATTR, Op.SET_STUDY_SYSTEM_ATTR)
_FINISHED = {state.value for state in OptunaState if state.is_finished()}


class OwnJournal(JournalFileBackend):  # type: ignore[misc]
    """Optuna's journal file with one writer: no lock, no sync to disk, and no reading back of what was written.

    The file's format is Optuna's, so that others read it while we write. What a machine's crash loses of it is put
    back from the sweep's own journal, which is synced. What cannot be written (a full disk) waits for the next
    line, from the byte where it stopped: the study in memory is right all the time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._loaded = False
        self._unread: list[dict[str, Any]] = []
        self._waiting = bytearray()
        self._hold = False
        self._lock = threading.Lock()  # `whole` ends outside of the lock of Optuna's storage
        self._trouble = ""
        _cut_torn_line(path)
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in logs]
        self._unread += [json.loads(line) for line in lines]  # as a reader would see them: keys are strings
        with self._lock:
            self._waiting += b"".join(lines)
            self._write()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if not self._loaded:
            self._loaded = True
            self._unread = []
            data = self._path.read_bytes()
            yield from folded(parsed(data) or [json.loads(line) for line in data.splitlines()])
            return
        unread, self._unread = self._unread, []
        yield from unread

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is appended inside is written in one piece: a trial is there with all its parameters, or not."""
        self._hold = True
        try:
            yield
        finally:
            with self._lock:
                self._hold = False
                self._write()

    def close(self) -> None:
        """Once more what could not be written."""
        with self._lock:
            self._write()
            os.close(self._out)

    def _write(self) -> None:
        if self._hold:
            return
        try:
            while self._waiting:
                del self._waiting[: os.write(self._out, self._waiting)]
        except OSError as error:
            if not self._trouble:
                log.error("cannot write the study: %s; a resume would mend it", error)
            self._trouble = str(error)
        else:
            self._trouble = ""


def folded(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same study in fewer entries: one for each trial, with all that came to be of it.

    Optuna copies a trial at each of its entries; so, it opens a study of 10,000 trials in half the time. What is
    not as OwnJournal writes it (other studies, a distribution that changed) is left as it is.
    """
    others: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}  # of parameters
    for entry in log:
        op = entry["op_code"]
        if op in _FOLDS:
            if not 0 <= entry["trial_id"] < len(trials):
                return log
            trial = trials[entry["trial_id"]]
            if trial["state"] not in _FINISHED:  # Optuna ignores what comes later
                _FOLDS[op](trial, entry)
        elif op == Op.CREATE_TRIAL and entry["study_id"] == 0:
            trials.append(_template(entry))
        elif op in _OF_STUDY:
            others.append(entry)
        else:
            return log
    for trial in trials:
        if any(kinds.setdefault(name, kind) != kind for name, kind in trial["distributions"].items()):
            return log
    return others + trials


def _template(entry: dict[str, Any]) -> dict[str, Any]:
    whole = {"state": OptunaState.RUNNING.value, "values": None, **entry}
    for key in ("params", "distributions", "user_attrs", "system_attrs"):
        whole[key] = dict(entry.get(key, {}))
    whole["intermediate_values"] = {int(k): value for k, value in entry.get("intermediate_values", {}).items()}
    value = whole.pop("value", None)
    if value is not None:
        whole["values"] = [value]
    return whole


def _param(trial: dict[str, Any], entry: dict[str, Any]) -> None:
    trial["params"][entry["param_name"]] = entry["param_value_internal"]
    trial["distributions"][entry["param_name"]] = entry["distribution"]


def _intermediate(trial: dict[str, Any], entry: dict[str, Any]) -> None:
    trial["intermediate_values"][entry["step"]] = entry["intermediate_value"]


def _user_attr(trial: dict[str, Any], entry: dict[str, Any]) -> None:
    trial["user_attrs"].update(entry["user_attr"])


def _system_attr(trial: dict[str, Any], entry: dict[str, Any]) -> None:
    trial["system_attrs"].update(entry["system_attr"])


def _state_values(trial: dict[str, Any], entry: dict[str, Any]) -> None:
    if entry["state"] == trial["state"] == OptunaState.RUNNING.value:
        return
    trial.update({key: entry[key] for key in ("state", "datetime_start", "datetime_complete") if key in entry})
    if entry["values"] is not None:
        trial["values"] = entry["values"]


_FOLDS: dict[int, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    Op.SET_TRIAL_PARAM.value: _param,
    Op.SET_TRIAL_INTERMEDIATE_VALUE.value: _intermediate,
    Op.SET_TRIAL_STATE_VALUES.value: _state_values,
    Op.SET_TRIAL_USER_ATTR.value: _user_attr,
    Op.SET_TRIAL_SYSTEM_ATTR.value: _system_attr,
}


def _cut_torn_line(path: Path) -> None:
    """A line that a crash left unfinished would make Optuna refuse the whole file."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
