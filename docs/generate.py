"""Writes reference/space.md and reference/commands.md: python docs/generate.py

Types and defaults are those of the pydantic models that validate a file, helps those of click; what a key means is
in meanings.yaml. A test holds the pages up to date (tests/e2e/test_readme.py).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from sweep.cli.commands import cli
from sweep.config.disk import Size
from sweep.config.model import SweepConfig
from sweep.config.parameters import TYPES, Model, Number, When, Whole
from sweep.config.scalars import Command, Pause, Seconds

DOCS = Path(__file__).parent
_SAID = "<!-- Written by `python docs/generate.py`; what is changed here is lost. -->"
_WORDS = (
    (Command, "words, or a list of them"),
    (Seconds, "duration"),
    (Pause, "duration, or 0"),
    (Size, "size"),
    (Number, "number"),
    (Whole, "whole number"),
    (When, "conditions"),
)
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "value"}
_BOUNDS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
_ANCHORS = {"on_fail": "on_finish"}  # whose keys stand under another one
_COLUMNS = "| key | type | default | means |\n| --- | --- | --- | --- |"


def meanings() -> dict[str, Any]:
    said: dict[str, Any] = YAML(typ="safe").load(DOCS / "meanings.yaml")
    return said


def pages() -> dict[Path, str]:
    """Every generated page. Raises SystemExit for a key without a meaning, or a meaning without a key."""
    return {DOCS / "reference/space.md": _space(), DOCS / "reference/commands.md": _commands()}


def _space() -> str:
    said = meanings()
    keys, groups = said["keys"], said["groups"]
    parts = {top: part for top, hint in _hints(SweepConfig).items() if (part := _part(hint)) and top != "on_fail"}
    named = {*SweepConfig.model_fields, *(f"{top}.{key}" for top, part in parts.items() for key in _hints(part))}
    if wrong := named ^ keys.keys() | SweepConfig.model_fields.keys() ^ {k for g in groups.values() for k in g}:
        raise SystemExit(f"docs/meanings.yaml and the models differ in: {', '.join(sorted(wrong))}")
    page = ["# The keys of a space.yaml", _SAID, _INTRODUCTION]
    for title, tops in groups.items():
        page += [f"## {title}", _table(SweepConfig, tops, keys, "")]
        for top in tops:
            if top in parts:
                page += [
                    f"### {top}",
                    _short(keys[top]),
                    _table(parts[top], list(_hints(parts[top])), keys, f"{top}."),
                ]
        if "space" in tops:
            page += list(_parameters(said["parameters"]))
    return "\n\n".join(part for part in page if part) + "\n"


_INTRODUCTION = """\
A first file is written in the [tutorial](../tutorial.md). A key that is not here is an error, which names the one
that you probably meant. On the command line any key is `--set key=value`, a part of one `--set stall.after=20m`.

A duration is in seconds, or `90s`, `15m`, `2h`, `1d`. A size is in bytes, or `50MB`, `200GB`, `1TiB`."""


def _short(key: Mapping[str, Any]) -> str:
    forms = ", ".join(f"`{form}`" for form in key.get("short", ()))
    return f"Also: {forms}." if forms else ""


def _parameters(said: Mapping[str, Any]) -> Iterator[str]:
    yield "### Parameters"
    for kind, model in TYPES.items():
        rows = []
        for name, hint in _hints(model).items():
            if name != "type":
                rows.append(f"`{name}` ({_words(hint)}{_else(model.model_fields[name])})")
        one = said[kind]
        yield f"`type: {kind}`: {one['means']} Keys: {', '.join(rows)}. Such as `{one['example']}`."


def _else(field: FieldInfo) -> str:
    default = _default(field, "")
    return "" if default in ("required", "") else f", {default} by default"


def _table(model: type[Model], names: list[str], keys: Mapping[str, Any], prefix: str) -> str:
    hints, fields = _hints(model), {field.alias or name: field for name, field in model.model_fields.items()}
    rows = [_COLUMNS]
    for name in names:
        means = " ".join(keys[prefix + name]["means"].split())
        if _part(hints[name]):
            words = f"[keys](#{_ANCHORS.get(name, name)})"
        else:
            words, means = _words(hints[name]), f"{means} {_short(keys[prefix + name])}".rstrip()
        default = "the file's name" if (prefix, name) == ("", "name") else _default(fields[name], words)
        cells = (f"`{name}`", words, default, means)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _hints(model: type[Model]) -> dict[str, Any]:
    hints = typing.get_type_hints(model, include_extras=True)
    return {field.alias or name: hints[name] for name, field in model.model_fields.items()}


def _part(hint: Any) -> type[Model] | None:
    """The model behind `Stall`, `Budget | None`, `list[Failure]`; None for `space`, whose kinds are told apart."""
    if isinstance(hint, type) and issubclass(hint, Model):
        return hint
    if typing.get_origin(hint) is dict:
        return None
    return next((part for one in typing.get_args(hint) if (part := _part(one))), None)


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for known, words in _WORDS:
            common = len(known.__metadata__)
            if hint.__origin__ == known.__origin__ and hint.__metadata__[:common] == known.__metadata__:
                return words + _bounds(hint.__metadata__[common:], words)
        return _words(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in arguments if one is not type(None))
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return "names with values"
    return _PLAIN[hint]


def _bounds(extras: tuple[Any, ...], words: str = "") -> str:
    found = []
    for extra in extras:
        for rule in extra.metadata if isinstance(extra, FieldInfo) else (extra,):
            if name_and_sign := _BOUNDS.get(type(rule)):
                bound = getattr(rule, name_and_sign[0])
                found.append(f"{name_and_sign[1]} {f'{bound // 10**6}MB' if words == 'size' else bound}")
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo, words: str) -> str:
    if field.is_required():
        return "required"
    value = (
        field.default if field.default is not PydanticUndefined else field.get_default(call_default_factory=True)
    )
    if value is None or value == [] or value == {} or isinstance(value, Model):
        return ""
    if words.startswith("size"):
        return f"`{value // 10**6}MB`"
    if words.startswith("duration"):
        return f"`{value:g}s`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


_WIDTH = {"max_content_width": 100, "terminal_width": 100}


def _commands() -> str:
    root = click.Context(cli, info_name="sweep", **_WIDTH, **cli.context_settings)
    page = ["# Commands", _SAID, _COMMANDS, _help(root)]
    for words, context in _every(root):
        page += [f"## {words}", _help(context)]
    return "\n\n".join(page) + "\n"


_COMMANDS = """\
SWEEP is an id (`digits-2`), a name (then its newest sweep), or left out for the newest of the folder.

With `--json` stdout holds one JSON document, whose keys may become more and are never renamed; all else is on
stderr.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | no trial completed, or the sweep failed; for `doctor`, something stands in the way |
| 2 | a mistake in what you typed or wrote |
| 3 | no such sweep, or no such trial |
| 130 | interrupted |

`sweep exec` ends with the exit code of its command."""


def _every(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context, **_WIDTH)
        yield below.command_path, below
        if isinstance(command, click.Group):
            yield from _every(below)


def _help(context: click.Context) -> str:
    return f"```text\n{context.get_help().rstrip()}\n```"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
