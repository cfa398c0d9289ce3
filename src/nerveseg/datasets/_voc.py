"""PASCAL VOC 2012 on disk: what VOC21 and VOC20 share.

``SegmentationClass`` holds the published masks: a palette, 0 … 20, and 255 at edges and for what is difficult. ``SegmentationClassAug``
holds grey masks that others made, with more images for training. Two editions of it go about: one with all 12,031 images of
training and validation, and one that was converted from another data set's files and lacks some that are in the published lists.
"""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets._layout import files_in, folder_of, need_folder, read_list
from nerveseg.datasets._prepare import Archive, Job, below
from nerveseg.datasets.base import Item
from nerveseg.errors import DataError

__all__ = ["ARCHIVES", "LICENCE", "SPLITS", "URL", "convert", "find", "published", "unpacked"]

URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
LICENCE = "annotations free for research; images are Flickr's, under its terms of use"
SPLITS = ("val", "train", "train_aug")

_TRAINVAL, _MORE = "VOCtrainval_11-May-2012.tar", "SegmentationClassAug.zip"
ARCHIVES = (
    Archive(
        _TRAINVAL,
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        bytes=1_999_639_040,
        sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        note=LICENCE,
    ),
    Archive(_MORE, note="masks by others for train_aug and the protocol cliper, from whoever hands them out; 12,031 PNG", optional=True),
)

_HOME, _LISTS = "VOCdevkit/VOC2012", "ImageSets/Segmentation"
_PLAIN, _AUG = "SegmentationClass", "SegmentationClassAug"
_AUG_LISTS = ("train_aug.txt", "trainaug.txt")


def published() -> dict[str, int]:
    """Images of each split."""
    return {"val": 1449, "train": 1464, "train_aug": 10582}


def find(name: str, root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split, in the order of its list.

    The protocol cliper reads ``SegmentationClassAug`` where it holds every image of the split, and the published masks otherwise; the
    split train_aug reads it under both, and the published mask of an image that it lacks.
    """
    home = folder_of(name, root, _HOME, "VOC2012")
    images, plain, more = need_folder(name, root, home / "JPEGImages"), home / _PLAIN, home / _AUG
    if split == "train_aug":
        need_more(name, root, more)
        own = {path.stem for path in files_in(more, "*.png")}
        names = _augmented(name, root, home, own)
        return tuple(Item(stem, images / f"{stem}.jpg", (more if stem in own else plain) / f"{stem}.png") for stem in names)
    names = read_list(name, root, home / _LISTS / f"{split}.txt", split)
    whole = protocol == "cliper" and more.is_dir() and {path.stem for path in files_in(more, "*.png")}.issuperset(names)
    masks = more if whole else need_folder(name, root, plain, split)
    return tuple(Item(stem, images / f"{stem}.jpg", masks / f"{stem}.png") for stem in names)


def need_more(name: str, root: Path, more: Path) -> None:
    """Refuse where there are no masks by others."""
    if not more.is_dir():
        raise DataError(
            f"Got no folder {more}. Accepted for the split train_aug are masks that others made. Get {_MORE}, put it beside {_TRAINVAL} "
            f"and run `nerveseg datasets prepare {name} --root {root} --split train_aug --from FOLDER`."
        )


def _augmented(name: str, root: Path, home: Path, own: set[str]) -> tuple[str, ...]:
    """The list on disk, or else what it is by definition: every image with a mask that is not one of val."""
    for called in _AUG_LISTS:
        if (home / _LISTS / called).is_file():
            return read_list(name, root, home / _LISTS / called, "train_aug")
    held_out = set(read_list(name, root, home / _LISTS / "val.txt"))
    return tuple(sorted((own | set(read_list(name, root, home / _LISTS / "train.txt"))) - held_out))


def unpacked(name: str, root: Path, split: str) -> bool:
    """Whether every file of the split is there."""
    try:
        items = find(name, root, split, "sclip")
    except DataError:
        return False
    return all(path.is_file() for item in items for path in (item.image, item.mask) if path is not None)


def convert(name: str, job: Job) -> None:
    """Take the lists, then the images and masks of the split, out of the archives; nothing is turned into anything else."""
    home = job.root / _HOME
    if job.split == "train_aug" and _MORE not in job.archives:
        need_more(name, job.root, home / _AUG)
    if _TRAINVAL not in job.archives:
        return
    job.unpack(_TRAINVAL, below(_HOME, _HOME, f"{_LISTS}/"))
    job.unpack(_MORE, below(_AUG, f"{_HOME}/{_AUG}"))
    if job.split == "train_aug":
        names = set(_augmented(name, job.root, home, {path.stem for path in files_in(home / _AUG, "*.png")}))
    else:
        names = set(read_list(name, job.root, home / _LISTS / f"{job.split}.txt", job.split))
    inside = below(_HOME, _HOME, "JPEGImages/", f"{_PLAIN}/")
    job.unpack(_TRAINVAL, lambda path: inside(path) if Path(path).stem in names else None)
