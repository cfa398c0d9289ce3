"""CVAT's "Segmentation mask 1.1": ``cvat.zip`` for "Upload annotations", and ``labels.json`` for a new task's "Raw" labels.

In the zip: ``labelmap.txt``, ``ImageSets/Segmentation/default.txt``, ``SegmentationClass/STEM.png`` in the labels' colours and
``SegmentationObject/STEM.png`` in the objects' (1 … 255, in Pascal VOC's colours). Black is no label: the background, and ignored pixels,
which ``run.json`` tells apart. The two folders stay beside the zip, as they are in it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerveseg.image.decode import open_image
from nerveseg.masks.palette import voc_palette
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _collection, _labelmap, _rle
from nerveseg.writers._runs import Objects, each_knob, objects
from nerveseg.writers.base import Reading, reading_back, replacing

__all__ = ["JOINED", "Options", "finish", "holds", "part", "read", "suffix"]

suffix = ""
JOINED = "cvat.zip"
_CLASS, _OBJECT, _LIST = "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation/default.txt"
_OBJECTS = 255  # CVAT knows as many colours of objects
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say


@dataclass(frozen=True)
class Options:
    """What is an object."""

    each: str = each_knob("label")


def holds(labels: int) -> bool:
    """Up to 254 beside the background."""
    return labels <= _labelmap.LABELS


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """Write an image's two masks. Of more than 255 parts the largest are objects of their own, the rest one a label."""
    _labelmap.check(sys.modules[__name__], segmentation, stem, folder)
    made = _collection.begin(segmentation, stem, folder=folder, id_shift=_labelmap.SHIFT)
    stored = _labelmap.shifted(segmentation, made["shared"], 0)
    zero = _labelmap.values(made["shared"])[1]
    numbered = _numbered(objects(segmentation, options.each, skip=zero))
    colours = voc_palette()
    paths = _collection.below(folder, stem, ".png", _CLASS), _collection.below(folder, stem, ".png", _OBJECT)
    with replacing(*paths) as drafts:
        for draft, values in zip(drafts, (stored, numbered), strict=True):
            Image.fromarray(colours[values]).save(draft, format="PNG")
    made["picture"]["ignored"] = None if zero is None else _rle.ignored(segmentation)
    return {**made, "files": [path.relative_to(folder).as_posix() for path in paths]}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write ``cvat.zip``, ``labels.json`` and ``run.json``.

    Raises:
        OutputError: a mask that is gone.
    """
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    paths = folder / JOINED, folder / "labels.json", folder / _collection.RUN
    with (
        replacing(*paths) as (draft, labels, note),
        _collection.JsonListWriter(folder, "pictures") as run,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as names,
        zipfile.ZipFile(draft, "w") as archive,
    ):
        for entry in parts:
            for file in entry["files"]:
                _store(archive, file, (folder / file).read_bytes())
            names.write(f"{entry['stem']}\n")
            run.add("pictures", entry["picture"])
        names.seek(0)
        _store(archive, _LIST, names.read().encode())
        _store(archive, "labelmap.txt", _labelmap.labelmap(common).encode())
        labels.write_text(_raw(common), encoding="utf-8", newline="\n")
        run.save(note, _collection.run_head(common, "cvat"))
    return paths


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back from the zip, in the order they were written.

    Raises:
        ImageError: not what `finish` writes.
    """
    path = Path(folder) / JOINED
    run = _collection.read_run(folder, "cvat")
    with reading_back(path), zipfile.ZipFile(path) as archive:
        for image in run["pictures"]:
            held = open_image(BytesIO(archive.read(f"{_CLASS}/{image['stem']}.png")), str(path))
            ids = _labelmap.unshifted(_values(np.asarray(held.convert("RGB"))), run)
            if image["ignored"]:
                _rle.fill(ids, image["ignored"], run["ignore_index"])
            yield image["stem"], _collection.reading(ids, run, image)


def _numbered(found: Objects) -> UInt8[np.ndarray, "H W"]:
    """Objects numbered from 1; of more than there are colours, the smaller parts of a label share a number."""
    count = found.label.size
    alone = np.ones(count, dtype=bool)
    if count > _OBJECTS:
        alone[np.argsort(-found.area, kind="stable")[_OBJECTS - np.unique(found.label).size :]] = False
    fresh = alone.copy()  # the first of those that share, in each label
    rest = np.flatnonzero(~alone)
    fresh[rest[np.unique(found.label[rest], return_index=True)[1]]] = True
    numbers = np.cumsum(fresh)
    shared = dict(zip(found.label[rest[::-1]].tolist(), numbers[rest[::-1]].tolist(), strict=True))  # of each label the first wins
    numbers[rest] = [shared[label] for label in found.label[rest].tolist()]
    return found.painted(numbers.astype(np.int64)).astype(np.uint8)


def _values(colours: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """The value that each of Pascal VOC's colours stands for: their bits dealt back."""
    values = np.zeros(colours.shape[:2], dtype=np.uint32)
    for level in range(8):
        for channel in range(3):
            values |= ((colours[..., channel].astype(np.uint32) >> (7 - level)) & 1) << (3 * level + channel)
    return np.minimum(values, 255).astype(np.uint8)


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
    archive.writestr(entry, content, compress_type=zipfile.ZIP_STORED)


def _raw(common: Mapping[str, Any]) -> str:
    colours = voc_palette().tolist()
    found, zero = _labelmap.values(common)
    labels: list[dict[str, Any]] = [
        {"name": label["name"], "color": "#{:02x}{:02x}{:02x}".format(*colours[value]), "attributes": []}
        for value, label in zip(found, common["labels"], strict=True)
        if label["id"] != zero
    ]
    return json.dumps(labels, ensure_ascii=False, indent=2) + "\n"
