"""A YAML (or JSON) file as plain data that knows where each key stood.

ruamel.yaml scans and resolves by YAML 1.2 (`1e-4` is a number, `on` a word); the values are built here, from its
nodes, so that each keeps its line and so that a hostile file costs no more than a wrong one:

- Only null, booleans, numbers, text, lists and mappings come out. Any other tag is refused, a date stays text.
- Keys are text. A key twice in one mapping is a mistake, and not the later one's win.
- An alias is built anew at every use, under a budget of values and a limit of depth, so that neither aliases of
  aliases nor an alias within itself can blow up.
- Text holds no NUL and no half of a surrogate pair: neither an argument nor JSON could carry it.

Mistakes that leave something to go on with are gathered; only an unreadable file raises at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sweep.config.document import Document, Place
from sweep.config.words import KeyPath, Problem, nearest, show
from sweep.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_VALUES = 50_000
MAX_NUMBER = 2**63

_TAG = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "value")


def read(path: Path) -> Document:
    """The file as a document whose top is a mapping. Raises ConfigError for one that cannot be read as that."""
    file = str(path)
    document = Document(file, {})
    node = _compose(_text(path), file)
    if node is None or (isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"):
        raise ConfigError("is empty", where=file, hint="`sweep init train.py` writes a first one")
    builder = _Builder(file, document.places, document.problems)
    data = builder.build(node, (), 0)
    if not isinstance(data, dict):
        if document.problems:
            raise document.error(document.problems)
        raise ConfigError(
            f"holds {show(data)} at the top; wanted are keys with values",
            where=f"{file}:{node.start_mark.line + 1}",
            hint="such as `metric: val_acc`, one a line",
        )
    document.data = data
    return document


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words of a command line, the value read as YAML where it looks like a YAML value.

    A value is a list, a mapping or quoted where it starts so, else a number, true, false or null where it reads
    as one, else the text as it stands. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip(". "):
            raise ConfigError(f"{show(word)} is not of the form key=value", hint="such as trials=5 or lr=0.01")
        values[key] = _assigned(key, text)
    return values


def _assigned(key: str, text: str) -> Any:
    problems: list[Problem] = []
    if text.lstrip()[:1] in tuple("[{\"'"):
        node = _compose(text, key)
    else:
        try:
            node = _compose(text, key)
        except ConfigError:
            return text
        if not isinstance(node, ScalarNode) or node.value != text.strip():
            return text or None
    assert node is not None
    value = _Builder(key, {}, problems).build(node, (), 0)
    if problems:
        raise ConfigError(problems[0].message, where=key, hint=problems[0].hint)
    return value


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=str(path), hint=_neighbours(path)) from None
    except IsADirectoryError:
        raise ConfigError(
            "is a folder, not a file", where=str(path), hint=f"such as {path / 'space.yaml'}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot be read: {reason}", where=str(path)) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"is larger than {MAX_BYTES // 1024} KiB", where=str(path), hint="is it the file that you meant?"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"is not UTF-8 text (byte 0x{raw[error.start]:02x})", where=f"{path}:{line}", hint="save it as UTF-8"
        ) from None


def _neighbours(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml", ".json")]
    except (OSError, ValueError):
        names = []
    guess = nearest(path.name, names)
    return f"did you mean {path.with_name(guess)}?" if guess else "`sweep init train.py` writes a first one"


_HINTS = {
    "\\t": "YAML indents with spaces, not with tabs",
    "unknown escape": "in double quotes a backslash starts an escape: use single quotes",
    "mapping values are not allowed": "put a text that holds `: ` in quotes",
    "cannot start any token": "put a text that starts with this character in quotes",
    "undefined alias": "put a text that starts with `*` in quotes",
}


def _compose(text: str, file: str) -> Node | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is used again is none of our business
            node: Node | None = YAML(typ="safe", pure=True).compose(text)
            return node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        said = " ".join(part for part in (error.context, error.problem) if part)
        hint = next((hint for key, hint in _HINTS.items() if key in repr(said)), None)
        raise ConfigError(f"is not YAML here: {said}", where=where, hint=hint) from None
    except RecursionError:
        raise ConfigError(f"is nested deeper than {MAX_DEPTH} levels", where=file) from None
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # beside its own errors the scanner lets these through for odd bytes, escapes and directives
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"is not YAML: {said}", where=file) from None


class _Builder:
    """Nodes to values. Whatever it cannot build becomes None and a problem."""

    def __init__(self, file: str, places: dict[KeyPath, Place], problems: list[Problem]) -> None:
        self.file = file
        self.places = places
        self.problems = problems
        self.left = MAX_VALUES
        self.scalars = YAML(typ="safe", pure=True).constructor

    def build(self, node: Node, path: KeyPath, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConfigError(f"holds more than {MAX_VALUES} values, its aliases filled in", where=self.file)
        if depth > MAX_DEPTH:
            return self._refuse(node, path, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._item(item, (*path, index), depth) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        return self._tagged(node, path)

    def _item(self, node: Node, path: KeyPath, depth: int) -> Any:
        self.places[path] = self._place(node)
        return self.build(node, path, depth + 1)

    def _mapping(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                for source in reversed(value.value if isinstance(value, SequenceNode) else [value]):
                    merged = self.build(source, path, depth + 1)
                    if isinstance(merged, dict):
                        result.update(merged)
                    else:
                        self._refuse(source, (*path, "<<"), "merges mappings only")
        own: set[str] = set()
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            name = self._key(key, path)
            if name is None:
                continue
            where = (*path, name)
            if name in own:
                self._refuse(key, where, f"stands here, and again in line {self._place(key).line}")
                continue
            own.add(name)
            self.places[where] = self._place(key)
            result[name] = self.build(value, where, depth + 1)
        return result

    def _key(self, node: Node, path: KeyPath) -> str | None:
        value = self._scalar(node, path) if isinstance(node, ScalarNode) else node
        if isinstance(value, str):
            return value
        said = "a list or a mapping" if isinstance(value, Node) else f"`{show(value)}`"
        hint = None if isinstance(value, Node) else f"put it in quotes: '{node.value}'"
        name = node.value if isinstance(node, ScalarNode) else "?"
        self._refuse(node, (*path, name), f"the key is {said}; keys are words", hint)
        return None

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        try:
            if kind in _TEXT:
                return self._characters(node, path)
            if kind == "null":
                return None
            if kind in ("bool", "int", "float"):
                value = getattr(self.scalars, f"construct_yaml_{kind}")(node)
                if kind == "int" and abs(value) >= MAX_NUMBER:
                    return self._refuse(node, path, "is a whole number of more than 64 bits")
                return float(value) if kind == "float" else value
        except (ValueError, LookupError, ArithmeticError):
            return self._refuse(node, path, f"{show(node.value)} is no {kind}")
        return self._tagged(node, path)

    def _characters(self, node: ScalarNode, path: KeyPath) -> str | None:
        try:  # JSON writes a character beyond the first plane as two escapes, which belong together
            text = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(node, path, "holds half of a surrogate pair, which is no character")
            return None
        if "\0" in text:
            self._refuse(node, path, "holds a NUL character")
        return text

    def _tagged(self, node: Node, path: KeyPath) -> None:
        tag = str(node.tag).replace(_TAG, "!!")
        self._refuse(node, path, f"has the tag `{tag}`, which is refused", "write a plain value")

    def _refuse(self, node: Node, path: KeyPath, message: str, hint: str | None = None) -> None:
        self.places.setdefault(path, self._place(node))
        self.problems.append(Problem(message, path, hint))

    def _place(self, node: Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)
