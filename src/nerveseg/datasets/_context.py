"""What Context-60 and Context-59 share: one set of masks, made from the maps of 459 labels that the data set's authors publish.

Users of mmseg make the masks with the Detail API and a file of 590 MB. Its 60 raw ids are ids of the 459 labels, too, so the maps give the
same classes with neither.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nerveseg.datasets._layout import folder_of, need_folder, read_list
from nerveseg.datasets._prepare import Archive, Job
from nerveseg.datasets._turn import by_table
from nerveseg.datasets.base import Item
from nerveseg.errors import DataError

__all__ = [
    "LABELS",
    "LICENCE",
    "MISSING",
    "RAW",
    "SPLITS",
    "URL",
    "archives",
    "convert",
    "find",
    "label_map",
    "published",
    "raw_values",
    "unpacked",
]

URL = "https://cs.stanford.edu/~roozbeh/pascal-context/"
LICENCE = "images are Flickr's, under its terms of use; labels: see the publisher's page"

SPLITS = ("val", "train")

LABELS = 459
RAW = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159, 162, 187, 189),
    *(207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440),
    *(445, 454, 458),
)
"""The ids that the 59 classes have among the 459 labels. A class is its rank here, from 1; their names are in the order of the alphabet."""

MISSING = "2010_001606"
"""The image that CLIPer's list of the 5,105 does not have."""

_HOMES = ("VOCdevkit/VOC2010", "VOC2010")
_LISTS, _MASKS, _MAPS_IN = "ImageSets/SegmentationContext", "SegmentationClassContext", "trainval"
_IMAGES = "VOCtrainval_03-May-2010.tar"
_MAPS = "trainval.tar.gz"
_VAL = (5105, "261199d190e5c22d")  # how many names, and the start of the sha256 of the sorted ones

archives = (
    Archive(
        _IMAGES,
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        md5="da459979d0c395079b5c75ee67908abb",  # as torchvision's VOCDetection has it
        note="the images, and the lists of train and val",
    ),
    Archive(_MAPS, url=f"{URL}trainval.tar.gz", note="maps of 459 labels, about 31 MB; no size and no checksum are published"),
)


def raw_values() -> dict[int, int]:
    """Id among the 459 labels → id of 60: the rank of the 59, 0 for the rest and for pixels without a label."""
    return {**dict.fromkeys(range(LABELS + 1), 0), **{raw: rank for rank, raw in enumerate(RAW, 1)}}


def published(protocol: str) -> dict[str, int]:
    """Images of each split."""
    return {"val": _VAL[0] - (protocol == "cliper"), "train": 4998}


def find(name: str, root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split, in the order of its list; under "cliper" without `MISSING`.

    Args:
        name: registry name, for advice.
        root: folder that holds VOCdevkit or VOC2010.
        split: of `SPLITS`.
        protocol: as in `nerveseg.datasets.open`.

    Raises:
        DataError: no folder of VOC2010, no masks in it, or no list.
    """
    home = folder_of(name, root, *_HOMES)
    masks = need_folder(name, root, home / _MASKS, split)
    names = [stem for stem in read_list(name, root, _list(home, split), split) if protocol != "cliper" or stem != MISSING]
    return tuple(Item(stem, home / "JPEGImages" / f"{stem}.jpg", masks / f"{stem}.png") for stem in names)


def unpacked(root: Path, split: str) -> bool:
    """Whether every image of the list lies there with its map of the 459 labels, as ``tar xf`` leaves them in VOC2010."""
    home = _home(root)
    if not (listed := _list(home, split)).is_file():
        return False
    try:
        names = read_list("context59", root, listed, split)
    except DataError:
        return False
    files = ((home / "JPEGImages" / f"{stem}.jpg", home / _MAPS_IN / f"{stem}.mat") for stem in names)
    return all(image.is_file() and labels.is_file() for image, labels in files)


def convert(name: str, job: Job) -> None:
    """Make masks of 60 values, and the split's list, from VOC 2010 and the maps.

    The split is that of VOC 2010 itself, whose list for detection holds all 10,103 images.

    Raises:
        DataError: an archive without what it should hold, an image without a map, a map that is none.
    """
    home = _home(job.root)
    inside = home.relative_to(job.root).as_posix()
    job.unpack(_IMAGES, lambda path: f"{inside}/{_below(path)}" if _below(path) == f"ImageSets/Main/{job.split}.txt" else None)
    names = read_list(name, job.root, _list(home, job.split), job.split)
    _check_val(names, _list(home, job.split))
    wanted, images = set(names), {f"JPEGImages/{stem}.jpg" for stem in names}
    job.unpack(_IMAGES, lambda path: f"{inside}/{_below(path)}" if _below(path) in images else None)
    job.unpack(
        _MAPS, lambda path: f"{inside}/{_MAPS_IN}/{Path(path).name}" if path.endswith(".mat") and Path(path).stem in wanted else None
    )
    pairs = [(home / _MAPS_IN / f"{stem}.mat", home / _MASKS / f"{stem}.png") for stem in names]
    job.masks(pairs, by_table("Pascal Context", raw_values(), label_map))
    job.write(home / _LISTS / f"{job.split}.txt", "".join(f"{stem}\n" for stem in names))


def label_map(path: Path) -> NDArray[np.integer]:
    """Read the ``LabelMap`` of a .mat file, (height, width).

    Raises:
        DataError: no such file, no MATLAB file, or no map of whole numbers in it.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(str(path), variable_names=["LabelMap"])["LabelMap"]
    except FileNotFoundError as error:
        raise DataError(f"Got no map {path}. Accepted is one for each image of the list. Take the whole {_MAPS}.") from error
    except KeyError as error:
        raise DataError(f"Got {path} without a LabelMap. Accepted is a map of {LABELS} labels. Take it from {_MAPS}.") from error
    except (MatReadError, zlib.error, OSError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise DataError(f"Got the map {path}, which cannot be read ({error}). Accepted is a .mat of version 5. Unpack it again.") from error
    whole = values.ndim == 2 and values.dtype.kind in "iuf" and bool(np.all(values == np.floor(values))) and values.min(initial=0) >= 0
    if not whole:
        raise DataError(
            f"Got {path} with a LabelMap of shape {values.shape} and type {values.dtype}. Accepted are ids from 0 to {LABELS}, "
            f"one a pixel. Take it from {_MAPS}."
        )
    return values.astype(np.int64)


def _below(name: str) -> str:
    """A path of the archive below its VOC2010."""
    return name.partition("VOCdevkit/VOC2010/")[2]


def _home(root: Path) -> Path:
    return next((root / place for place in _HOMES if (root / place).is_dir()), root / _HOMES[0])


def _list(home: Path, split: str) -> Path:
    own = home / _LISTS / f"{split}.txt"
    return own if own.is_file() else home / "ImageSets" / "Main" / f"{split}.txt"


def _check_val(names: tuple[str, ...], path: Path) -> None:
    """Refuse a list that has as many names as the published one and is another."""
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[: len(_VAL[1])]
    if path.stem == "val" and len(names) == _VAL[0] and digest != _VAL[1]:
        raise DataError(
            f"Got the list {path} with {len(names)} names that are not those of Pascal Context's val. Accepted is the list of VOC 2010. "
            "Take it from the publisher's archive."
        )
