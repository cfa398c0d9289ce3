"""A file that claims too much, or breaks its decoder, is one image of a batch that could not be used."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from nerveseg.batch import find, run


def _files():
    name = "_hostile_pictures"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "image" / "_hostile.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def test_it_is_skipped_with_its_reason(photos, job, tmp_path):
    source = photos(2)
    (source / "scans.jpg").write_bytes(_files().jpeg_scans(2000))
    (source / "tags.tif").write_bytes(_files().tiff_tags())
    ran = run(job(), find(source), tmp_path / "out")
    assert ran.done == 2
    assert [bad.item for bad in ran.bad] == ["scans.jpg", "tags.tif"]
    assert "200 scans" in ran.bad[0].message
    assert "tags claim" in ran.bad[1].message
