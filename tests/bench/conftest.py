"""Data sets in miniature, laid out as their users have them, and the command with the embedded pair loaded once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nerveseg import recipe as recipes
from nerveseg.cli._app import app
from nerveseg.segmenter import Segmenter

STEMS = ("2007_000001", "2007_000002")
_COCO = ("000000000139", "000000000285")


def _write(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)


def write_pair(picture: Path, mask: Path, values, *, size=(24, 30), palette=False, seed=0) -> None:
    """A picture of noise, and a mask that goes through the values."""
    _write(picture, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    ids = np.resize(np.array(values, np.uint8), size)
    mask.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids)
    if palette:
        image.putpalette([part for value in range(256) for part in (value, 255 - value, 7)])
    image.save(mask)


def _listed(root: Path, home: str, masks: str, listed: str, values, *, palette: bool) -> None:
    (root / home / listed).parent.mkdir(parents=True, exist_ok=True)
    (root / home / listed).write_text("\n".join(STEMS) + "\n")
    for seed, stem in enumerate(STEMS):
        write_pair(root / home / f"JPEGImages/{stem}.jpg", root / home / masks / f"{stem}.png", values, palette=palette, seed=seed)


def _voc(root, protocol):
    values = [*range(21), 255]
    _listed(root, "VOCdevkit/VOC2012", "SegmentationClass", "ImageSets/Segmentation/val.txt", values, palette=True)
    for stem in STEMS:
        write_pair(root / "unused.jpg", root / f"VOCdevkit/VOC2012/SegmentationClassAug/{stem}.png", values)


def _context(root, protocol):
    _listed(root, "VOCdevkit/VOC2010", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt", list(range(60)), palette=True)


def _ade(root, protocol):
    for number in (1, 2):
        stem = f"ADE_val_{number:08d}"
        home = root / "ADEChallengeData2016"
        write_pair(home / f"images/validation/{stem}.jpg", home / f"annotations/validation/{stem}.png", list(range(151)), seed=number)


def _coco_object(root, protocol):
    if protocol == "cliper":
        home = root / "coco2014"
        for stem in _COCO:
            name = f"COCO_val2014_{stem}"
            write_pair(home / f"val2014/{name}.jpg", home / f"coco_seg_anno/{stem}.png", [*range(81), 255])
        (home / "val_5k.txt").write_text("\n".join(f"COCO_val2014_{stem}" for stem in _COCO) + "\n")
        return
    home = root / "coco_object"
    for stem in _COCO:
        mask = home / f"annotations/val2017/{stem}_instanceTrainIds.png"
        write_pair(home / f"images/val2017/{stem}.jpg", mask, list(range(81)))


def _coco_stuff(root, protocol):
    home = root / "coco_stuff164k"
    for stem in _COCO:
        mask = home / f"annotations/val2017/{stem}_labelTrainIds.png"
        write_pair(home / f"images/val2017/{stem}.jpg", mask, [*range(171), 255])


def _cityscapes(root, protocol):
    home = root / "cityscapes"
    stem = "frankfurt_000000_000294"
    picture = home / f"leftImg8bit/val/frankfurt/{stem}_leftImg8bit.png"
    mask = home / f"gtFine/val/frankfurt/{stem}_gtFine_labelTrainIds.png"
    write_pair(picture, mask, [*range(19), 255], size=(1024, 2048))


def _folder(root, protocol):
    root.mkdir(exist_ok=True)
    (root / "names.txt").write_text("background\ncat; kitten\ndog\n")
    for stem in STEMS:
        write_pair(root / f"images/{stem}.jpg", root / f"masks/{stem}.png", [0, 1, 2, 255])


LAYOUTS = {
    "ade20k": _ade,
    "cityscapes": _cityscapes,
    "coco_object": _coco_object,
    "coco_stuff": _coco_stuff,
    "context59": _context,
    "context60": _context,
    "embedded": lambda root, protocol: None,
    "folder": _folder,
    "voc20": _voc,
    "voc21": _voc,
}
"""Data set → what writes two of its pictures, with every value that its masks have."""


@pytest.fixture
def layouts():
    """`LAYOUTS`: ``layouts["voc21"](root, "sclip")``."""
    return LAYOUTS


@pytest.fixture
def pair():
    """`write_pair`."""
    return write_pair


@pytest.fixture
def run(mini, monkeypatch, tmp_path):
    """``run("bench", "run", …)`` → the result, in an empty folder; recipes on the embedded pair share one set of networks."""
    load = Segmenter.from_pretrained

    def from_pretrained(recipe="nerve", *, settings=None, **options):
        chosen = recipes.load(recipe, settings)
        if dict(chosen.weights) == dict(mini.recipe.weights) and not options.get("device") and not options.get("dtype"):
            return dataclasses.replace(mini, recipe=chosen, _texts={})
        return load(recipe, settings=settings, **options)

    monkeypatch.setattr(Segmenter, "from_pretrained", from_pretrained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])
