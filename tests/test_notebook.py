"""The notebook runs from top to bottom in a kernel of its own, offline, and what is stored in it is what comes out."""

from __future__ import annotations

import ast
import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

_NOTEBOOK = Path(__file__).parents[1] / "examples" / "labelling.ipynb"
_LARGEST = 300_000


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(_NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The notebook after a run in an empty folder."""
    place = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(_NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(place / name.lower()))
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    return notebook, place


def outputs(notebook):
    """(cell, type → content) of every output."""
    return [
        (number, output["data"] if "data" in output else {output["name"]: output["text"]})
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
    ]


def image(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))), dtype=np.int64)


def alike(ours, other):
    """The same but for numbers: shares may differ by two hundredths, pixels by 5 or by 5 %."""
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(other) and all(map(alike, ours, other))
    if isinstance(ours, dict):
        return ours.keys() == other.keys() and all(alike(ours[key], other[key]) for key in ours)
    if isinstance(ours, float):
        return ours == pytest.approx(other, abs=0.02)
    return ours == other or (isinstance(ours, int) and ours == pytest.approx(other, rel=0.05, abs=5))


def test_what_is_stored_is_what_comes_out(stored, ran):
    fresh = outputs(ran[0])
    assert len(fresh) == 7
    for (cell, before), (place, now) in zip(outputs(stored), fresh, strict=True):
        assert (cell, set(before)) == (place, set(now))
        if "image/jpeg" in before:
            assert np.abs(image(before) - image(now)).mean() < 4
        else:
            assert alike(ast.literal_eval(before["text/plain"]), ast.literal_eval(now["text/plain"]))


def test_the_clicks_give_the_rabbit_its_ear_and_the_airplane_its_tail(ran):
    (*_, (_, told), (_, segments)) = outputs(ran[0])
    parts = ast.literal_eval(told["text/plain"])
    assert len(parts) == 6
    found = {name: (area, box) for name, area, box in parts}
    assert found["rabbit"][1][1] < 75  # its top was at 83
    assert found["airplane"][0] > 600  # 490 before
    assert [entry["label_id"] for entry in ast.literal_eval(segments["text/plain"])] == list(range(6))
    assert (ran[1] / "nerveseg-out" / "instances.json").is_file()


def test_it_is_small_and_says_nothing_of_the_machine_it_was_run_on(stored):
    assert _NOTEBOOK.stat().st_size < _LARGEST
    text = _NOTEBOOK.read_text("utf-8")
    assert "iopub" not in text
    assert str(_NOTEBOOK.parents[1]) not in text
    nbformat.validate(stored)
    assert [cell.execution_count for cell in stored.cells if cell.cell_type == "code"] == list(range(1, 9))


def test_its_links_lead_somewhere(stored):
    links = [link for cell in stored.cells if cell.cell_type == "markdown" for link in re.findall(r"\]\(([^)]+)\)", cell.source)]
    assert len(links) == 3
    assert [link for link in links if not (_NOTEBOOK.parent / link).is_file()] == []
