"""COCO-Object: 80 things in the images of COCO 2017, and class 0 for all else.

Under the protocol "sclip" masks come from the maps of COCO-Stuff: every kind of stuff **and what is not labelled** is the background, and
no pixel is ignored. Under "cliper" they are the masks that CLIPer and its relatives hand out for the images of COCO 2014, of which 255
is ignored. How those were made nobody states; scores under the two protocols are not comparable.
"""

from __future__ import annotations

from pathlib import Path

from nerveseg import text_files
from nerveseg.datasets import _coco
from nerveseg.datasets._coco import LICENCE, SPLITS, Source, archives, unpacked
from nerveseg.datasets._layout import folder_of, need_folder
from nerveseg.datasets._prepare import Job
from nerveseg.datasets._turn import IGNORED
from nerveseg.datasets.base import IGNORE, DataSet, Item
from nerveseg.errors import DataError
from nerveseg.image import names as images

__all__ = ["archives", "background", "convert", "count", "opened", "protocols", "published", "raw_values", "splits", "unpacked"]

title = "COCO-Object, 80 classes and the rest"
url = "https://cocodataset.org/"
licence = LICENCE
background = True
count = 81
splits = SPLITS
protocols = ("sclip", "cliper")


def published(protocol: str) -> dict[str, int]:
    """Images of each split."""
    return {"val": 5000, "train": 82783} if protocol == "cliper" else _coco.published(protocol)


def raw_values() -> dict[int, int]:
    """Value of the published maps → id: a thing's number plus 1; stuff and 255 are 0."""
    things = count - 1
    numbered = _coco.to_train_ids()
    return {**{value: index + 1 if index < things else 0 for value, index in numbered.items()}, IGNORED: 0}


def opened(root: Path | None, split: str, protocol: str, class_names: str | Path) -> DataSet:
    """A split; masks are those named ``_instanceTrainIds.png`` or the published maps, and under "cliper" those of ``coco_seg_anno``."""
    own = {value: value for value in range(count)}
    if protocol == "cliper":
        return _of_2014(_coco.need_root("coco_object", root), split, class_names, {**own, IGNORED: IGNORE})
    sources = (
        Source("coco_object/annotations/{}", "_instanceTrainIds.png", own, "made beforehand, by whom the files do not say"),
        Source("coco_stuff164k/annotations/{}", "_instanceTrainIds.png", own, "made beforehand, by whom the files do not say"),
        *_coco.raw(raw_values(), "published maps of things and stuff; stuff and what is not labelled are the background"),
    )
    return _coco.made("coco_object", root, split, protocol, class_names, background=background, sources=sources)


def convert(job: Job) -> None:
    """Make masks of 81 values from the published maps; see `_coco.convert`."""
    _coco.convert(job, raw_values(), "_instanceTrainIds.png")


def _of_2014(root: Path, split: str, class_names: str | Path, values: dict[int, int]) -> DataSet:
    home = folder_of("coco_object", root, "coco2014", "coco14")
    folder = need_folder("coco_object", root, home / f"{split}2014")
    masks = home / "coco_seg_anno"
    if not masks.is_dir():
        raise DataError(
            f"Got no folder {masks}. Accepted under the protocol cliper are the masks that CLIPer's authors hand out, which have no "
            "licence and cannot be prepared. Get them from their page, or take the protocol sclip."
        )
    names = _names_of_2014(home, folder, split)
    items = tuple(Item(stem, folder / f"{stem}.jpg", masks / f"{stem[-12:]}.png") for stem in names)
    source = Source("coco_seg_anno", ".png", values, "as CLIPer's authors hand them out")
    return _coco.opened("coco_object", root, split, "cliper", class_names, background=background, source=source, items=items)


def _names_of_2014(home: Path, folder: Path, split: str) -> tuple[str, ...]:
    """val_5k in the order of the list on disk, or else of the ids; all of train."""
    if split == "val":
        listed = home / "val_5k.txt"
        if listed.is_file():  # some lists have the image's classes behind its name
            text = text_files.read(listed, "the list", DataError)
            return tuple(images.stem(images.fields(line)[0].rpartition("/")[2]) for _, line in images.lines(text.split("\n")))
        return tuple(f"COCO_val2014_{each}" for each in _coco.val_ids())
    found = tuple(sorted(path.stem for path in folder.glob("COCO_train2014_*.jpg")))
    if not found:
        raise DataError(f"Got {folder} without an image of COCO 2014. Accepted is the folder of train2014.zip. Unpack it there.")
    return found
