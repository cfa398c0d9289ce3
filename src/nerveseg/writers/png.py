"""The label map as a PNG: pixel = id. Mode P with Pascal VOC's colours up to 255 labels, 16-bit grey beyond; a record beside it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nerveseg.errors import ImageError
from nerveseg.image.decode import open_image
from nerveseg.masks.palette import moved, voc_palette
from nerveseg.parse import from_json
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import Reading, check_holds, labels_of, reading_back, record, replacing, to_json

__all__ = ["Options", "files", "holds", "image", "read", "sidecar", "suffix", "write"]

suffix = ".png"


@dataclass(frozen=True)
class Options:
    """What is written."""

    sidecar: bool = knob(
        default=True, doc="Also write NAME.run.json: labels, recipe, versions, digests.", source="without it nobody can tell what id 3 is"
    )


def holds(labels: int) -> bool:
    """Up to 65535 labels: the last 16-bit id is kept for ignored pixels."""
    return labels <= 65535


def sidecar(path: Path) -> Path:
    """Where the record of a label map is: ``a.png`` → ``a.run.json``."""
    return path.with_suffix(".run.json")


def files(path: Path, options: Options) -> tuple[Path, ...]:
    """What `write` writes."""
    return (path, sidecar(path)) if options.sidecar else (path,)


def write(segmentation: Segmentation, path: Path, options: Options) -> tuple[Path, ...]:
    """Write the ids, and the record first: where the PNG is, the record is."""
    check_holds(sys.modules[__name__], len(segmentation.labels), path)
    drawn = image(segmentation)
    if not options.sidecar:
        with replacing(path) as (draft,):
            drawn.save(draft, format="PNG")
        return (path,)
    with replacing(sidecar(path), path) as (note, draft):
        note.write_text(to_json(record(segmentation)), encoding="utf-8")
        drawn.save(draft, format="PNG")
    return path, sidecar(path)


def read(path: str | Path) -> Reading:
    """Read ids and labels back.

    Raises:
        ImageError: no label map that `write` makes, or a record that is no JSON.
    """
    path = Path(path)
    with reading_back(path), path.open("rb") as file:
        held = open_image(file, str(path))
        held.load()
    if held.mode not in ("P", "L", "I;16"):
        raise ImageError(f"Got {path} of mode {held.mode}. Accepted are P, L and I;16, one id a pixel. An image of colours holds no ids.")
    if held.mode == "P" and (odd := moved(np.asarray(held), held.getpalette("RGB") or [])) is not None:
        raise ImageError(
            f"Got {path} whose palette has another colour at {odd} than was written: somebody numbered the ids anew. Accepted is the "
            "file as it was written. Write it again."
        )
    run: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    if (note := sidecar(path)).is_file():
        with reading_back(note):
            run = from_json(note.read_text(encoding="utf-8"))
            labels = labels_of(run)
    return Reading(np.asarray(held).astype(np.uint16), labels, run)


def image(segmentation: Segmentation) -> Image.Image:
    """The label map as `write` saves it."""
    ids = segmentation.segmentation.numpy()
    if segmentation.ignore_index > 255:
        return Image.fromarray(ids.astype(np.uint16))
    indexed = Image.fromarray(ids.astype(np.uint8))
    indexed.putpalette(voc_palette().tobytes())
    return indexed
