"""What is left on the terminal when a sweep has ended: what was found, what it took, and how to go on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from sweep.cli import words
from sweep.cli.document import checkpoint_path, command_line
from sweep.cli.snapshot import on_slots, read_tail
from sweep.cli.sync import standing
from sweep.cli.tables import COLOURS, LABEL, STRONG
from sweep.core.model import Outcome, Sweep, SweepState, Trial, TrialState
from sweep.core.pareto import front
from sweep.rundir import SweepDir, read_json
from sweep.tracking.lag import lag_of

OUTPUT = 12  # lines of a failed trial's output
TAIL = 16 * 1024  # bytes that surely hold them
FRONT = 10  # trials of a Pareto set


def print_summary(console: Console, sweep: Sweep, directory: SweepDir) -> None:
    """Neither wraps nor crops, whatever the width: commands and paths are there to be copied."""
    console.print(summary(sweep, directory), soft_wrap=True)


def summary(sweep: Sweep, directory: SweepDir) -> RenderableType:
    """Print it with `soft_wrap=True`, as `print_summary` does."""
    best = front(sweep.trials.values(), sweep.rules.directions) if sweep.rules.metrics else []
    if sweep.rules.single and best:
        best = [sweep.trials[sweep.best]] if sweep.best is not None else best[:1]
    sections = [
        _ending(sweep),
        _best(sweep, best[0], directory) if len(best) == 1 else _pareto(sweep, best),
        _failure(sweep, directory),
        [*_counts(sweep), *_mlflow(sweep, directory), *_next(sweep)],
    ]
    lines: list[Text] = []
    for section in filter(None, sections):
        lines += [Text(""), *section] if lines else section
    return Group(*lines)


def pruning_saved(sweep: Sweep) -> tuple[float, float] | None:
    """Steps and seconds on slots that the pruned trials would have taken beyond theirs, as the mean complete
    trial does; None where no trial completed or none was pruned early.

    It is an estimate: those that the pruner took to be losing might have trained for longer or shorter.
    """
    complete = [t for t in sweep.trials.values() if t.state is TrialState.COMPLETE and t.step is not None]
    pruned = [t for t in sweep.trials.values() if t.outcome is Outcome.PRUNED and t.step is not None]
    if not complete or not pruned:
        return None
    steps = sum(t.step or 0 for t in complete) / len(complete)
    seconds = sum(on_slots(t) for t in complete) / len(complete)
    return (
        sum(max(0.0, steps - (t.step or 0)) for t in pruned),
        sum(max(0.0, seconds - on_slots(t)) for t in pruned),
    )


def _ending(sweep: Sweep) -> list[Text]:
    took = words.duration(sweep.active + sweep.at - sweep.resumed)
    if not sweep.state.ended:
        left = words.plural(len(sweep.live), "trial")
        return [
            Text.assemble((sweep.id, STRONG), (" interrupted", "yellow"), f" after {took}; {left} still running")
        ]
    failed = sweep.state is SweepState.FAILED
    word = (sweep.state.value.lower(), "red" if failed else "green")
    why = words.clean(sweep.why)
    reason = (f": {why}", "") if failed else (f" ({why})" if why else "", LABEL)
    return [Text.assemble((sweep.id, STRONG), " ", word, f" after {took}", reason)]


def _labelled(label: str, *parts: tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<12}", LABEL), *parts)


def _best(sweep: Sweep, trial: Trial, directory: SweepDir) -> list[Text]:
    values = zip(sweep.rules.metrics, trial.values or (), strict=False)
    step = "" if trial.step is None else f"at step {trial.step}, "
    lines = [
        _labelled(
            "best",
            (f"trial {trial.number}", STRONG),
            *[
                p
                for name, v in values
                for p in ((f"   {words.clean(name)} ", LABEL), (words.number(v), "bold green"))
            ],
            (f"   {step}in {words.duration(on_slots(trial))}", LABEL),
        ),
        _labelled("parameters", (words.parameters(trial.params, gap="  "), "")),
    ]
    checkpoint = checkpoint_path(sweep, trial, directory)
    if checkpoint:
        lines.append(_labelled("checkpoint", (checkpoint, "")))
    return [*lines, _labelled("run again", (command_line(sweep, trial, directory), ""))]


def _pareto(sweep: Sweep, best: Sequence[Trial]) -> list[Text]:
    if not best:
        return []
    columns = [words.column([(t.values or ())[i] for t in best[:FRONT]]) for i in range(len(sweep.rules.metrics))]
    lines = [_labelled("best", (f"{len(best)} trials", STRONG), (" that no other one beats in everything", ""))]
    for place, trial in enumerate(best[:FRONT]):
        values = [f"{words.clean(n)} {c[place]}" for n, c in zip(sweep.rules.metrics, columns, strict=True)]
        shown = "   ".join([f"trial {trial.number:<5}", *values])
        lines.append(_labelled("", (shown, ""), ("   " + words.parameters(trial.params), LABEL)))
    more = f"+ {len(best) - FRONT} more: " if len(best) > FRONT else ""
    return [*lines, _labelled("", (more, LABEL), (f"sweep best {sweep.id}", ""), (" has their commands", LABEL))]


def _failure(sweep: Sweep, directory: SweepDir) -> list[Text]:
    """Where the sweep failed: its last failed trial, what that said last, and where the rest is."""
    failed = [t for t in sweep.trials.values() if t.state is TrialState.FAIL and t.attempts]
    culprits = [t for t in failed if t.outcome is not Outcome.STOPPED]
    if sweep.state is not SweepState.FAILED or not culprits:
        return []
    trial = max(culprits, key=lambda t: t.attempts[-1].ended or 0.0)
    log = directory.attempt(trial.number, len(trial.attempts)).output
    data, start = read_tail(log, 0, TAIL)
    said = [words.clean(text) for text in data.decode(errors="replace").split("\n")[1 if start else 0 :]]
    said = [text.rstrip() for text in said if text.strip()][-OUTPUT:]
    how = words.result(trial.state, trial.outcome)
    title = Text.assemble((f"trial {trial.number}", STRONG), " ", (how, "red"), f": {words.clean(trial.why)}")
    lines = [title, *(Text.assemble(("  | ", LABEL), text) for text in said)]
    lines.append(_labelled("log", (str(log), "")))
    if trial.why.startswith("exited 0") and not trial.latest:  # nothing went wrong but that it said nothing
        way = f"sweep.current_trial().report(step, {words.clean(sweep.rules.metrics[0])}=...)"
        lines.append(_labelled("to report", (way, ""), (" in the script; or `report:` reads its output", LABEL)))
    return lines


def _counts(sweep: Sweep) -> list[Text]:
    parts: list[tuple[str, str]] = []
    for state, name in (
        (TrialState.COMPLETE, "complete"),
        (TrialState.PRUNED, "pruned"),
        (TrialState.FAIL, "failed"),
    ):
        count = sweep.counts[state]
        parts.append((f"{count} {name}   ", COLOURS[state] if count else LABEL))
    spent = sum(on_slots(trial) for trial in sweep.trials.values())
    lines = [_labelled("trials", *parts, (f"{words.duration(spent)} on the slots", LABEL))]
    saved = pruning_saved(sweep)
    if saved is not None and saved[1] >= 1:
        steps, seconds = saved
        text = f"about {steps:.0f} steps and {words.duration(seconds)} on the slots not spent"
        lines.append(_labelled("pruning", (text, ""), (", measured by the mean complete trial", LABEL)))
    return lines


def _mlflow(sweep: Sweep, directory: SweepDir) -> list[Text]:
    found = read_json(directory.mlflow) or {}
    place = f" shows it, in experiment {words.clean(str(found.get('experiment')))}"
    lines = [("sweep ui", place, "")] if found.get("run_id") else []
    lines += [("", "", line) for line in standing(lag_of(directory), sweep.id, controlled=False)]
    return [
        _labelled("" if number else "MLflow", (command, ""), (remark, LABEL), (trouble, "yellow"))
        for number, (command, remark, trouble) in enumerate(lines)
    ]


def _next(sweep: Sweep) -> list[Text]:
    """How to go on, where something is left to do."""
    if not sweep.state.ended or (sweep.rules.trials is not None and len(sweep.trials) < sweep.rules.trials):
        return [_labelled("go on", (f"sweep resume {sweep.id}", ""))]
    return []
