"""The notebooks, executed in their order in one folder, as a reader would."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from e2e_kit import LONGEST, Project
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[2] / "notebooks"
# what each of them shows, besides that no cell raises
SHOWN = {
    "01_design_a_space.ipynb": (2, ["below 0.01: 10% evenly", "space.width.low: 64 is above the upper bound, 8"]),
    "02_run_and_watch.ipynb": (1, ["8 of 8", "20 of 20", "'FINISHED'", "your own, trial"]),
    "03_compare.ipynb": (6, ["of 20 trials were pruned", "tags.mlflow.runName"]),
    "04_next_round.ipynb": (1, ["of which 4 come first here", "8 of 8", "closer-1  enqueued"]),
}


def test_none_is_left_out_and_none_holds_outputs() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.ipynb")) == sorted(SHOWN)
    for name in SHOWN:
        notebook = nbformat.read(FOLDER / name, as_version=4)
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize("name", SHOWN)
def test_runs_from_beginning_to_end(name: str, shared: Project) -> None:
    shutil.copy(FOLDER / "spirals.py", shared.path)
    if name.startswith("02"):  # what the first one has written is what the folder has
        assert (shared.path / "spirals.yaml").read_text() == (FOLDER / "spirals.yaml").read_text()
    notebook = nbformat.read(FOLDER / name, as_version=4)
    resources = {"metadata": {"path": str(shared.path)}}
    NotebookClient(notebook, timeout=LONGEST, resources=resources).execute(env=shared.env)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    pictures, texts = SHOWN[name]
    images = [_image(one["image/png"]) for one in data if "image/png" in one]
    assert len(images) == pictures
    assert all(len(image.getcolors(1 << 20) or []) > 20 for image in images)  # not blank
    said = "\n".join([one.get("text/plain", "") for one in data] + [output.get("text", "") for output in outputs])
    for text in texts:
        assert text in said, said


def _image(encoded: str) -> Any:
    return Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
