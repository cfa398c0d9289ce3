"""ADE20K-150, the scene parsing benchmark of 2016: 150 classes, and 0 for what is none of them, which is not counted."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets._layout import advice, files_in, folder_of, need_folder
from nerveseg.datasets._prepare import Archive, Job, below
from nerveseg.datasets.base import IGNORE, Item
from nerveseg.errors import DataError

__all__ = ["archives", "background", "convert", "count", "find", "grey", "protocols", "published", "splits", "unpacked", "values"]

title = "ADE20K, 150 classes"
url = "http://sceneparsing.csail.mit.edu/"
licence = "images for non-commercial research and education; labels under the BSD 3-clause licence; see the publisher's page"
background = False
count = 150
splits = ("val", "train")
protocols = ("sclip", "cliper")
grey = True

_HOME = "ADEChallengeData2016"
_ARCHIVE = f"{_HOME}.zip"
archives = (
    Archive(
        _ARCHIVE,
        url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        bytes=967_382_037,
        sha256="7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",  # as TensorFlow Datasets has it
        note="images and masks of both splits",
    ),
)


def published(protocol: str) -> dict[str, int]:
    """Images of each split."""
    return {"val": 2000, "train": 20210}


def values(protocol: str) -> dict[int, int]:
    """0 is ignored, and k is class k − 1.

    255 is no value of the published masks. One that has it went through such a table already, and all its ids would be off by one.
    """
    return {0: IGNORE, **{value: value - 1 for value in range(1, count + 1)}}


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split: all its images, in the order of their names.

    Raises:
        DataError: no folder of the data set, or none of the split, or no image in it.
    """
    home = folder_of("ade20k", root, _HOME, f"ade/{_HOME}")
    images = need_folder("ade20k", root, home / "images" / _folder(split), split)
    masks = need_folder("ade20k", root, home / "annotations" / _folder(split), split)
    found = [path.stem for path in files_in(images, "*.jpg")]
    if not found:
        raise DataError(f"Got {images} without a .jpg. Accepted are the images of {split}. {advice('ade20k', root, split)}.")
    return tuple(Item(stem, images / f"{stem}.jpg", masks / f"{stem}.png") for stem in found)


def unpacked(root: Path, split: str) -> bool:
    """Whether every image of a split lies there with its mask, and every mask with its image."""
    home = next((root / place for place in (_HOME, f"ade/{_HOME}") if (root / place).is_dir()), root / _HOME)
    images, masks = ({path.stem for path in (home / kind / _folder(split)).glob("ADE_*")} for kind in ("images", "annotations"))
    return bool(images) and images == masks


def convert(job: Job) -> None:
    """Unpack the split. Its masks are read as they are published."""
    job.unpack(_ARCHIVE, below(_HOME, _HOME, f"images/{_folder(job.split)}/", f"annotations/{_folder(job.split)}/"))


def _folder(split: str) -> str:
    return {"val": "validation", "train": "training"}[split]
