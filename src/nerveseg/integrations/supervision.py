"""supervision's ``Detections``, by an optional library. Checked with supervision 0.31.2, which needs no OpenCV; versions before 0.30 do."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from nerveseg.errors import MissingExtra
from nerveseg.integrations.segments import Segments

__all__ = ["detections"]


def detections(found: Segments, names: Mapping[int, str], *, skip: int | None = None) -> Any:
    """Tell of segments as supervision does.

    Args:
        found: the segments.
        names: id → name.
        skip: an id that is not told of.

    Returns:
        A ``supervision.Detections`` of o segments, in their order: ``mask`` (o, H, W) bool, ``xyxy`` as supervision makes boxes of
        masks (the last column and row are inside), ``confidence``, ``class_id`` and ``data["class_name"]``. Memory is o·H·W bytes.

    Raises:
        MissingExtra: the library is not installed.
    """
    library = _library()
    kept = [index for index, label in enumerate(found.labels) if label != skip]
    mask = np.zeros((len(kept), *found.numbers.shape), dtype=bool)
    for place, index in enumerate(kept):
        np.equal(found.numbers, index + 1, out=mask[place])
    return library.Detections(
        xyxy=library.mask_to_xyxy(mask),
        mask=mask,
        confidence=np.array([found.scores[index] for index in kept], dtype=float),
        class_id=np.array([found.labels[index] for index in kept], dtype=int),
        data={"class_name": np.array([names[found.labels[index]] for index in kept], dtype=str)},
    )


def _library() -> Any:
    try:
        return importlib.import_module("supervision")
    except ImportError as error:
        raise MissingExtra(
            "Got to_supervision, whose library supervision is not installed. Accepted is version 0.30 or newer, which needs no OpenCV. "
            "Install it with: pip install 'nerveseg[supervision]'."
        ) from error
