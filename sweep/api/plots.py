"""Pictures of a sweep, as Matplotlib's axes: Optuna's own, but for slots and for curves with marked ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweep.api.reading import Reader
from sweep.config.model import SweepConfig
from sweep.core.model import Attempt, Outcome, Sweep, Trial, TrialState
from sweep.errors import SweepError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "best": "tab:green",
    "complete": "tab:blue",
    "pruned": "tab:orange",
    "failed": "tab:red",
    "running": "0.6",
}


class Plots:
    """`sweep.plot`: each method draws one picture of the trials up to now, and returns its axes.

    metric: the name of an objective, the first one by default.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def history(self, metric: str | None = None) -> Axes:
        """Every value in the order of trials, and the best so far."""
        return self._optuna("optimization_history", metric)

    def importances(self, metric: str | None = None, *, params: list[str] | None = None) -> Axes:
        """How much each parameter matters, as Optuna's own evaluator has it."""
        return self._optuna("param_importances", metric, params=params)

    def parallel(self, metric: str | None = None, *, params: list[str] | None = None) -> Axes:
        """One line a trial through its parameters, coloured by value."""
        return self._optuna("parallel_coordinate", metric, params=params)

    def slice(self, metric: str | None = None, *, params: list[str] | None = None) -> Any:
        """Value over each parameter, one axes a parameter."""
        return self._optuna("slice", metric, params=params)

    def front(self) -> Axes:
        """The trials over two or three objectives; those that no other one beats stand out."""
        from sweep.search.pictures import draw_front

        sweep = self._state()
        if len(sweep.rules.metrics) not in (2, 3):
            raise UsageError(
                f"{sweep.id} has {len(sweep.rules.metrics)} objectives; this picture needs two or three"
            )
        if not sweep.counts[TrialState.COMPLETE]:
            raise SweepError(f"{sweep.id} has no completed trial so far")
        axes: Axes = draw_front(SweepConfig.model_validate(sweep.config), sweep.trials.values())
        return axes

    def curves(self, metric: str | None = None) -> Axes:
        """Every trial's reports over its steps; pruned and failed ones end in a cross. metric: any reported."""
        from sweep.api.frames import curves_frame

        sweep = self._state()
        wanted = metric or sweep.rules.first[0]
        table = curves_frame(self._reader.reports)
        table = table[table["metric"] == wanted]
        if table.empty:
            known = ", ".join(self._reader.reports.names) or "nothing yet"
            raise UsageError(f"no trial of {sweep.id} has reported {wanted!r}", hint=f"reported was {known}")
        # a retry goes over some steps again
        table = table.drop_duplicates(["trial", "step"], keep="last").sort_values(["trial", "step"])
        axes = _canvas()
        counts: dict[str, int] = {}
        alpha = max(0.15, min(0.7, 40 / table["trial"].nunique()))  # so that many lines show where they are dense
        for number, rows in table.groupby("trial"):
            kind = _kind(sweep, sweep.trials[int(str(number))])
            counts[kind] = counts.get(kind, 0) + 1
            best = kind == "best"
            look: dict[str, Any] = {
                "color": _COLOURS[kind],
                "linewidth": 2.5 if best else 1,
                "alpha": 1 if best else alpha,
            }
            axes.plot(rows["step"], rows["value"], zorder=3 if best else 2, **look)
            if len(rows) == 1:  # which makes no line
                axes.plot(rows["step"], rows["value"], ".", **look)
            if kind in ("pruned", "failed"):
                axes.plot(rows["step"].iloc[-1], rows["value"].iloc[-1], "x", color=_COLOURS[kind], zorder=4)
        axes.set(title=sweep.id, xlabel="step", ylabel=wanted)
        _legend(axes, counts)
        return axes

    def timeline(self) -> Axes:
        """Which slot was busy when, one bar an attempt, by how its trial ended; a gap is an idle slot."""
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        sweep = self._state()
        bars = [(trial, attempt) for trial in sweep.trials.values() for attempt in trial.attempts]
        if not bars:
            raise SweepError(f"no trial of {sweep.id} has started yet")
        slots = sorted({attempt.slot for _, attempt in bars})
        axes = _canvas(figsize=(8, 1.2 + 0.35 * len(slots)))
        counts: dict[str, int] = {}
        for trial, attempt in bars:
            kind = "failed" if _failed(attempt) else _kind(sweep, trial)
            counts[kind] = counts.get(kind, 0) + 1
            end = sweep.at if attempt.ended is None else attempt.ended
            start, width = attempt.launched / 86400, max(0.0, end - attempt.launched) / 86400
            axes.barh(slots.index(attempt.slot), width, left=start, color=_COLOURS[kind], edgecolor="white")
        axes.set_yticks(range(len(slots)), slots)
        axes.invert_yaxis()
        axes.set_title(sweep.id)
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        _legend(axes, counts)
        return axes

    def _state(self) -> Sweep:
        for _ in self._reader.news():
            pass
        return self._reader.sweep

    def _optuna(self, kind: str, metric: str | None, **options: Any) -> Axes:
        from sweep.search.pictures import draw

        sweep = self._state()
        names = list(sweep.rules.metrics)
        if metric is not None and metric not in names:
            raise UsageError(
                f"{metric!r} is no objective of {sweep.id}", hint=f"its objectives: {', '.join(names)}"
            )
        done = sweep.counts[TrialState.COMPLETE]
        if done < 2:
            raise SweepError(f"{sweep.id} has {done} completed trials so far; this picture needs two")
        config = SweepConfig.model_validate(sweep.config)
        index = names.index(metric) if metric else 0
        try:
            axes: Axes = draw(kind, config, sweep.trials.values(), index, **options)
        except (ValueError, RuntimeError) as error:  # such as: every value is the same
            raise SweepError(f"Optuna cannot draw this of {sweep.id}: {error}") from None
        return axes


def _canvas(**options: Any) -> Axes:
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(layout="constrained", **options)[1]
    return axes


def _failed(attempt: Attempt) -> bool:
    """Though its trial may have been tried again, and completed."""
    return attempt.outcome in (Outcome.CRASHED, Outcome.OOM, Outcome.LOST, Outcome.TIMED_OUT)


def _kind(sweep: Sweep, trial: Trial) -> str:
    if trial.number == sweep.best:
        return "best"
    kinds = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return kinds.get(trial.state, "running")


def _legend(axes: Axes, counts: dict[str, int]) -> None:
    from matplotlib.lines import Line2D

    shown = [kind for kind in _COLOURS if kind in counts]
    lines = [Line2D([], [], color=_COLOURS[kind], linewidth=2) for kind in shown]
    labels = [kind if kind == "best" else f"{counts[kind]} {kind}" for kind in shown]
    axes.figure.legend(lines, labels, loc="outside right upper", frameon=False)
