"""COCO panoptic: ``panoptic.json``, and ``panoptic/STEM.png`` whose colours are segments' ids, R + 256 G + 256² B; 0 is no segment.

A segmentation by words knows labels, not things. So a segment is all pixels of a label (``isthing`` 0) unless the label is named a
thing: then each connected part of it is a segment (``isthing`` 1), and two that touch are one. Categories are ids + 1. Ignored
pixels are 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32
from PIL import Image

from nerveseg.errors import OutputError
from nerveseg.image.decode import open_image
from nerveseg.masks.palette import wheel
from nerveseg.parse import from_json
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.words.vocabulary import Vocabulary
from nerveseg.writers import _collection
from nerveseg.writers._runs import Objects, objects
from nerveseg.writers.base import Reading, check_holds, reading_back, replacing

__all__ = ["FOLDER", "JOINED", "Options", "finish", "holds", "part", "read", "suffix"]

suffix = ""
JOINED = "panoptic.json"
FOLDER = "panoptic"
_SHIFT = 1


@dataclass(frozen=True)
class Options:
    """Which labels are things."""

    things: str = knob(
        "",
        "Labels whose every connected part is a segment, parted by commas; * is all. Others are one segment an image.",
        source="nothing in a segmentation by words tells a thing from a stuff",
    )


def holds(labels: int) -> bool:
    """Up to 65535 labels, what a result holds."""
    return labels <= 65535


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """Write an image's PNG.

    Raises:
        OutputError: a thing that is no label.
    """
    check_holds(sys.modules[__name__], len(segmentation.labels), folder)
    things = _things(segmentation, options.things)
    path = _collection.below(folder, stem, ".png", FOLDER)
    numbers, segments = _segments(segmentation, things)
    with replacing(path) as (draft,):
        Image.fromarray(_colours(numbers)).save(draft, format="PNG")
    made = _collection.begin(segmentation, stem, [path], folder=folder, id_shift=_SHIFT)
    return {**made, "segments": segments, "things": sorted(things)}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write ``panoptic.json`` and ``run.json``."""
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    joint, note = folder / JOINED, folder / _collection.RUN
    things: list[int] = []
    with (
        replacing(joint, note) as (draft, note_draft),
        _collection.JsonListWriter(folder, "annotations", "images") as out,
        _collection.JsonListWriter(folder, "pictures") as run,
    ):
        for image_id, entry in enumerate(parts, start=1):
            image, things = entry["picture"], entry["things"]
            run.add("pictures", image)
            out.add("images", {"id": image_id, "file_name": image["file"], "width": image["width"], "height": image["height"]})
            segments = [_segment(segment) for segment in entry["segments"]]
            out.add("annotations", {"image_id": image_id, "file_name": f"{entry['stem']}.png", "segments_info": segments})
        out.save(draft, _head(common, things))
        run.save(note_draft, _collection.run_head(common, "panoptic"))
    return joint, note


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back, in the order they were written.

    Raises:
        ImageError: not what `part` and `finish` write.
    """
    folder = Path(folder)
    run = _collection.read_run(folder, "panoptic")
    with reading_back(folder):
        told = from_json((folder / JOINED).read_text(encoding="utf-8"))
        for image, entry in zip(run["pictures"], told["annotations"], strict=True):
            numbers = _numbers(folder / FOLDER / entry["file_name"])
            known = np.array([0, *(segment["id"] for segment in entry["segments_info"])], dtype=np.int64)
            values = [run["ignore_index"], *(segment["category_id"] - _SHIFT for segment in entry["segments_info"])]
            table = np.full(int(max(known.max(), numbers.max(initial=0))) + 1, run["ignore_index"], dtype=np.uint16)
            table[known] = values
            yield image["stem"], _collection.reading(table[numbers], run, image)


def _things(segmentation: Segmentation, line: str) -> frozenset[int]:
    if line.strip() in ("", "*"):
        return frozenset(range(len(segmentation.labels)) if line.strip() else ()) - {segmentation.background}
    ids = segmentation.label2id
    for name in (found := Vocabulary.parse_line(line).names):
        if name not in ids:
            raise OutputError(f"Got the thing {name!r}. Accepted are {', '.join(ids)}, or * for all. Name labels of the result.")
    return frozenset(ids[name] for name in found)


def _segments(segmentation: Segmentation, things: frozenset[int]) -> tuple[UInt32[np.ndarray, "H W"], list[dict[str, Any]]]:
    """The map of segments' numbers, from 1 by label, and what is told of each."""
    numbers = np.zeros(segmentation.size, dtype=np.uint32)
    found: list[tuple[Objects, int]] = []
    for kind in ("label", "part") if things else ("label",):
        some = objects(segmentation, kind)
        found += [(some, index) for index, label in enumerate(some.label.tolist()) if (label in things) == (kind == "part")]
    found.sort(key=lambda entry: int(entry[0].label[entry[1]]))
    own = {id(some): np.zeros(some.label.size, dtype=np.int64) for some, _ in found}
    told: list[dict[str, Any]] = []
    for number, (some, index) in enumerate(found, start=1):
        own[id(some)][index] = number
        left, top, right, bottom = some.box[index].tolist()
        told.append(
            {"id": number, "label": int(some.label[index]), "area": int(some.area[index]), "box": [left, top, right - left, bottom - top]}
        )
    for some in {id(some): some for some, _ in found}.values():
        numbers += some.painted(own[id(some)])
    return numbers, told


def _segment(segment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": segment["id"],
        "category_id": segment["label"] + _SHIFT,
        "iscrowd": 0,
        "area": segment["area"],
        "bbox": segment["box"],
    }


def _head(common: Mapping[str, Any], things: list[int]) -> dict[str, Any]:
    labels = common["labels"]
    colours = wheel(len(labels), background=common["background"]).tolist()
    return {
        "info": {"description": "labelled by nerveseg", "version": common["versions"]["nerveseg"]},
        "licenses": [],
        "categories": [
            {
                "id": label["id"] + _SHIFT,
                "name": label["name"],
                "supercategory": "",
                "isthing": int(label["id"] in things),
                "color": colours[label["id"]],
            }
            for label in labels
        ],
    }


def _colours(numbers: UInt32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1).astype(np.uint8)


def _numbers(path: Path) -> UInt32[np.ndarray, "H W"]:
    with path.open("rb") as file:
        colours = np.asarray(open_image(file, str(path)).convert("RGB")).astype(np.uint32)
    return colours[..., 0] + (colours[..., 1] << 8) + (colours[..., 2] << 16)
