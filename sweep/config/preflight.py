"""What the file points at has to be there before anything starts: the script, the program, the function."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from sweep.config.command import python_runs
from sweep.config.document import Document
from sweep.config.load import load
from sweep.config.model import SweepConfig
from sweep.config.words import nearest, suggest
from sweep.errors import ConfigError


def preflight(config: SweepConfig, project_dir: Path) -> list[str]:
    """What is not there, in words, for this file and all that it starts when it has ended.

    Runs none of the user's code: modules are looked for, not imported.
    """
    problems = _one(config, project_dir)
    known: dict[Path, SweepConfig] = {}
    todo = _next(config, project_dir)
    while todo:
        file, _ = todo.pop()
        if file in known:
            continue
        try:
            known[file], _ = load(file)
        except ConfigError as error:
            problems.append(f"run: {error}")
            continue
        problems += [f"{file}: {problem}" for problem in _one(known[file], project_dir)]
        todo += _next(known[file], project_dir)
    for file in known:
        if _returns(file, known, project_dir):
            problems.append(f"run: {file} would start itself without end; say how often: `rounds: 3` beside `run`")
    return problems


def require(config: SweepConfig, document: Document, project_dir: Path) -> None:
    """Raises ConfigError where something is not there: each problem with the place of its key."""
    if problems := preflight(config, project_dir):
        raise ConfigError("\n".join(f"{document.at(one.partition(':')[0])}: {one}" for one in problems))


def _next(config: SweepConfig, project_dir: Path) -> list[tuple[Path, bool]]:
    """The files that follow, and whether the file says how often."""
    hooks = (*config.on_finish, *config.on_fail)
    return [(project_dir / hook.run, hook.rounds is not None) for hook in hooks if hook.run]


def _returns(file: Path, known: Mapping[Path, SweepConfig], project_dir: Path) -> bool:
    """Whether the file follows itself, on a way that nothing bounds."""
    seen: set[Path] = set()
    todo = [file]
    while todo:
        here = todo.pop()
        if here in known:
            ahead = {path for path, bounded in _next(known[here], project_dir) if not bounded}
            todo += ahead - seen
            seen |= ahead
    return file in seen


def _one(config: SweepConfig, project_dir: Path) -> list[str]:
    folder = project_dir / config.cwd
    if not folder.is_dir():
        return [f"cwd: there is no folder {folder}"]
    importlib.invalidate_caches()
    problems: list[str] = []
    if config.command:
        problems += _program("command", config.command, folder, config.env.get("PATH"))
    if config.objective:
        problems += _objective(config.objective, folder)
    for module in config.warm:
        if _locate(module, folder) is None:
            problems.append(f"warm: there is no module `{module}` for {sys.executable}")
    for key, hooks in (("on_finish", config.on_finish), ("on_fail", config.on_fail)):
        for hook in hooks:
            if hook.command:
                problems += _program(key, hook.command, project_dir, None)
            unset = [name for name in hook.variables() if name not in os.environ]
            problems += [f"{key}: there is no environment variable {name}" for name in unset]
    return problems


def shadows(config: SweepConfig, project_dir: Path) -> list[str]:
    """Warnings of a user's own `sweep.py` or `sweep/` that a trial would import instead of this library."""
    folder = project_dir / config.cwd
    if config.command is not None:
        kind, target = python_runs(config.command)
        if not kind or config.report.mode != "api":
            return []
        if kind == "script":
            folder = (folder / target).parent  # where Python looks first; for a module, where it is started
    spec = PathFinder.find_spec("sweep", [str(folder)])
    ours = Path(__file__).parents[1] / "__init__.py"
    if spec is None or spec.origin is None or Path(spec.origin).resolve() == ours.resolve():
        return []
    return [f"{spec.origin} hides this library: `import sweep` in a trial would find it first; rename it"]


def _program(key: str, argv: Sequence[str], folder: Path, path: str | None) -> Iterator[str]:
    program = argv[0]
    file = folder / program
    if "/" in program and "{" not in program:
        if not file.is_file():
            yield f"{key}: there is no program {file}{_like(file)}"
        elif not os.access(file, os.X_OK):
            yield f"{key}: {file} cannot be executed; put `python` before it, or run chmod +x {program}"
    elif "{" not in program and program != "python" and shutil.which(program, path=path) is None:
        beside = f"; for the file beside it write ./{program}" if file.is_file() else ""
        yield f"{key}: there is no program `{program}` on PATH{beside}"
    kind, target = python_runs(argv)
    if kind == "script" and not (folder / target).exists():
        yield f"{key}: there is no script {folder / target}{_like(folder / target)}"
    elif kind == "module" and _locate(target, folder) is None:
        yield f"{key}: there is no module `{target}`, looked for in {folder} and the Python path"


def _like(file: Path) -> str:
    try:
        guess = nearest(file.name, [entry.name for entry in file.parent.iterdir()])
    except OSError:
        return ""
    return f"; did you mean {guess}?" if guess else ""


def _objective(objective: str, folder: Path) -> Iterator[str]:
    module, _, function = objective.partition(":")
    spec = _locate(module, folder)
    if spec is None:
        yield f"objective: there is no module `{module}`, looked for in {folder} and the Python path"
        return
    if not spec.origin or not spec.origin.endswith(".py"):
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, ValueError, SyntaxError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        yield f"objective: {spec.origin}{line} is not Python: {error}"
        return
    names = set(_names(tree))
    top = function.partition(".")[0]
    if top not in names and not names & {"*", "__getattr__"}:
        yield f"objective: {spec.origin} has no `{top}`: {suggest(top, sorted(names))}"


def _names(tree: ast.Module) -> Iterator[str]:
    """What the module defines at its top, under conditions too; `*` where it takes over what others define."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            todo += ast.iter_child_nodes(node)


def _locate(module: str, folder: Path) -> ModuleSpec | None:
    """Where a module is, the trial's folder first. Its packages are not imported either, unlike find_spec()."""
    first, *rest = module.split(".")
    spec = PathFinder.find_spec(first, [str(folder)])
    if spec is None:
        try:
            spec = find_spec(first)  # a top-level name: imports nothing
        except ValueError:
            return None
    name = first
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec
