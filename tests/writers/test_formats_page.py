from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

from nerveseg import registry
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import bundled

_PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")


def test_the_page_has_a_line_for_every_format():
    rows = re.findall(r"^\| `(\w+)` \|", _PAGE, re.MULTILINE)
    assert set(registry.names("writers")) <= set(rows)


def test_its_lines_run(tmp_path, monkeypatch, mini):
    monkeypatch.setattr(Segmenter, "from_pretrained", lambda *_: mini)
    shutil.copy(bundled.scenes()[0].path, tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # words that the embedded pair does not know
        for block in re.findall(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL):
            exec(compile(block, "formats.md", "exec"), {})
    assert (tmp_path / "one" / "instances.json").is_file()
    assert (tmp_path / "many" / "cvat.zip").is_file()
