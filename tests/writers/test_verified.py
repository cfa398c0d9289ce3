"""The writers make what other programs were seen to read: the files in ``verified/``, kept as they were read.

Each reader, in an environment of its own, gave back every pixel's label (ignored pixels and, but for panoptic, the background as nothing):
pycocotools 2.0.11 and supervision 0.31.2 (coco), datumaro 1.13.12, CVAT's own library (coco, panoptic, voc, cvat), FiftyOne 1.22.1's
COCO importer (coco), label-studio-sdk 2.1.2 and label-studio-converter 0.0.59 (labelstudio), supervision 0.31.2 and Ultralytics 8.4.190
(yolo). Run this file to write the folder again, and read it with them again if a test here says that it has changed: benchmarks/readers.py.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import save_all

HERE = Path(__file__).with_name("verified")
FORMATS = {
    "coco": {},
    "panoptic": {"things": "cat"},
    "voc": {},
    "cvat": {"each": "part"},
    "labelstudio": {"each": "part", "kind": "annotations"},
    "yolo": {"images": False},
}
LEAST = {"yolo": 10}  # pixels of a side: Ultralytics reads no smaller image
NAMES = ("cat", "naïve 🐈", "猫", "a/b", "x, y", "background")


def results(least=1):
    """Holes, corners that touch, parts of one pixel, ignored pixels; a folder in a folder; nothing but ignored pixels; one label."""
    first = np.indices((12, 18)).sum(0) % 3
    first[3:9, 3:11] = 4
    first[5:7, 5:8] = 0
    first[0, :7] = 255
    first[10:, 12:] = 5
    for stem, ids in {"holes": first, "sub/b c": np.full((4, 6), 255), "sub/one": np.full((4, 5), 3)}.items():
        ids = torch.as_tensor(np.tile(ids, [-(-least // side) for side in ids.shape]))
        image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])), name=f"{stem}.png")
        labels = tuple(Label(name, (name,)) for name in NAMES)
        yield stem, Segmentation(ids, torch.full((6, 1, 1), 1 / 6), labels, image, background=5)


def content(path):
    """What a file says, without how hard it was squeezed and the versions that made it."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: seen(name, archive.read(name)) for name in archive.namelist()}
    return seen(path.name, path.read_bytes())


def seen(name, held):
    if name.endswith(".png"):
        image = Image.open(io.BytesIO(held))
        return image.mode, image.getpalette(), np.asarray(image).tolist()
    if name.endswith(".json"):
        told = json.loads(held)
        return {key: value for key, value in told.items() if key not in ("info", "versions")} if isinstance(told, dict) else told
    return held.decode("utf-8")


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_other_programs_read_is_what_is_written(name, tmp_path):
    save_all(results(LEAST.get(name, 1)), tmp_path, name, **FORMATS[name])
    assert files(tmp_path) == files(HERE / name)
    for file in files(tmp_path):
        assert content(tmp_path / file) == content(HERE / name / file), file


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for each, options in FORMATS.items():
        save_all(results(LEAST.get(each, 1)), HERE / each, each, **options)
