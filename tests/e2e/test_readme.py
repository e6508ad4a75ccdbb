"""What README.md and docs/ say to type works as it stands, and their files mean something.

What stands behind the language of a code block says what it is:

    yaml part        keys of a space.yaml, without those that every file must have
    yaml policy      /etc/sweep/policy.yaml
    sh elsewhere     it needs what is not here, such as a GPU or a server; looked at, not run
    python train.py  a file, which the commands of the page find under this name

Sweeps of the repository's own files are cut to two trials, those of a page's files to four, what goes on to five;
only the page about MLflow sends anything there. Nothing else is changed. `make` targets are what CI
itself calls, and only looked for here.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest
from e2e_kit import Project, opened, wait_for
from ruamel.yaml import YAML

import sweep
from sweep.cli.commands import cli
from sweep.config.load import load
from sweep.config.policy import Policy
from sweep.config.reading import read

ROOT = Path(__file__).parents[2]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
WITH_MLFLOW = ROOT / "docs/how-to/mlflow-outage.md"
MUST = {
    "name": "page",
    "command": "python train.py --lr {lr}",
    "metric": "val_acc",
    "direction": "maximize",
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True}},
    "trials": 4,
}


class Block(NamedTuple):
    page: Path
    language: str
    label: str
    text: str

    def commands(self) -> list[list[str]]:
        """The words of every line, without remarks."""
        text = self.text.replace("\\\n", "")
        lines = [line.partition("#")[0] for line in text.splitlines()]
        return [words for line in lines if (words := shlex.split(line))]


def blocks(page: Path, language: str = "") -> list[Block]:
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page, *parts) for parts in found if not language or parts[0] == language]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def every(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def place(block: Block) -> str:
    return f"{named(block.page)}-{blocks(block.page).index(block)}"


def written(folder: Path, document: dict[str, Any]) -> Path:
    file = folder / "space.yaml"
    file.write_text(json.dumps(document))
    return file


def test_every_make_target_is_there() -> None:
    words = [words for block in blocks(README, "sh") for words in block.commands()]
    targets = {command[1] for command in words if command[0] == "make"}
    makefile = (ROOT / "Makefile").read_text()
    assert targets == {"run", "ui"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the empty MLflow store that each project begins with: seconds to make, and always the same."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=named)
def test_every_command_runs(page: Path, tmp_path: Path, cache: Path) -> None:
    """In the order of the page: what looks at a sweep finds the ones that were run before."""
    with opened(tmp_path) as project:
        project.env["XDG_CACHE_HOME"] = str(cache)
        for folder in ("examples", "search_spaces"):
            shutil.copytree(ROOT / folder, project.path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        files = {block.label: block.text for block in blocks(page) if "." in block.label}
        for block in blocks(page, "sh"):
            for words in block.commands() if block.label != "elsewhere" else ():
                for name, text in files.items():  # anew: `sweep init` has written one of its own
                    (project.path / name).write_text(text)
                _types(project, words, own=set(files), mlflow=page == WITH_MLFLOW)


def _types(project: Project, words: list[str], *, own: set[str], mlflow: bool) -> None:
    if words[0] == "make":
        return
    assert words[0] == "sweep", f"what is this? {words}"
    if words[1] == "ui":
        _ui_answers(project)
        return
    if words[1] == "init":
        (project.path / "space.yaml").unlink(missing_ok=True)
    short: list[str] = []
    if words[1] == "run":
        short = ["--trials", "4" if own & set(words) else "2", *(() if mlflow else ("--set", "mlflow=false"))]
    elif "--trials" in words:
        short = ["--trials", "5"]  # the last one counts
    done = project.sweep(*words[1:], *short)
    assert done.code == 0, f"{' '.join(words)}\n{done.out}\n{done.err}"
    assert done.out.strip(), f"{' '.join(words)} says nothing"


def _ui_answers(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = project.path / "ui.txt"
    with said.open("w") as out:
        server = project.start("ui", "--port", str(port), stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: f"MLflow: http://127.0.0.1:{port}/" in said.read_text(), "the address of the MLflow UI")
        assert _status(f"http://127.0.0.1:{port}/") == 200  # it is said when there is something to see, not before
    finally:
        server.send_signal(signal.SIGINT)  # as Ctrl-C does
        code = server.wait()
    assert code == 0 and "Traceback" not in said.read_text()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


def test_little_of_it_cannot_be_run_here() -> None:
    elsewhere = [place(block) for block in every("sh") if block.label == "elsewhere"]
    assert len(elsewhere) <= 4, elsewhere


@pytest.mark.parametrize("block", every("yaml"), ids=place)
def test_every_file_loads_without_a_warning(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(block.text)
    if block.label == "policy":
        Policy.model_validate(read(file).data)
        return
    if block.label == "part":
        written(tmp_path, {**MUST, **YAML(typ="safe").load(block.text)})
    _, warnings = load(file)
    reads = any("trial.params" in one.text for one in blocks(block.page, "python"))  # as the warning says is fine
    assert [one for one in warnings if not (reads and "current_trial().params" in one)] == []


@pytest.mark.parametrize("block", every("python"), ids=place)
def test_every_script_uses_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text)
    if "import sweep" not in block.text:
        return
    owners = {"sweep": sweep, "trial": sweep.Trial, "s": sweep.Sweep}
    used = [one for one in ast.walk(tree) if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    wrong = [
        f"{one.value.id}.{one.attr}"
        for one in used
        if isinstance(one.value, ast.Name)
        and one.value.id in owners
        and not hasattr(owners[one.value.id], one.attr)
    ]
    assert not wrong


@pytest.mark.parametrize("page", [*PAGES, CHINESE], ids=named)
def test_every_command_and_option_exists(page: Path) -> None:
    """Those that stand in a sentence too."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [found.split() for found in re.findall(r"`(?:\w+=\S+ )?(sweep [^`]*)`", prose)]
    lines += [words for block in blocks(page, "sh") for words in block.commands() if words[0] == "sweep"]
    for words in lines:
        group: click.Command = cli
        for word in words[1:]:
            if word == "--":
                break
            if isinstance(group, click.Group) and word in group.commands:
                group = group.commands[word]
            elif word.startswith("-"):
                known = {name for one in group.params for name in (*one.opts, *one.secondary_opts)}
                assert word.rstrip(",") in known, f"{' '.join(words)}: no option {word}"
            else:
                assert group is not cli, f"{' '.join(words)}: no command {word}"


@pytest.mark.parametrize("page", [*PAGES, CHINESE, ROOT / "sweep/ARCHITECTURE.md"], ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [README]
    while todo:
        page = todo.pop()
        if page not in seen:
            seen.add(page)
            todo += [(page.parent / one).resolve() for one in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())]
    assert set(PAGES) - seen == set()


def _code(page: Path) -> list[tuple[str, str, list[str]]]:
    """Every block with its lines, without remarks."""
    return [
        (one.language, one.label, [re.sub(r"\s*#.*", "", line) for line in one.text.splitlines()])
        for one in blocks(page)
    ]


def test_the_chinese_readme_keeps_in_step() -> None:
    assert _code(CHINESE) == _code(README)
    english, chinese = README.read_text(), CHINESE.read_text()

    def outline(text: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+|\||-) ", text, re.MULTILINE)]

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(([^)\s]+)\)", text)) - {README.name, CHINESE.name}

    assert outline(chinese) == outline(english)
    assert {link.partition("#")[0] for link in links(chinese)} == {
        link.partition("#")[0] for link in links(english)
    }


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generator: ModuleType) -> None:
    for path, text in generator.pages().items():
        assert path.read_text() == text, "type: python docs/generate.py"


def test_every_short_form_of_the_reference_loads(generator: ModuleType, tmp_path: Path) -> None:
    said, yaml = generator.meanings(), YAML(typ="safe")
    for key, one in said["keys"].items():
        for form in one.get("short", ()):
            load(written(tmp_path, {**MUST, key: yaml.load(form)}))
    for kind, one in said["parameters"].items():
        config, _ = load(written(tmp_path, {**MUST, "space": {**MUST["space"], **yaml.load(one["example"])}}))
        assert kind in {parameter.type for parameter in config.space.values()}
