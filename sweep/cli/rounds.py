"""`from_best`: what a file takes over from an earlier sweep becomes a space and a queue when its own begins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path
from typing import Any

from sweep import journal, rundir
from sweep.cli import words
from sweep.config.checks import params_problems
from sweep.config.command import EXPANSIONS, EXTRAS, possible
from sweep.config.model import Parameter, SweepConfig
from sweep.config.narrow import carried, narrowed
from sweep.config.rounds import PREVIOUS
from sweep.config.words import suggest
from sweep.config.writing import described, to_yaml
from sweep.core.model import Sweep, Trial, TrialState
from sweep.core.pareto import front
from sweep.core.policy import better
from sweep.errors import ConfigError, NotFoundError


@dataclass(frozen=True)
class Begun:
    """A config as a sweep begins with it. text: its space.yaml; notes: what was taken over, in words."""

    config: SweepConfig
    text: bytes
    notes: list[str] = field(default_factory=list)


def begun(config: SweepConfig, space: Path, project: Path, started_by: Mapping[str, Any]) -> Begun:
    """space: the file of the config; started_by: as in SweepOpened. Raises ConfigError.

    Where the file takes something over, its space.yaml holds the outcome, and needs nothing of the earlier sweep.
    """
    wanted = config.from_best
    if wanted is None:
        return Begun(config, space.read_bytes())
    name = started_by.get("sweep") if wanted.sweep == PREVIOUS else wanted.sweep
    if name is None:
        return Begun(config, space.read_bytes(), ["from_best: no sweep started this one: it is the first round"])
    before = _find(project, name, str(space))
    best = top(before, wanted.top)
    if not best:
        raise ConfigError(
            f"{before.id} has no completed trial",
            where=str(space),
            key="from_best.sweep",
            hint="name another sweep",
        )
    params = [trial.params for trial in best]
    ranges = dict(config.space)
    if wanted.narrow is not None:
        ranges = narrowed(config.space, SweepConfig.model_validate(before.config).space, params, wanted.narrow)
    first = carried(ranges, params)
    own = [wish for wish in config.enqueue if not any(params_problems(ranges, wish))]
    found = words.plural(len(best), "trial")
    notes = [f"from {before.id}: the best {found}, of which {len(first)} come first here"]
    for parameter in config.space:
        was, now = _shown(config.space[parameter]), _shown(ranges.get(parameter))
        if was != now:
            notes.append(f"  {parameter}: {was} -> {now}")
    if lost := len(config.enqueue) - len(own):
        notes.append(f"  {words.plural(lost, 'configuration')} of `enqueue` left out: outside the narrowed space")
    taken = {
        "space": ranges,
        "enqueue": [*first, *(wish for wish in own if wish not in first)],
        "from_best": wanted.model_copy(update={"sweep": before.id}),
    }
    whole = config.model_copy(update=taken)
    return Begun(whole, _text(whole, space, notes), notes)


def is_copy(copy: bytes, given: bytes) -> bool:
    """Whether a sweep's space.yaml is this file's, or was made of it."""
    return copy == given or hashlib.sha256(given).hexdigest().encode() in copy.partition(b"\n")[0]


def top(sweep: Sweep, count: int) -> list[Trial]:
    """The best COMPLETE trials, best first; of several objectives some of the Pareto set, by number."""
    if not sweep.rules.single:
        return front(sweep.trials.values(), sweep.rules.directions)[:count] if sweep.rules.metrics else []
    done = [trial for trial in sweep.trials.values() if trial.state is TrialState.COMPLETE and trial.values]
    direction = sweep.rules.directions[0]

    def order(one: Trial, other: Trial) -> int:
        assert one.values and other.values
        return better(direction, other.values[0], one.values[0]) - better(
            direction, one.values[0], other.values[0]
        )

    return sorted(done, key=cmp_to_key(order))[:count]


def _find(project: Path, name: str, where: str) -> Sweep:
    try:
        return journal.replay(rundir.find(project, name).journal)
    except NotFoundError as error:
        known = [one.id for one in rundir.sweeps(project)]
        hint = suggest(name, [*known, PREVIOUS]) if known else "run that sweep first, in this folder"
        raise ConfigError(error.message, where=where, key="from_best.sweep", hint=hint) from None


def _shown(parameter: Parameter | None) -> str:
    return "can no longer be active" if parameter is None else words.possible(parameter)


def _text(config: SweepConfig, space: Path, notes: list[str]) -> bytes:
    """A file that means the same by itself; what the space has lost is gone from the command as well."""
    data = config.model_dump(mode="json", exclude_defaults=True, exclude={"from_best"}, by_alias=True)
    data["space"] = {name: described(one) for name, one in config.space.items()}
    if config.command is not None:
        data["command"] = possible(config.command, {*config.space, *EXTRAS, *EXPANSIONS})
    given = hashlib.sha256(space.read_bytes()).hexdigest()
    remarks = "".join(f"# {line}\n" for line in [f"made of {space}, sha256 {given}", *notes])
    return f"{remarks}{to_yaml(data)}".encode()
