"""A Pascal VOC folder: ``SegmentationClass/STEM.png``, mode P, 0 = background, 255 = ignored, ids larger by one; lists and names.

Layout: ``SegmentationClass/``, ``JPEGImages/`` on request, ``ImageSets/Segmentation/SPLIT.txt``, ``labelmap.txt``, ``run.json``. The label
that is the background (asked for, or called so) is 0; where there is none, 0 does not occur.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nerveseg.errors import ImageError
from nerveseg.image.decode import open_image
from nerveseg.masks.palette import moved, voc_palette
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _collection, _labelmap
from nerveseg.writers.base import Reading, reading_back, replacing

__all__ = ["Options", "finish", "holds", "part", "read", "suffix"]

suffix = ""
_MASKS, _IMAGES, _LISTS = "SegmentationClass", "JPEGImages", "ImageSets/Segmentation"
_IGNORED = 255


@dataclass(frozen=True)
class Options:
    """What is beside the masks."""

    images: bool = knob(
        default=False,
        doc="Also write the images, upright, as JPEG of quality 95.",
        source="the layout has them; most already have theirs",
        was="pictures",
    )
    split: str = knob(
        "train", "Name of the list in ImageSets/Segmentation.", choices=("train", "val", "trainval", "test"), source="VOC's own"
    )


def holds(labels: int) -> bool:
    """Up to 254 beside the background: 0 is the background and 255 ignored."""
    return labels <= _labelmap.LABELS


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """Write an image's mask, and the image where asked for."""
    _labelmap.check(sys.modules[__name__], segmentation, stem, folder)
    made = _collection.begin(segmentation, stem, folder=folder, id_shift=_labelmap.SHIFT)
    paths = [_collection.below(folder, stem, ".png", _MASKS)]
    if options.images:
        paths.append(_collection.below(folder, stem, ".jpg", _IMAGES))
    pil_mask = Image.fromarray(_labelmap.shifted(segmentation, made["shared"], _IGNORED))
    pil_mask.putpalette(voc_palette().tobytes())
    with replacing(*reversed(paths)) as drafts:
        pil_mask.save(drafts[-1], format="PNG")
        if options.images:
            segmentation.image.to_pil().save(drafts[0], format="JPEG", quality=95)
    left_out = bool((segmentation.segmentation >= len(segmentation.labels)).any())
    return {**made, "ignored": left_out, "files": [path.relative_to(folder).as_posix() for path in paths]}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write the list, ``labelmap.txt`` and ``run.json``."""
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    paths = _collection.below(folder, options.split, ".txt", _LISTS), folder / "labelmap.txt", folder / _collection.RUN
    left_out = False
    with replacing(*paths) as (names, labels, note), _collection.JsonListWriter(folder, "pictures") as run:
        with names.open("w", encoding="utf-8", newline="\n") as file:
            for entry in parts:
                left_out |= entry["ignored"]
                file.write(f"{entry['stem']}\n")
                run.add("pictures", entry["picture"])
        labels.write_text(_labelmap.labelmap(common, ignored=_IGNORED if left_out else None), encoding="utf-8", newline="\n")
        run.save(note, _collection.run_head(common, "voc"))
    return paths


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back, in the order they were written.

    Raises:
        ImageError: not what `part` and `finish` write.
    """
    run = _collection.read_run(folder, "voc")
    for image in run["pictures"]:
        path = Path(folder) / _MASKS / f"{image['stem']}.png"
        with reading_back(path), path.open("rb") as file:
            pil_mask = open_image(file, str(path))
            stored = np.asarray(pil_mask)
        if pil_mask.mode != "P":
            raise ImageError(f"Got {path} of mode {pil_mask.mode}. Accepted is P, one value a pixel. Write it again.")
        if (odd := moved(stored, pil_mask.getpalette("RGB") or [])) is not None:
            raise ImageError(
                f"Got {path} whose palette has another colour at {odd} than was written: somebody numbered the ids anew. Accepted is "
                "the file as it was written. Write it again."
            )
        with reading_back(path):
            ids = _labelmap.unshifted(stored, run)
        yield image["stem"], _collection.reading(ids, run, image)
