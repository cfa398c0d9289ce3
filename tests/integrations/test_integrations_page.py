"""The snippets of the page run, but for FiftyOne's, which `benchmarks/integrations.py` does."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import numpy as np

from nerveseg.synthetic import bundled

_PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def test_the_snippets_run(tmp_path, monkeypatch):
    shutil.copy(bundled.scenes()[0].path, tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert ["import fiftyone as fo" in block for block in blocks] == [False, False, True]
    space: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV", UserWarning)  # of supervision
        for block in blocks[:2]:
            exec(compile(block, _PAGE.name, "exec"), space)
    assert np.any(space["painted"] != space["result"].image.pixels)
    assert space["answer"]["segments_info"][0].keys() == {"id", "label_id", "was_fused", "score"}
