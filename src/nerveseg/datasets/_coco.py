"""What COCO-Stuff and COCO-Object share: the ids of the maps of things and stuff, the folders they lie in, and the archives.

The maps (``stuffthingmaps``) store the ids of the list of COCO-Stuff less 1: 0 … 90 things, 91 … 181 stuff, and 255 where nothing is
labelled. Eleven of the things have a number and no pixel anywhere; mmseg numbers the other 171 without gaps.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from nerveseg.datasets import classes
from nerveseg.datasets._layout import advice, files_in
from nerveseg.datasets._prepare import Archive, Job
from nerveseg.datasets._turn import by_table
from nerveseg.datasets.base import IGNORE, DataSet, Item, table
from nerveseg.errors import DataError
from nerveseg.reprs import brief

__all__ = [
    "GAPS",
    "LICENCE",
    "SPLITS",
    "Source",
    "archives",
    "convert",
    "first",
    "images",
    "made",
    "need_root",
    "opened",
    "published",
    "raw",
    "to_train_ids",
    "unpacked",
    "val_ids",
]

LICENCE = "images are Flickr's, under its terms of use; labels under CC BY 4.0"
SPLITS = ("val", "train")

GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Values of things that no pixel has: street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush."""

_MAPS = "stuffthingmaps_trainval2017.zip"
archives = (
    # Sizes and digests of COCO's own archives as TensorFlow Datasets has them; the maps' publisher states "659 MB" and no digest.
    Archive(
        "val2017.zip",
        url="http://images.cocodataset.org/zips/val2017.zip",
        bytes=815_585_330,
        sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        note="images of val",
        splits=("val",),
    ),
    Archive(
        "train2017.zip",
        url="http://images.cocodataset.org/zips/train2017.zip",
        bytes=19_336_861_798,
        sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        note="images of train",
        splits=("train",),
    ),
    Archive(
        _MAPS,
        url=f"http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/{_MAPS}",
        note="maps of things and stuff of both splits, 659 MB; no checksum is published",
    ),
)

_STUFF = "coco_stuff164k"
_RAW_PLACES = (f"{_STUFF}/annotations/{{}}", "coco/stuffthingmaps/{}", "stuffthingmaps/{}")
_IMAGE_PLACES = (f"{_STUFF}/images/{{}}", "coco_object/images/{}", "coco2017/{}", "coco/{}", "coco/images/{}")


@dataclass(frozen=True)
class Source:
    """A place where masks may lie, and what they store.

    Attributes:
        folder: below the root; ``{}`` is the folder of the split.
        suffix: what follows the twelve digits of an image's id.
        values: stored value → id or `IGNORE`.
        about: what it is, for reports.
    """

    folder: str
    suffix: str
    values: Mapping[int, int]
    about: str

    __repr__ = brief


def published(protocol: str) -> dict[str, int]:
    """Images of each split."""
    return {"val": 5000, "train": 118287}


def to_train_ids() -> dict[int, int]:
    """Value of the maps → number without gaps, 0 … 170. Things are 0 … 79."""
    return {value: index for index, value in enumerate(value for value in range(182) if value not in GAPS)}


def raw(values: Mapping[int, int], about: str) -> tuple[Source, ...]:
    """The maps as they are published, wherever they lie, read by a table."""
    return tuple(Source(folder, ".png", values, about) for folder in _RAW_PLACES)


def first(root: Path, split: str, sources: Sequence[Source]) -> Source | None:
    """The first of several places that holds a mask."""
    return next((source for source in sources if _holds(root / source.folder.format(_year(split)), source.suffix)), None)


def images(name: str, root: Path, split: str) -> Path:
    """The folder of a split's images.

    Raises:
        DataError: none of the known places holds one.
    """
    for place in _IMAGE_PLACES:
        if _holds(folder := root / place.format(_year(split)), ".jpg"):
            return folder
    places = ", ".join(place.format(_year(split)) for place in _IMAGE_PLACES)
    raise DataError(
        f"Got {root} without images of COCO's {_year(split)}. Accepted are they in one of {places}. {advice(name, root, split)}."
    )


def made(
    name: str, root: Path | None, split: str, protocol: str, class_names: str | Path, *, background: bool, sources: Sequence[Source]
) -> DataSet:
    """Open a split of COCO 2017: all its images, in the order of their ids, and the first source that holds masks.

    Raises:
        DataError: no root, no images, no masks, or a list of names with another count.
    """
    root = need_root(name, root)
    folder = images(name, root, split)
    source = first(root, split, sources)
    if source is None:
        places = ", ".join(f"{each.folder.format(_year(split))}/*{each.suffix}" for each in sources)
        raise DataError(f"Got {root} without masks of {name}. Accepted is one of {places}. {advice(name, root, split)}.")
    masks = root / source.folder.format(_year(split))
    ids = [path.stem for path in files_in(folder, "*.jpg")]
    items = tuple(Item(stem, folder / f"{stem}.jpg", masks / f"{stem}{source.suffix}") for stem in ids)
    return opened(name, root, split, protocol, class_names, background=background, source=source, items=items)


def opened(
    name: str,
    root: Path,
    split: str,
    protocol: str,
    class_names: str | Path,
    *,
    background: bool,
    source: Source,
    items: tuple[Item, ...],
) -> DataSet:
    """A data set of given items whose masks are from a source."""
    count = len({index for index in source.values.values() if index != IGNORE})
    found = classes.read(name, class_names, count=count, background=background)
    first_mask = items[0].mask if items else None
    place = "" if first_mask is None else first_mask.parent.relative_to(root).as_posix()
    about = {"masks": f"{place}/*{source.suffix}", "masks_are": source.about}
    return DataSet(name, split, protocol, found, background, items, table(source.values), root, about=about)


def val_ids() -> tuple[str, ...]:
    """The ids of COCO 2017's val, twelve digits each, which are those of 2014's ``val_5k``. Neither archive of 2014 names them."""
    packed = files("nerveseg.datasets").joinpath("lists/coco-val2017.txt.xz").read_bytes()
    return tuple(f"{int(line):012d}" for line in lzma.decompress(packed).decode().split())


def unpacked(root: Path, split: str) -> bool:
    """Whether every image has its map on disk, and every map its image."""
    maps = first(root, split, raw({}, ""))
    places = (root / place.format(_year(split)) for place in _IMAGE_PLACES)
    folder = next((place for place in places if _holds(place, ".jpg")), None)
    return maps is not None and folder is not None and _ids(root / maps.folder.format(_year(split)), ".png") == _ids(folder, ".jpg")


def convert(job: Job, values: Mapping[int, int], suffix: str) -> None:
    """Unpack images and maps to mmseg's folder and write masks beside the maps, as mmseg's users name them.

    Raises:
        DataError: an archive without what it should hold, or a map with a value that no class has.
    """
    year = _year(job.split)
    archive = f"{year}.zip"
    job.unpack(archive, lambda path: f"{_STUFF}/images/{year}/{Path(path).name}" if _named(path, year, ".jpg") else None)
    job.unpack(_MAPS, lambda path: f"{_STUFF}/annotations/{year}/{Path(path).name}" if _named(path, year, ".png") else None)
    source = first(job.root, job.split, raw(values, ""))
    if source is None:
        raise DataError(f"Got {job.root} without maps of {year}. Accepted are those of {_MAPS}. Give the folder of the archives as --from.")
    maps, masks = job.root / source.folder.format(year), job.root / _STUFF / "annotations" / year
    pairs = [(maps / f"{each}.png", masks / f"{each}{suffix}") for each in sorted(_ids(maps, ".png"))]
    job.masks(pairs, by_table("COCO-Stuff", values))


def _year(split: str) -> str:
    return f"{split}2017"


def _named(path: str, year: str, suffix: str) -> bool:
    return Path(path).parent.name == year and _of(suffix).fullmatch(Path(path).name) is not None


def _holds(folder: Path, suffix: str) -> bool:
    pattern = _of(suffix)
    return folder.is_dir() and any(pattern.fullmatch(path.name) for path in folder.iterdir())


def _ids(folder: Path, suffix: str) -> set[str]:
    pattern = _of(suffix)
    return {path.stem for path in folder.iterdir() if pattern.fullmatch(path.name)}


@cache
def _of(suffix: str) -> re.Pattern[str]:
    return re.compile(rf"\d{{12}}{re.escape(suffix)}")


def need_root(name: str, root: Path | None) -> Path:
    if root is None:
        raise DataError(f"Got no folder for {name}. Accepted is the folder that holds its files. Give root, or --root.")
    return root
