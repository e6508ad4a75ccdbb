"""The command line of a trial: a template, split once into words, then filled in. No shell sees it.

    python train.py --lr {lr:.3g} --momentum {momentum} --name run-{trial}

- `{name}` is a parameter, or one of EXTRAS; `{name:spec}` formats it as Python's format() does; `{{` and `}}` are
  braces. A filled word stays one argument, whatever spaces or quotes the value holds.
- A value is written as Python's str() writes it: 0.001, 16, sgd, True, False, None. (fire and tyro read only these
  spellings, and whoever else parses booleans reads them too; for another make the choices text: ["yes", "no"].)
- A word with an inactive parameter in it is left out. Where the word is nothing but the placeholder, an option
  word directly before it (`--momentum`) goes with it.
- `{args}`, a word of its own, becomes `--name=value` for every active parameter, in the order of the space;
  `{flags}` the same, but a parameter that is true becomes `--name`, and one that is false is left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.config.words import listed, show, suggest
from sweep.errors import ConfigError

if TYPE_CHECKING:
    from sweep.config.model import Parameter

EXTRAS = ("trial", "attempt", "attempt_dir", "sweep", "params_file")
EXPANSIONS = ("args", "flags")
RESERVED = frozenset((*EXTRAS, *EXPANSIONS))
NAME = re.compile(r"[^\W\d][\w.-]*")

_TOKEN = re.compile(r"(\{\{|\}\})|\{([^{}:]*)(?::([^{}]*))?\}|([^{}]+)|([{}])")
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
_PYTHON = re.compile(r"(?:.*/)?python(?:\d+(?:\.\d+)?)?")
_PYTHON_TAKES_A_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_SHELL = frozenset(("&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>"))


class Slot(NamedTuple):
    """A placeholder."""

    name: str
    spec: str = ""


def split(template: str) -> list[str]:
    """The words of a template, as a shell would quote them. Raises ConfigError."""
    lexer = shlex.shlex(template, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        quote = lexer.state  # type: ignore[attr-defined]
        if quote == "\\":
            raise ConfigError("ends in a lone backslash", hint="write `\\\\` for a backslash") from None
        raise ConfigError(
            f"a quote is never closed: the {quote} in {show(lexer.token)}",
            hint="close it, or write a backslash before it",
        ) from None
    if not words:
        raise ConfigError("holds no words", hint="such as `command: python train.py --lr {lr}`")
    return words


def pieces(word: str) -> list[str | Slot]:
    """Literal text and placeholders of one word. Raises ConfigError for braces that are neither."""
    found: list[str | Slot] = []
    for braces, name, spec, text, lone in _TOKEN.findall(word):
        if lone or (not braces and not text and not NAME.fullmatch(name)):
            raise ConfigError(
                f"{show(lone or name or '{}')} in {show(word)} is no placeholder",
                hint="write `{name}` for a parameter, `{{` and `}}` for braces",
            )
        if braces or text:
            found.append(text or braces[0])
        else:
            found.append(Slot(name, spec))
    return found


def slots(word: str) -> list[Slot]:
    return [piece for piece in pieces(word) if isinstance(piece, Slot)]


def placeholders(argv: Sequence[str]) -> set[str]:
    """The names in braces. Raises ConfigError for a template that `check` would refuse."""
    return {slot.name for word in argv for slot in slots(word)}


def check(argv: Sequence[str], space: Mapping[str, Parameter]) -> tuple[list[str], list[str]]:
    """What is wrong, and what is odd, with a template for this space: (errors, warnings)."""
    errors: list[str] = []
    warnings: list[str] = []
    used: set[str] = set()
    for word in argv:
        try:
            here = slots(word)
        except ConfigError as error:
            errors.append(f"{error.problem}; {error.hint}")
            continue
        used.update(slot.name for slot in here)
        errors += [problem for slot in here if (problem := _misused(slot, word, space))]
        if len({str(space[slot.name].when) for slot in here if slot.name in space}) > 1:
            warnings.append(f"{show(word)} is left out whenever one of its parameters is inactive")
        if word in _SHELL:
            warnings.append(f"`{word}` is handed to the program as it is: no shell runs the command")
    unused = [name for name in space if name not in used]
    if unused and not used & {*EXPANSIONS, "params_file"} and not errors:
        warnings.append(
            f"{listed(unused)} {'is' if len(unused) == 1 else 'are'} not in the command; "
            "fine if the script reads `sweep.current_trial().params`"
        )
    return errors, warnings


def _misused(slot: Slot, word: str, space: Mapping[str, Parameter]) -> str | None:
    if slot.name in EXPANSIONS:
        return None if word == f"{{{slot.name}}}" else f"`{{{slot.name}}}` has to be a word of its own"
    if slot.name not in space:
        if slot.name in EXTRAS:
            return _misformatted(slot, [1] if slot.name in ("trial", "attempt") else ["text"])
        return f"`{{{slot.name}}}` is no parameter: {suggest(slot.name, (*space, *EXTRAS, *EXPANSIONS))}"
    return _misformatted(slot, _samples(space[slot.name]))


def _samples(parameter: Parameter) -> list[Any]:
    if parameter.type == "categorical":
        return list(parameter.choices)
    return [parameter.value] if parameter.type == "constant" else [parameter.low, parameter.high]


def _misformatted(slot: Slot, samples: Sequence[Any]) -> str | None:
    if re.search(r"\d{4}", slot.spec):
        return f"`{{{slot.name}:{slot.spec}}}` asks for a width beyond 999"
    for sample in samples:
        try:
            _text(sample, slot.spec)
        except (ValueError, TypeError, OverflowError) as error:
            return f"`{{{slot.name}:{slot.spec}}}` cannot format {show(sample)}: {error}"
    return None


def render(argv: Sequence[str], params: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    """The final words of one trial.

    params: the active parameters, constants among them, in the order of the space. extra: the values of EXTRAS.
    The template has passed `check`.
    """
    values = {**params, **extra}
    words: list[str] = []
    for template in possible(argv, {*values, *EXPANSIONS}):
        if template == "{args}":
            words += [f"--{name}={_text(value)}" for name, value in params.items()]
        elif template == "{flags}":
            words += [f"--{name}" if value is True else f"--{name}={_text(value)}"
                      for name, value in params.items() if value is not False]  # fmt: skip
        else:
            words.append("".join(part if isinstance(part, str) else _text(values[part.name], part.spec)
                                 for part in pieces(template)))  # fmt: skip
    return words


def possible(argv: Sequence[str], names: Collection[str]) -> list[str]:
    """The template without the words that need anything but these names."""
    words: list[str] = []
    for index, word in enumerate(argv):
        parts = pieces(word)
        if all(isinstance(part, str) or part.name in names for part in parts):
            words.append(word)
        elif len(parts) == 1 and index and _OPTION.fullmatch(argv[index - 1]):
            words.pop()
    return words


def _text(value: Any, spec: str = "") -> str:
    return format(value, spec) if spec else str(value)


def script_of(argv: Sequence[str]) -> str | None:
    """The file that the command runs, where that can be told: `python FILE`, or a program by its path."""
    kind, target = python_runs(argv)
    if kind == "script":
        return target
    by_path = "/" in argv[0] and "{" not in argv[0] and not _PYTHON.fullmatch(argv[0])
    return argv[0] if by_path else None


def python_runs(argv: Sequence[str]) -> tuple[str, str]:
    """("script", file) or ("module", name) that a `python` command names, else ("", "")."""
    if not _PYTHON.fullmatch(argv[0]):
        return "", ""
    words = iter(argv[1:])
    for word in words:
        if word in _PYTHON_TAKES_A_VALUE:
            next(words, None)
        elif word == "-m":
            module = next(words, "{")
            return ("", "") if "{" in module else ("module", module)
        elif not word.startswith("-"):
            return ("", "") if "{" in word else ("script", word)
        elif word.startswith(("-c", "-m")) or word == "-":
            break
    return "", ""
