"""COCO-Stuff 164k: 80 things and 91 kinds of stuff in the images of COCO 2017. What is not labelled is not counted."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import _coco
from nerveseg.datasets._coco import LICENCE, SPLITS, Source, archives, published, unpacked
from nerveseg.datasets._prepare import Job
from nerveseg.datasets._turn import IGNORED
from nerveseg.datasets.base import IGNORE, DataSet

__all__ = ["archives", "background", "convert", "count", "opened", "protocols", "published", "raw_values", "splits", "unpacked"]

title = "COCO-Stuff 164k, 171 classes"
url = "https://github.com/nightrome/cocostuff"
licence = LICENCE
background = False
count = 171
splits = SPLITS
protocols = ("sclip", "cliper")


def raw_values() -> dict[int, int]:
    """Value of the published maps → id: numbered without the gaps, 255 ignored."""
    return {**_coco.to_train_ids(), IGNORED: IGNORE}


def opened(root: Path | None, split: str, protocol: str, class_names: str | Path) -> DataSet:
    """A split; masks are mmseg's ``_labelTrainIds.png``, those of CLIPer's folder ``stuff_anno164``, or the published maps."""
    numbered = {**{value: value for value in range(count)}, IGNORED: IGNORE}
    sources = (
        Source("coco_stuff164k/annotations/{}", "_labelTrainIds.png", numbered, "numbered 0 to 170 beforehand"),
        Source("coco2017/stuff_anno164/{}", ".png", numbered, "numbered 0 to 170 beforehand"),
        *_coco.raw(raw_values(), "published maps of things and stuff, numbered as they are read"),
    )
    return _coco.made("coco_stuff", root, split, protocol, class_names, background=background, sources=sources)


def convert(job: Job) -> None:
    """Number the published maps without gaps; see `_coco.convert`."""
    _coco.convert(job, raw_values(), "_labelTrainIds.png")
