"""Data sets in miniature, laid out as their users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STEMS = ("2007_000001", "2007_000002")


def stems(count: int, split: str = "val") -> tuple[str, ...]:
    """Names as VOC's, those of each split its own."""
    first = {"val": 0, "train": 500, "train_aug": 700}[split]
    return tuple(f"2007_{first + number:06d}" for number in range(1, count + 1))


def ids(count: int, split: str = "val") -> tuple[str, ...]:
    """Names as COCO's."""
    listed = (139, 285, 632, 724, 776, 785, 802, 872)
    return (
        tuple(f"{number:012d}" for number in listed[:count]) if split == "val" else tuple(f"{900 + number:012d}" for number in range(count))
    )


def write_pair(image: Path, mask: Path, values, *, size=(24, 30), palette=False, seed=0) -> None:
    """An image of noise, and a mask that goes through the values."""
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
    pil_image = Image.fromarray(np.resize(np.array(values, np.uint8), size))
    mask.parent.mkdir(parents=True, exist_ok=True)
    if palette:
        pil_image.putpalette([part for value in range(256) for part in (value, 255 - value, 7)])
    pil_image.save(mask)


def _listed(root, home, masks, lists, values, count, split) -> None:
    (root / home / lists).mkdir(parents=True, exist_ok=True)
    (root / home / lists / f"{split}.txt").write_text("\n".join(stems(count, split)) + "\n")
    for seed, stem in enumerate(stems(count, split)):
        write_pair(root / home / f"JPEGImages/{stem}.jpg", root / home / masks / f"{stem}.png", values, palette=True, seed=seed)


def _voc(root, protocol, count, split):
    values = [*range(21), 255]
    _listed(root, "VOCdevkit/VOC2012", "SegmentationClass", "ImageSets/Segmentation", values, count, split)
    for stem in stems(count, split):
        write_pair(root / "unused.jpg", root / f"VOCdevkit/VOC2012/SegmentationClassAug/{stem}.png", values)


def _context(root, protocol, count, split):
    _listed(root, "VOCdevkit/VOC2010", "SegmentationClassContext", "ImageSets/SegmentationContext", list(range(60)), count, split)


def _ade(root, protocol, count, split):
    home, folder = root / "ADEChallengeData2016", {"val": "validation", "train": "training"}[split]
    for number in range(1, count + 1):
        stem = f"ADE_{split}_{number:08d}"
        write_pair(home / f"images/{folder}/{stem}.jpg", home / f"annotations/{folder}/{stem}.png", list(range(151)), seed=number)


def _coco_object(root, protocol, count, split):
    if protocol == "cliper":
        home = root / "coco2014"
        names = [f"COCO_{split}2014_{stem}" for stem in ids(count, split)]
        for name in names:
            write_pair(home / f"{split}2014/{name}.jpg", home / f"coco_seg_anno/{name[-12:]}.png", [*range(81), 255])
        if split == "val":
            (home / "val_5k.txt").write_text("\n".join(names) + "\n")
        return
    home = root / "coco_object"
    for seed, stem in enumerate(ids(count, split)):
        mask = home / f"annotations/{split}2017/{stem}_instanceTrainIds.png"
        write_pair(home / f"images/{split}2017/{stem}.jpg", mask, list(range(81)), seed=seed)


def _coco_stuff(root, protocol, count, split):
    home = root / "coco_stuff164k"
    for seed, stem in enumerate(ids(count, split)):
        mask = home / f"annotations/{split}2017/{stem}_labelTrainIds.png"
        write_pair(home / f"images/{split}2017/{stem}.jpg", mask, [*range(171), 255], seed=seed)


def _cityscapes(root, protocol, count, split):
    home = root / "cityscapes"
    size = (1024, 2048) if protocol == "cliper" else (24, 30)  # halves are cut at fixed places
    for number in range(count):
        stem = f"frankfurt_000000_{number:06d}"
        image = home / f"leftImg8bit/{split}/frankfurt/{stem}_leftImg8bit.png"
        mask = home / f"gtFine/{split}/frankfurt/{stem}_gtFine_labelTrainIds.png"
        write_pair(image, mask, [*range(19), 255], size=size, seed=number)


def _folder(root, protocol, count, split):
    root.mkdir(exist_ok=True)
    (root / "names.txt").write_text("background\ncat; kitten\ndog\n")
    for seed, stem in enumerate(stems(count)):
        write_pair(root / f"images/{stem}.jpg", root / f"masks/{stem}.png", [0, 1, 2, 255], seed=seed)


_WRITERS = {
    "ade20k": _ade,
    "cityscapes": _cityscapes,
    "coco_object": _coco_object,
    "coco_stuff": _coco_stuff,
    "context59": _context,
    "context60": _context,
    "embedded": lambda *_: None,
    "folder": _folder,
    "voc20": _voc,
    "voc21": _voc,
}
LAYOUTS = tuple(_WRITERS)


def write(name: str, root: Path, protocol: str = "sclip", *, count: int = 2, split: str = "val") -> None:
    """Write some images of a data set, with every value that its masks have."""
    _WRITERS[name](Path(root), protocol, count, split)
