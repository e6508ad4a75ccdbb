"""Tables of trials and reports. The only importer of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sweep.api.reading import Reports
from sweep.api.record import TrialRecord


def trials_frame(
    records: Sequence[TrialRecord], metrics: Sequence[str], parameters: Sequence[str]
) -> pd.DataFrame:
    """One row a trial, by number; columns as `Sweep.dataframe` tells. parameters: in this order, others behind."""
    names = dict.fromkeys([*parameters, *(name for one in records for name in one.params)])
    columns: dict[str, Any] = {
        "state": _words([one.state for one in records]),
        "outcome": _words([one.outcome for one in records]),
        **{f"values_{name}": [one.values.get(name, np.nan) for one in records] for name in metrics},
        **{f"params_{name}": [one.params.get(name) for one in records] for name in names},
        "step": pd.array([one.step for one in records], dtype="Int64"),
        "started": _times([one.started for one in records]),
        "duration": pd.to_timedelta([one.duration for one in records], unit="s"),
        "device": _words([one.device for one in records]),
        "slot": _words([one.slot for one in records]),
        "attempts": [one.attempts for one in records],
        "origin": _words([one.origin for one in records]),
        "why": [one.why for one in records],
    }
    return pd.DataFrame(columns, index=pd.Index([one.number for one in records], name="trial", dtype="int64"))


def curves_frame(reports: Reports) -> pd.DataFrame:
    """One row a reported value, in the order in which they came."""
    names = reports.names
    codes = np.full((len(reports.kinds), len(names)), -1)  # kind -> its metrics, as indexes into names
    for kind, metrics in zip(codes, reports.kinds, strict=True):
        kind[: len(metrics)] = [names.index(name) for name in metrics]
    metric = codes[np.array(reports.kind)]
    row, column = np.nonzero(metric >= 0)
    return pd.DataFrame(
        {
            "trial": np.array(reports.trial)[row],
            "attempt": np.array(reports.attempt)[row],
            "step": np.array(reports.step)[row],
            "time": _times(np.array(reports.time)[row]),
            "metric": pd.Categorical.from_codes(metric[row, column], categories=names),
            "value": np.array(reports.value),
        }
    )


def configurations_frame(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """One row a configuration; a parameter that is not active there is missing."""
    return pd.DataFrame(rows, columns=list(names))


def _words(values: Sequence[str | None]) -> Any:
    return pd.Series(values, dtype="str").array


def _times(seconds: Any) -> Any:
    return pd.to_datetime(seconds, unit="s", utc=True)
