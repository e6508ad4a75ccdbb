"""What the file points at has to be there before anything starts: the script, the program, the function."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from sweep.config.command import python_runs
from sweep.config.model import SweepConfig
from sweep.config.words import nearest, suggest


def preflight(config: SweepConfig, project_dir: Path) -> list[str]:
    """What is not there, in words. Runs none of the user's code: modules are looked for, not imported."""
    folder = project_dir / config.cwd
    if not folder.is_dir():
        return [f"cwd: there is no folder {folder}"]
    importlib.invalidate_caches()
    problems = list(_command(config, folder)) if config.command else []
    if config.objective:
        problems += _objective(config.objective, folder)
    for module in config.warm:
        if _locate(module, folder) is None:
            problems.append(f"warm: there is no module `{module}` for {sys.executable}")
    return problems


def _command(config: SweepConfig, folder: Path) -> Iterator[str]:
    assert config.command is not None
    program = config.command[0]
    file = folder / program
    if "/" in program and "{" not in program:
        if not file.is_file():
            yield f"command: there is no program {file}{_like(file)}"
        elif not os.access(file, os.X_OK):
            yield f"command: {file} cannot be executed; put `python` before it, or run chmod +x {program}"
    elif "{" not in program and program != "python" and shutil.which(program, path=config.env.get("PATH")) is None:
        beside = f"; for the file beside it write ./{program}" if file.is_file() else ""
        yield f"command: there is no program `{program}` on PATH{beside}"
    kind, target = python_runs(config.command)
    if kind == "script" and not (folder / target).exists():
        yield f"command: there is no script {folder / target}{_like(folder / target)}"
    elif kind == "module" and _locate(target, folder) is None:
        yield f"command: there is no module `{target}`, looked for in {folder} and the Python path"


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
