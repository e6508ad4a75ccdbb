"""`sweep init`: a first space.yaml from what a training script says of itself, with comments that teach."""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from sweep.config import prints
from sweep.config.guess import Guess, Place, guess, is_output_folder
from sweep.config.model import safe
from sweep.config.script import FLAGS, UNKNOWN, Option, Script, read_script
from sweep.errors import StorageError, UsageError

FOLDER = "search_spaces"
WIDTH = 114  # cells of a line, its comment included
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_COMMON = frozenset(("train", "main", "run", "fit", "__main__"))  # names that say nothing of what is trained


def init_file(script: Path, output: Path | None, *, force: bool, as_json: bool) -> None:
    """Writes the file and says what is in it. Raises UsageError, StorageError."""
    said = read_script(script)
    _refuse_what_is_not_read(script, said)
    file = output or _default_file(script)
    draft = _Draft(script, said, file)
    _write(file, draft.text(), force=force)
    if as_json:
        print(json.dumps({"file": str(file.absolute()), **draft.document()}))
        return
    searched, fixed, left = (len(draft.of(place)) for place in (Place.SEARCH, Place.FIXED, Place.LEFT))
    click.echo(f"{file}: {searched} to search, {fixed} the same in every trial, {left} left out")
    for what in draft.open:
        click.echo(f"to be filled in: {what}")
    click.echo(f"next: sweep check {shlex.quote(str(file))}")


def _refuse_what_is_not_read(script: Path, said: Script) -> None:
    template = "`command: python {} {{args}}` hands every parameter of `space` over as --name=value"
    by_hand = f"write space.yaml by hand: {template.format(script)}; then `sweep check space.yaml`"
    if said.subcommands:
        what = "has subcommands, and each has options of its own"
        hint = by_hand.replace(" {args}", " SUBCOMMAND {args}")
        raise UsageError(f"{script} {what}", hint=hint)
    if any(not option.positional for option in said.options):
        return
    if said.hidden:
        raise UsageError(f"{script} makes its options in a way that only running it would show", hint=by_hand)
    if said.library:
        raise UsageError(f"{script} takes its options by {said.library}; only argparse is read", hint=by_hand)
    hint = "give it some (argparse), or read `sweep.current_trial().params` in it; if they are in another file, "
    raise UsageError(f"{script} has no argparse options", hint=hint + by_hand)


def _default_file(script: Path) -> Path:
    return Path(FOLDER, f"{script.stem}.yaml") if Path(FOLDER).is_dir() else Path("space.yaml")


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError(
            f"{file} is there already", hint="--force writes over it, -o FILE writes another"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no folder {file.parent} to write {file.name} in") from None
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from None


class _Draft:
    """The file to be, as text; `open` says what somebody has to fill in."""

    def __init__(self, script: Path, said: Script, file: Path) -> None:
        self._script = script
        self._said = said
        self._file = file
        self._folders = [one for one in said.options if not one.positional and is_output_folder(one)]
        self.guesses = [guess(one) for one in said.options if not one.positional and one not in self._folders]
        self._positionals = [one for one in said.options if one.positional and one.required]
        active = self.of(Place.SEARCH, Place.FIXED, Place.OPEN)
        self._spelt = any(not one.option.word.startswith("--") for one in active)  # `-lr`: beyond {args}
        if self._spelt:
            self.guesses = [_spelt_out(one) for one in self.guesses]
        self.mode, self.metric = _metric(said)
        self.direction = prints.direction(self.metric)
        self.open = self._to_fill_in()

    def of(self, *places: Place) -> list[Guess]:
        return [one for one in self.guesses if one.place in places]

    def document(self) -> dict[str, Any]:
        return {
            "metric": self.metric or None,
            "direction": self.direction or None,
            "search": [one.parameter for one in self.of(Place.SEARCH)],
            "constant": [one.parameter for one in self.of(Place.FIXED)],
            "left": {one.parameter: one.why for one in self.of(Place.LEFT)},
            "open": self.open,
        }

    def _to_fill_in(self) -> list[str]:
        found = [f"{{{_capitals(one)}}} in the command" for one in self._positionals]
        found += [name for name in ("metric", "direction") if not getattr(self, name)]
        found += [f"space.{one.parameter}" for one in self.of(Place.OPEN)]
        return found if self.of(Place.SEARCH) else [*found, "something to search in space"]

    # ---- text

    def text(self) -> str:
        lines = [*self._head(), "", *self._space(), "", *self._tail()]
        return "\n".join(lines) + "\n"

    def _head(self) -> list[str]:
        script, file = (_printable(shlex.quote(str(path))) for path in (self._script, self._file))
        return [
            f"# A first guess by `sweep init {script}`, from the script's own options and defaults: change it.",
            f"#     sweep check {file}     # what it means: configurations, command lines. Starts nothing",
            f"#     sweep run {file}",
            f"name: {_scalar(_name(self._script))}",
            *self._command(),
            *self._reporting(),
        ]

    def _command(self) -> list[str]:
        words = _program(self._script, self._said)
        words += [f"{{{_capitals(one)}}}" for one in self._positionals]
        words += [word for one in self._folders for word in _assigned(one, "{attempt_dir}")]
        remarks = [f"{{{_capitals(one)}}}: fill in, the script requires it" for one in self._positionals]
        if self._folders:
            remarks.append("{attempt_dir}: each trial's own folder, or they would write over one another")
        if self._spelt:
            for one in self.of(Place.SEARCH, Place.FIXED, Place.OPEN):
                toggle = one.option.kind == "BooleanOptionalAction"
                words += [f"{{{one.parameter}}}"] if toggle else [one.option.word, f"{{{one.parameter}}}"]
        elif any(one.option.kind in FLAGS for one in self.of(Place.SEARCH)):
            words.append("{flags}")
            remarks.append("{flags}: what is in `space`, as --name=value; true as --name, false not at all")
        else:
            words.append("{args}")
            remarks.append("{args}: everything in `space`, as --name=value")
        command = " ".join(words)
        return [*(f"# {remark}" for remark in remarks), f"command: {_scalar(command, spaces=True)}"]

    def _reporting(self) -> list[str]:
        lines = [
            f"metric: {_scalar(self.metric)}" if self.metric else "metric:    # fill in: what the script reports",
            f"direction: {self.direction}" if self.direction else "direction:    # fill in: maximize or minimize",
        ]
        if self.mode == "mlflow":
            lines.append("report: mlflow    # what the script logs to MLflow by itself is read from there")
        elif self.mode == "pattern" and self._said.printed:
            quoted = self._said.printed.pattern.replace("'", "''")
            lines += ["# read in what it prints: a named group is a metric", f"report: {{pattern: '{quoted}'}}"]
        elif not self.mode:
            lines += _WAYS_TO_REPORT
        return lines

    def _space(self) -> list[str]:
        active = [*_aligned(self._rows(Place.SEARCH)), *_aligned(self._rows(Place.FIXED, Place.OPEN))]
        nothing = "space: {}    # fill in: nothing in the script looks like a hyperparameter"
        lines = [*_ABOUT_SPACE, "space:" if active else nothing, *active]
        if left := [(f"  # {line.strip()}", remark) for line, remark in self._rows(Place.LEFT)]:
            lines.append("  # at what the script says; without the `#` and with a range or a list, it is searched")
            lines += _aligned(left)
        if self._said.hidden:
            lines.append(f"  # and {self._said.hidden} more, whose names only running the script would tell")
        return lines

    def _rows(self, *places: Place) -> list[tuple[str, str]]:
        """(line, remark) of each parameter."""
        return [
            (f"  {_scalar(one.parameter)}: {_value(one.value)}".rstrip(), _remark(one)) for one in self.of(*places)
        ]

    def _tail(self) -> list[str]:
        trials = min(100, max(20, 10 * len(self.of(Place.SEARCH))))
        return [
            f"trials: {trials}    # ten for each parameter that is searched are a fair start",
            "# the next ends a trial that is worse than half of the earlier ones at the same step",
            "# pruner: {name: median, n_startup_trials: 5, n_warmup_steps: 2}",
        ]


_WAYS_TO_REPORT = [
    "# A trial says it by `sweep.current_trial().report(epoch, val_acc=...)`; or it prints it, and this reads it:",
    r"# report: {pattern: 'epoch (?P<step>\d+).*val_acc (?P<val_acc>\S+)'}",
]
_ABOUT_SPACE = [
    "# Ranges lie around the script's defaults, with `log: true` where factors matter more than differences. A",
    "# list is one of these, a plain value the same in every trial. What matters only with a certain value of",
    "# another one gets `when`, such as {type: float, low: 0.0, high: 0.99, when: {optimizer: sgd}}.",
]


def _metric(said: Script) -> tuple[str, str]:
    """How the script reports (api, mlflow, pattern; empty if nothing is seen), and the likeliest objective."""
    for mode, names in (("api", said.reports), ("mlflow", said.logged)):
        if names is not None:
            return mode, min((name for name in names if name != "step"), key=prints.rank, default="")
    return ("pattern", said.printed.names[0]) if said.printed else ("", "")


def _spelt_out(one: Guess) -> Guess:
    """The same where the command names each option: there a flag cannot come and go, but one of two words can."""
    option = one.option
    if one.place is not Place.SEARCH or option.kind not in FLAGS:
        return one
    if option.kind == "BooleanOptionalAction":
        return Guess(option, Place.SEARCH, [option.word, f"--no-{option.name}"], "one of the two words")
    why = "a flag: put it into the command, or make it an option with a value"
    return Guess(option, Place.LEFT, None, why)


def _program(script: Path, said: Script) -> list[str]:
    path = os.path.relpath(script) if script.absolute().is_relative_to(Path.cwd()) else str(script)
    parts = Path(path).with_suffix("").parts
    if said.relative and all(part.isidentifier() for part in parts):  # it imports from its own package
        return ["python", "-m", ".".join(parts)]
    return ["python", _argument(path)]


def _argument(path: str) -> str:
    return shlex.quote(path.replace("{", "{{").replace("}", "}}"))


def _assigned(option: Option, value: str) -> list[str]:
    return [f"{option.word}={value}"] if option.word.startswith("--") else [option.word, value]


def _capitals(option: Option) -> str:
    return re.sub(r"\W", "_", option.name.upper())


def _name(script: Path) -> str:
    place = script.absolute()
    return safe(place.parent.name if place.stem in _COMMON else place.stem)


def _aligned(rows: Sequence[tuple[str, str]]) -> Iterable[str]:
    """Lines with their remarks in one column, as far as they fit."""
    column = min(72, max((len(line) for line, _ in rows), default=0))
    for line, remark in rows:
        said = textwrap.shorten(
            _printable(remark), max(12, WIDTH - max(column, len(line)) - 5), placeholder=" ..."
        )
        yield f"{line:<{column}}   # {said}" if said else line


def _remark(one: Guess) -> str:
    said = one.option.help.replace("%(default)s", "").replace("%%", "%")
    return "; ".join(part for part in (one.why, said) if part)


def _printable(text: str) -> str:
    """What may stand in a comment: one line, no control characters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _value(value: Any) -> str:
    """A value of YAML on one line; nothing where the script's is not known."""
    if value is None or value is UNKNOWN:
        return ""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    return str(value) if isinstance(value, int) else _scalar(str(value))


def _scalar(text: str, *, spaces: bool = False) -> str:
    """Text as YAML, in quotes unless it is plainly text. JSON's quoting is YAML's too."""
    plain = re.fullmatch(r"[A-Za-z][\w./={}, -]*", text) if spaces else _PLAIN.fullmatch(text)
    return text if plain and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=not text.isprintable())
