"""What a training script says of itself, read with `ast` and never run: argparse options, and what it reports.

Rules
1.  An option is a call of anything's `add_argument`, or of a name that was given one
    (`add = parser.add_argument`). Which parser or group it belongs to does not matter, except for groups whose
    options exclude one another.
2.  A value counts where it stands in the file: a literal, arithmetic on literals, or a name that the module's top
    gives such a value once. Everything else is UNKNOWN, and is never guessed.
3.  Metrics are the names given to `trial.report(...)`; else to MLflow's `log_metric`; else words before a value in
    what is printed, if they are words for a metric.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.config.prints import Printed, best_print
from sweep.errors import UsageError

LARGEST = 1 << 20  # bytes of a script
MOST = 1000  # items of a range of choices
OTHER_LIBRARIES = (
    *("click", "typer", "fire", "tyro", "hydra", "absl", "jsonargparse", "simple_parsing", "docopt", "tap"),
    *("configargparse", "transformers", "gflags"),
)


class _Unknown:
    def __repr__(self) -> str:
        return "something that only running it would tell"


UNKNOWN = _Unknown()
FLAGS = ("store_true", "store_false", "BooleanOptionalAction")
_TRUTH = re.compile(r"bool|yes|true", re.IGNORECASE)


@dataclass(frozen=True)
class Option:
    """One `add_argument`. words: as in the source, `--lr`; a positional has its name alone.

    kind: float, int, text, truth (text such as yes and no), or one of argparse's three actions for flags. odd: why
    it takes no single value, in words.
    """

    words: tuple[str, ...]
    kind: str
    default: Any = None
    choices: list[Any] | None = None
    required: bool = False
    help: str = ""
    odd: str = ""

    @property
    def positional(self) -> bool:
        return not self.words[0].startswith("-")

    @property
    def word(self) -> str:
        """The first long one."""
        return next((word for word in self.words if word.startswith("--")), self.words[0])

    @property
    def name(self) -> str:
        return self.word.lstrip("-")


@dataclass
class Script:
    """reports: names of metrics by `trial.report`; None where it never calls that. logged: by MLflow's."""

    options: list[Option] = field(default_factory=list)
    hidden: int = 0  # options whose name is not in plain sight
    subcommands: bool = False
    library: str = ""  # another one that options come from
    relative: bool = False  # it imports from its own package, so it has to be run as a module
    reports: list[str] | None = None
    logged: list[str] | None = None
    printed: Printed | None = None


def read_script(path: Path) -> Script:
    """Raises UsageError for a file that is not there or not Python."""
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
        if len(source) > LARGEST:
            raise UsageError(f"{path} is larger than {LARGEST >> 20} MiB", hint="is it the script that you meant?")
        tree = ast.parse(source)
        return _Reader(tree).script
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deep"
        hint = "`sweep init` reads Python scripts; for another program write the space.yaml by hand"
        raise UsageError(f"{path}{line} is not Python: {said}", hint=hint) from None


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.script = Script()
        self._values = _top_level(tree)
        self._imports: set[str] = set()
        self._aliases: dict[str, str] = {}  # add -> add_argument
        self._exclusive: set[str] = set()  # names of groups whose options exclude one another
        self._defaults: dict[str, ast.expr] = {}  # of set_defaults()
        nodes = list(ast.walk(tree))
        for node in nodes:
            self._note_names(node)
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            self._look_at(call)
        self.script.printed = best_print(calls)

    # ---- names

    def _note_names(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr=attr)):
                self._aliases[name] = attr
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)):
                if self._called(func) == "add_mutually_exclusive_group":
                    self._exclusive.add(name)
            case ast.Import(names=names):
                for one in names:
                    self._imported(one.name)
            case ast.ImportFrom(module=module, level=level):
                self.script.relative |= level > 0
                if level == 0:
                    self._imported(module or "")
            case ast.Call(func=func) if self._called(func) == "set_defaults":
                self._defaults.update({one.arg: one.value for one in node.keywords if one.arg})

    def _imported(self, module: str) -> None:
        top = module.partition(".")[0]
        self._imports.add(top)
        if top in OTHER_LIBRARIES:
            self.script.library = self.script.library or top

    def _called(self, func: ast.expr) -> str:
        if isinstance(func, ast.Attribute):
            return func.attr
        return self._aliases.get(func.id, func.id) if isinstance(func, ast.Name) else ""

    # ---- calls

    def _look_at(self, call: ast.Call) -> None:
        match self._called(call.func):
            case "add_argument":
                self._add_option(call)
            case "add_subparsers":
                self.script.subcommands = True
            case "report" if "sweep" in self._imports:
                self.script.reports = self._names(call, self.script.reports)
            case "log_metric" | "log_metrics" if "mlflow" in self._imports:
                self.script.logged = self._names(call, self.script.logged)

    def _names(self, call: ast.Call, before: list[str] | None) -> list[str]:
        """The metrics that a call names: by keyword, as keys of a mapping, as a first text."""
        names = [one.arg for one in call.keywords if one.arg] if self._called(call.func) == "report" else []
        for node in call.args:
            if isinstance(node, ast.Dict):
                names += [
                    key.value for key in node.keys if isinstance(key, ast.Constant) and type(key.value) is str
                ]
        match call.args:
            case [ast.Constant(value=str(name)), *_]:
                names.append(name)
        return list(dict.fromkeys([*(before or ()), *names]))

    def _add_option(self, call: ast.Call) -> None:
        words = [self._value(node) for node in call.args]
        if not words or not all(isinstance(word, str) and word.strip("-") for word in words):
            self.script.hidden += 1
            return
        given = {one.arg: one.value for one in call.keywords if one.arg}
        if any(one.arg is None for one in call.keywords):
            option = Option(tuple(words), "text", UNKNOWN, odd="some of its settings are not in plain sight")
        else:
            option = self._option(tuple(words), given)
        match call.func:
            case ast.Attribute(value=ast.Name(id=group)) if group in self._exclusive:
                option = Option(option.words, option.kind, option.default, odd="it excludes others of its group")
        if option.name not in {one.name for one in self.script.options} and not _is_help(call, given):
            self.script.options.append(option)

    def _option(self, words: tuple[str, ...], given: dict[str, ast.expr]) -> Option:
        action = _last_name(given["action"]) if "action" in given else "store"
        kind, odd = (action, "") if action in FLAGS else _kind(given.get("type"))
        nargs = self._value(given["nargs"]) if "nargs" in given else None
        if action not in (*FLAGS, "store"):
            odd = f"its action is {action or 'not in plain sight'}"
        elif nargs not in (None, "?"):
            odd = "it takes several values"
        plain = Option(words, kind)
        attribute = self._value(given["dest"]) if "dest" in given else plain.name.replace("-", "_")
        node = self._defaults.get(str(attribute), given.get("default"))
        default = self._value(node) if node is not None else None
        if kind == "text" and "type" not in given and isinstance(default, (int, float)):
            odd = odd or "it has no `type=`, so what the command line says would stay text"
        choices = self._several(given["choices"]) if "choices" in given else None
        if "choices" in given and choices is None:
            odd = odd or "its choices are not in plain sight"
        said = self._value(given["help"]) if "help" in given else ""
        required = self._value(given["required"]) is True if "required" in given else False
        required = required or (plain.positional and nargs in (None, "+"))
        return Option(words, kind, default, choices, required, said if isinstance(said, str) else "", odd)

    # ---- values

    def _value(self, node: ast.expr) -> Any:
        """A literal, or what is known to be one; UNKNOWN otherwise."""
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
                return value
            case ast.Name(id=name) if name in self._values:
                return self._held(name, self._value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self._value(operand)
                return -value if isinstance(value, (int, float)) else UNKNOWN
            case ast.BinOp(left=left, op=operator, right=right):
                return _computed(self._value(left), operator, self._value(right))
        return UNKNOWN

    def _several(self, node: ast.expr) -> Any:
        """The items of a list, the keys of a mapping, a range; None where one is UNKNOWN."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                found = [self._value(item) for item in items]
            case ast.Dict(keys=keys):
                found = [self._value(key) if key is not None else UNKNOWN for key in keys]
            case ast.Name(id=name) if name in self._values:
                return self._held(name, self._several)
            case ast.Call(func=ast.Attribute(value=inner, attr="keys"), args=[]):
                return self._several(inner)
            case ast.Call(func=ast.Name(id="list" | "tuple" | "set" | "sorted"), args=[inner], keywords=[]):
                return self._several(inner)
            case ast.Call(func=ast.Name(id="range"), args=ends):
                bounds = [self._value(end) for end in ends]
                if not 1 <= len(bounds) <= 3 or not all(type(one) is int for one in bounds) or bounds[2:] == [0]:
                    return None
                found = list(range(*bounds)[: MOST + 1])
            case _:
                return None
        usable = 0 < len(found) <= MOST and not any(one is UNKNOWN or one is None for one in found)
        return list(dict.fromkeys(found)) if usable else None

    def _held(self, name: str, look: Callable[[ast.expr], Any]) -> Any:
        """What a name of the top level holds; one that leads back to itself holds nothing."""
        node = self._values.pop(name)
        try:
            return look(node)
        finally:
            self._values[name] = node


def _top_level(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names hold that the module's top assigns, and nothing assigns again."""
    stores = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if stores.count(name) == 1:
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if stores.count(name) == 1:
                found[name] = value
    return found


def _computed(left: Any, operator: ast.operator, right: Any) -> Any:
    numbers = all(isinstance(one, (int, float)) and abs(one) < 1e18 for one in (left, right))
    if not numbers:
        return UNKNOWN
    try:
        match operator:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.Pow() if abs(right) <= 64:
                power = left**right
                return power if isinstance(power, (int, float)) else UNKNOWN
    except ArithmeticError:
        pass
    return UNKNOWN


def _kind(node: ast.expr | None) -> tuple[str, str]:
    """What `type=` makes of a word, and what is odd about that."""
    if node is None:
        return "text", ""
    name = _last_name(node)
    if name == "str":
        return "text", ""
    if name.startswith(("float", "int")):
        return ("float" if name.startswith("float") else "int"), ""
    if name == "bool":
        return "text", "`type=bool` takes every text for true, `False` as well"
    if _TRUTH.search(name):
        return "truth", ""
    return "text", f"its type is {name or 'not in plain sight'}"


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Constant(value=str(name)):
            return name
    return ""


def _is_help(call: ast.Call, given: dict[str, ast.expr]) -> bool:
    return "action" in given and _last_name(given["action"]) in ("help", "version")
