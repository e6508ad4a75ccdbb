"""A file as plain data that knows where each key stood and what it is called there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sweep.config.words import KeyPath, Problem, show
from sweep.errors import ConfigError

MOST = 50  # mistakes that one error tells


class Place(NamedTuple):
    source: str  # a file, or the option that set the value
    line: int = 0  # from 1; 0 for an option

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass
class Document:
    """`places` and `names` are by key path; `names` tells what a translated key is called in the file.

    incomplete: a translation left something out, so what is not in `data` may be in the file.
    """

    file: str
    data: dict[str, Any]
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    names: dict[KeyPath, KeyPath] = field(default_factory=dict)
    incomplete: bool = False

    def place(self, path: KeyPath) -> Place:
        """Where a key stands; for a missing one, where its mapping does."""
        for length in range(len(path), 0 if path else -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.file)

    def name(self, path: KeyPath) -> str:
        """A key path as people write it: `space.lr.low`, `enqueue[0].lr`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.names:
                path = self.names[path[:length]] + path[length:]
                break
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")

    def at(self, key: str) -> str:
        """The same for a key as people write it: `space.yaml:9`."""
        return str(self.place(tuple(key.split("."))))

    def set(self, key: str, value: Any) -> None:
        """Sets one dotted key, making the mappings on the way. Raises ConfigError where there is no such place."""
        option, rest = f"--set {key}", key.split(".")
        if not all(rest):
            raise ConfigError("is not a dotted key", where=option, hint="such as trials or space.lr.high")
        node: Any = self.data
        path: KeyPath = ()
        while True:
            step, rest = _step(node, rest)
            if isinstance(node, list) and not (isinstance(step, int) and step < len(node)):
                raise ConfigError(f"{self.name(path)} is {show(node)}, it has no `{step}`", where=option)
            path = (*path, step)
            if not rest:
                break
            if isinstance(node, dict) and node.get(step) is None:
                node[step] = {}
            node = node[step]
            if not isinstance(node, (dict, list)):
                raise ConfigError(
                    f"{self.name(path)} is {show(node)}, so there is no `{'.'.join(rest)}` in it",
                    where=option,
                    hint=f"set the whole of it: --set '{self.name(path)}={{...}}'",
                )
        node[step] = value
        for known in (self.places, self.names):
            for old in [old for old in known if old[: len(path)] == path]:
                del known[old]
        self.places[path] = Place(option)
        self.names[path] = path

    def error(self, problems: list[Problem]) -> ConfigError:
        """One error that tells all of them, in the order of the file."""
        ranked = sorted(problems, key=lambda problem: self.place(problem.path))
        if len(ranked) == 1:
            [only] = ranked
            return ConfigError(
                only.message, where=str(self.place(only.path)), key=self.name(only.path) or None, hint=only.hint
            )
        lines = [f"{len(ranked)} mistakes:"]
        for problem in ranked[:MOST]:
            lines.append(f"  {self.tell(problem)}")
            if problem.hint:
                lines.append(f"    {problem.hint}")
        if len(ranked) > MOST:
            lines.append(f"  and {len(ranked) - MOST} more")
        return ConfigError("\n".join(lines), where=self.file)

    def tell(self, problem: Problem) -> str:
        parts = (str(self.place(problem.path)), self.name(problem.path), problem.message)
        return ": ".join(part for part in parts if part)


def _step(node: Any, rest: list[str]) -> tuple[str | int, list[str]]:
    """The next key of a dotted path: the longest that is there, since a parameter's name may hold dots."""
    if isinstance(node, list):
        return (int(rest[0]) if rest[0].isdecimal() else rest[0]), rest[1:]
    for length in range(len(rest), 1, -1):
        if ".".join(rest[:length]) in node:
            return ".".join(rest[:length]), rest[length:]
    return rest[0], rest[1:]
