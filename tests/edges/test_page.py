"""The page about a sweep: all of it, from whatever state, in one file that loads and runs nothing but its own."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from live_story import usual
from matplotlib import pyplot
from written import SPACE, Written

import sweep
from sweep.api import drawing
from sweep.core.model import TrialState
from sweep.errors import StorageError

matplotlib.use("Agg")
VOID = {"meta", "br", "img"}
TITLES = ["History", "Curves", "Importances", "Parallel coordinates", "Slots"]


class Page(HTMLParser):
    """What a browser would find. open: elements that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.headings: list[str] = []
        self.cells: list[list[str]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action", "data"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag == "tr":
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open[-5:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"]:
            self.cells[-1][-1] += data
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if not {"script", "style"} & set(self.open):
            self.said += data


def page(written: Written) -> Page:
    """As `report` writes it; whatever its sweep, it is whole and needs nothing else."""
    text = sweep.load(written.write().folder).report(written.folder.parent).read_text(encoding="utf-8")
    found = Page(text)
    assert found.open == []
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in found.links)
    assert not re.search(r"url\((?!#)|@import", text)
    assert found.tags.count("script") == 1 and not found.handlers
    assert not pyplot.get_fignums()
    return found


def rows(found: Page) -> dict[int, list[str]]:
    """The table of trials, which is the last one, by number."""
    titles = max(place for place, cells in enumerate(found.cells) if not cells)
    return {int(cells[0]): cells for cells in found.cells[titles + 1 :]}


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_tells_all_of_a_sweep(tmp_path: Path) -> None:
    def conditional(draw: random.Random) -> dict[str, Any]:
        params = usual(draw)
        return params if draw.random() < 0.5 else {**params, "momentum": draw.random()}

    written = Written(tmp_path, params=conditional)
    state = written.story.train(30).sweep
    found = page(written)
    failed = {n for n, t in state.trials.items() if t.state is TrialState.FAIL}
    assert failed and state.best is not None
    assert found.headings == ["Best trial", "The sweep", *TITLES, "Failures", "Trials"]
    assert found.tags.count("svg") == len(TITLES)
    assert sweep.load(written.folder).best.command in found.said  # type: ignore[union-attr]
    table = rows(found)
    assert table.keys() == state.trials.keys()
    for number, trial in state.trials.items():
        cells = table[number]
        assert cells[1] == trial.state.value.lower()
        assert (cells[6] == "") == ("momentum" not in trial.params)
        assert cells[-1] == trial.why
    failures = {int(cells[0]) for cells in found.cells if len(cells) == 5}
    assert failures == failed
    assert "RuntimeError: CUDA out of memory" in found.said


@pytest.mark.parametrize("ended", [0, 1])
def test_says_what_is_not_known_yet(ended: int, tmp_path: Path) -> None:
    """A sweep that has begun: pictures that need more say so."""
    written = Written(tmp_path)
    written.story.report(1, 1, val_acc=0.25)
    for number in range(ended):
        written.story.complete(number, 0.75)
    found = page(written)
    assert ("No trial has completed" in found.said) == (ended == 0)
    assert f"{ended} completed trials so far; this picture needs two" in found.said
    assert found.tags.count("svg") == 2  # curves and slots
    assert rows(found)[1][2] == "0.25"
    assert "Failures" not in found.headings


def test_nothing_at_all_has_happened(tmp_path: Path) -> None:
    found = page(Written(tmp_path, slots=0))
    assert "svg" not in found.tags
    assert "has reported 'val_acc'" in found.said and "has started yet" in found.said
    assert rows(found)[0][1] == "waiting"


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    written = Written(tmp_path, metrics=("val_acc", "speed"))
    for number, values in enumerate([(0.5, 0.5), (0.9, 0.1), (0.4, 0.4), (0.1, 0.9)]):
        written.story.report(number, 1, val_acc=values[0], speed=values[1])
        written.story.end(number)
    found = page(written)
    assert found.headings[:3] == ["Trials that no other one beats", "The sweep", "Pareto front"]
    assert [f"{kind} of speed" for kind in TITLES[:4]] == found.headings[7:11]
    handle = sweep.load(written.folder)
    assert [trial.command in found.said for trial in handle.trials[:4]] == [True, True, False, True]


def test_what_others_wrote_is_text_and_nothing_else(tmp_path: Path) -> None:
    evil = """</td></svg><script>alert(1)</script><img src=http://x.test/ onerror="alert('2')">{{ id }}$\\frac$"""
    kind = {"type": "categorical", "choices": ["adam", evil]}
    space = {**SPACE, "optimizer": kind}
    written = Written(tmp_path, params=lambda draw: {**usual(draw), "optimizer": evil}, space=space)
    story = written.story
    for number, value in enumerate((0.5, 0.75)):
        story.complete(number, value)
    story.end(2, code=1, cause=f"ValueError: {evil}")
    found = page(written)  # which looks for links and scripts
    assert "img" not in found.tags and "$\\frac$" in found.said
    assert rows(found)[0][5] == evil
    assert found.tags.count("svg") == 5
    assert f"ValueError: {evil}" in rows(found)[2][-1]


@pytest.mark.parametrize("high_is_good", [True, False])
def test_what_is_better_is_bluer(high_is_good: bool) -> None:
    """Optuna looks at the direction of a single objective only."""
    svg = drawing.picture(
        lambda: pyplot.scatter([0, 1], [0, 1], c=[1.0, 2.0], cmap="Blues").axes, high_is_good=high_is_good
    )
    dots = re.findall(r"<use [^>]*fill: (#\w+)", svg)
    ends = [drawing.RAMP[0], drawing.RAMP[-1]]
    assert dots == (ends if high_is_good else ends[::-1])


def test_a_large_picture_is_one_of_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "LARGEST", 1000)
    written = Written(tmp_path)
    written.story.report(0, 1, val_acc=0.25)
    found = page(written)
    assert "svg" not in found.tags
    assert len([link for link in found.links if link.startswith("data:image/png;base64,iVBOR")]) == 2


def test_goes_where_it_is_wanted_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sweep.load(Written(tmp_path, slots=0).write().folder)
    monkeypatch.chdir(tmp_path)
    assert found.report() == tmp_path / "ocr-rec-3.html"
    assert found.report("mine.html") == tmp_path / "mine.html"
    assert found.report("mine.html").read_text() == (tmp_path / "ocr-rec-3.html").read_text()
    with pytest.raises(StorageError, match=r"cannot write no/such\.html: No such file"):
        found.report("no/such.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "ocr-rec-3.html", "sweeps"]
