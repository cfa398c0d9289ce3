"""COCO instances: ``instances.json`` with every object as compressed run lengths, its area and its box.

Layout: ``instances.json`` and ``run.json`` in the folder. Categories are ids + 1, images and annotations count from 1, all
``iscrowd`` 0. Objects do not overlap.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg.parse import from_json
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _collection, _rle
from nerveseg.writers._runs import each_knob, objects
from nerveseg.writers.base import Reading, check_holds, reading_back, replacing

__all__ = ["JOINED", "Options", "finish", "holds", "part", "read", "suffix"]

suffix = ""
JOINED = "instances.json"
_SHIFT = 1  # category ids start at 1: many tools keep 0 for "none"


@dataclass(frozen=True)
class Options:
    """What is an annotation."""

    each: str = each_knob("part")
    background: bool = knob(
        default=False,
        doc="Also annotate the background's pixels as a category. False: they have no annotation, as in COCO.",
        source="COCO's instances annotate things alone",
    )


def holds(labels: int) -> bool:
    """Up to 65535 labels, what a result holds."""
    return labels <= 65535


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """What ``instances.json`` needs of an image; writes no file of its own."""
    check_holds(sys.modules[__name__], len(segmentation.labels), folder)
    skip = None if options.background else segmentation.background
    found = objects(segmentation, options.each, skip=skip)
    told = [
        {"label": label, "area": area, "box": [left, top, right - left, bottom - top], "counts": counts}
        for label, area, (left, top, right, bottom), counts in zip(
            found.label.tolist(), found.area.tolist(), found.box.tolist(), found.packed(), strict=True
        )
    ]
    made = _collection.begin(segmentation, stem, folder=folder, id_shift=_SHIFT)
    if skip is not None:
        made["picture"]["ignored"] = _rle.ignored(segmentation)
    return {**made, "objects": told, "skip": skip}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write ``instances.json`` and ``run.json``."""
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    joint, note = folder / JOINED, folder / _collection.RUN
    skip, number = None, 0
    with (
        replacing(joint, note) as (draft, note_draft),
        _collection.JsonListWriter(folder, "annotations", "images") as out,
        _collection.JsonListWriter(folder, "pictures") as run,
    ):
        for image_id, entry in enumerate(parts, start=1):
            image, skip = entry["picture"], entry["skip"]
            run.add("pictures", image)
            out.add("images", {"id": image_id, "file_name": image["file"], "width": image["width"], "height": image["height"]})
            for thing in entry["objects"]:
                number += 1
                out.add("annotations", _annotation(thing, number, image_id, image))
        out.save(draft, head(common, skip))
        run.save(note_draft, _collection.run_head(common, "coco"))
    return joint, note


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back, in the order they were written; objects that overlap: the later wins.

    Raises:
        ImageError: not what `finish` writes.
    """
    run = _collection.read_run(folder, "coco")
    path = Path(folder) / JOINED
    with reading_back(path):
        told = from_json(path.read_text(encoding="utf-8"))
        objects_of: dict[int, list[dict[str, Any]]] = {image_id["id"]: [] for image_id in told["images"]}
        for entry in told["annotations"]:
            objects_of[entry["image_id"]].append(entry)
        outside = run["ignore_index"] if run["background"] is None else run["background"]
        for image_id, image in enumerate(run["pictures"], start=1):
            annotated = image.get("ignored", _NOTHING) is _NOTHING  # none: the background has annotations, the rest is ignored
            ids = np.full((image["height"], image["width"]), run["ignore_index"] if annotated else outside, dtype=np.uint16)
            for entry in objects_of.get(image_id, []):
                _rle.fill(ids, entry["segmentation"]["counts"], entry["category_id"] - _SHIFT)
            if image.get("ignored"):
                _rle.fill(ids, image["ignored"], run["ignore_index"])
            yield image["stem"], _collection.reading(ids, run, image)


def head(common: Mapping[str, Any], skip: int | None) -> dict[str, Any]:
    """What a COCO file says beside its lists; ``skip`` is an id that is no category."""
    return {
        "info": {"description": "labelled by nerveseg", "version": common["versions"]["nerveseg"]},
        "licenses": [],
        "categories": [
            {"id": label["id"] + _SHIFT, "name": label["name"], "supercategory": ""} for label in common["labels"] if label["id"] != skip
        ],
    }


_NOTHING = object()


def _annotation(thing: Mapping[str, Any], number: int, image_id: int, image: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": thing["label"] + _SHIFT,
        "iscrowd": 0,
        "area": thing["area"],
        "bbox": thing["box"],
        "segmentation": {"size": [image["height"], image["width"]], "counts": thing["counts"]},
    }
