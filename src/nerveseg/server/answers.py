"""Encode a result for the client: the label map as a PNG, JSON with one run-length encoded mask per label, or a zip of files."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Bool

from nerveseg.segmentation import Segmentation
from nerveseg.server.problems import Problem
from nerveseg.writers import overlay, png
from nerveseg.writers._rle import counts, pack
from nerveseg.writers.base import record, to_json

__all__ = ["JSON", "KINDS", "PNG", "ZIP", "chosen", "render"]

PNG, JSON, ZIP = "image/png", "application/json", "application/zip"
KINDS = (PNG, JSON, ZIP)
"""What can be asked for; the first is given where all are as welcome."""

_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: the same result gives the same bytes
_LOOKED_AT = 640


def chosen(accept: str | None) -> str:
    """The media type for an ``Accept`` header, by its weights.

    >>> chosen(None), chosen("application/json"), chosen("text/html, application/zip;q=0.5, image/*;q=0.4")
    ('image/png', 'application/json', 'application/zip')

    Raises:
        Problem: 406.
    """
    if accept is None or not accept.strip():
        return KINDS[0]
    ranges = [_range(part) for part in accept[:1000].split(",")]
    weights = {kind: _weight(kind, ranges) for kind in KINDS}
    best = max(KINDS, key=lambda kind: weights[kind])  # the first of equals
    if weights[best] <= 0:
        raise Problem(406, "accept", f"Got an Accept header that takes none of {', '.join(KINDS)}. Accepted is one of them. Ask for it.")
    return best


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    return name, 0.0 if math.isnan(weight) else weight


def _weight(kind: str, ranges: list[tuple[str, float]]) -> float:
    for name in (kind, kind.partition("/")[0] + "/*", "*/*"):  # the closest range decides
        found = [weight for given, weight in ranges if given == name]
        if found:
            return found[0]
    return 0.0


def render(result: Segmentation, kind: str, notes: tuple[str, ...], check: Callable[[], None]) -> bytes:
    """Make the body. The same result gives the same bytes.

    Args:
        result: what to show.
        kind: one of `KINDS`.
        notes: remarks on the words; those on the image are added.
        check: called between steps; may raise to end the work.
    """
    if kind == PNG:
        return _png(result)
    if kind == JSON:
        return json.dumps(_content(result, notes, check), ensure_ascii=True, allow_nan=False).encode()
    return _zip(result, notes, check)


def _png(result: Segmentation) -> bytes:
    out = BytesIO()
    png.image(result).save(out, format="PNG")
    return out.getvalue()


def _content(result: Segmentation, notes: tuple[str, ...], check: Callable[[], None]) -> dict[str, Any]:
    ids = result.segmentation.numpy()
    sure = result.confidence().numpy()
    segments: list[Mapping[str, Any]] = []
    for index, label in enumerate(result.labels):
        check()
        mask = ids == index
        area = int(mask.sum())
        if area:
            score = float(sure[mask].mean(dtype=np.float64))
            left, top, width, height = box = _box(mask)
            runs = counts(mask[top : top + height, left : left + width], result.size, top=top, left=left)
            rle = {"size": list(result.size), "counts": pack(runs)}
            segments.append({"id": index, "label": label.name, "area": area, "score": score, "box": box, "rle": rle})
    height, width = result.size
    return {
        "size": [height, width],
        "labels": [{"id": index, "name": label.name, "words": list(label.strings)} for index, label in enumerate(result.labels)],
        "background": result.background,
        "ignore": result.ignore_index,
        "segments": segments,
        "recipe": result.recipe,
        "picture": result.image.sha256,
        "notes": [*result.image.notes, *notes],
    }


def _box(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """Left, top, width, height."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def _zip(result: Segmentation, notes: tuple[str, ...], check: Callable[[], None]) -> bytes:
    painted = BytesIO()
    overlay.put(result.overlay(scale=max(1, _LOOKED_AT // max(result.size))), painted)
    check()
    run = to_json({**record(result), "words": list(notes)}).encode()
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("labels.png", _png(result)), ("labels.run.json", run), ("labels.overlay.png", painted.getvalue())):
            check()
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return out.getvalue()
