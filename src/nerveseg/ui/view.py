"""Convert a result to plain data for the browser: the image, one map of ids and confidences, and the legend."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerveseg.clicks import Click
from nerveseg.image import LoadedImage
from nerveseg.masks.palette import wheel
from nerveseg.segmentation import Segmentation

__all__ = ["LONGEST", "image_data", "image_head", "legend", "maps", "marks", "shown_size", "thumbnail"]

LONGEST = 1280
"""Pixels of the longer side that the browser gets of an image: larger ones are drawn smaller there, and kept whole here."""

_LOSSLESS = 640  # pixels of the longer side up to which an image goes as PNG: the codec's rings would be seen when it is enlarged
_PERCENT = 100


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what is drawn of an image of that size."""
    share = min(1.0, LONGEST / max(size))
    height, width = (max(1, round(side * share)) for side in size)
    return height, width


def image_data(image: LoadedImage) -> dict[str, Any]:
    """The image for the browser: ``key`` (its digest), ``url`` (a data URL), ``name``, ``size`` and ``shown`` (height, width)."""
    shown = shown_size(image.size)
    pil_image = image.to_pil()
    if shown != image.size:
        pil_image = pil_image.resize((shown[1], shown[0]), Image.Resampling.LANCZOS)
    return {**image_head(image), "url": _url(pil_image, "PNG" if max(shown) <= _LOSSLESS else "JPEG")}


def image_head(image: LoadedImage) -> dict[str, Any]:
    """`image_data` without the image, for a browser that has it."""
    return {"key": image.sha256, "name": image.name, "size": list(image.size), "shown": list(shown_size(image.size))}


def thumbnail(pixels: UInt8[np.ndarray, "H W 3"], longest: int = 192) -> str:
    """A small square cut of an image, as a data URL."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    image = Image.fromarray(pixels[top : top + side, left : left + side])
    image.thumbnail((longest, longest))
    return _url(image, "PNG")


def maps(result: Segmentation) -> str:
    """Ids and confidences at the size that is drawn: base64 of the zlib stream of h·w ids (two bytes each, the lower first), row by row,
    and h·w confidences in percent (a byte each).

    The value of a drawn pixel is that of the image's pixel under its centre, never a mixture.
    """
    shown = shown_size(result.size)
    rows, columns = (_centres(length, full) for length, full in zip(shown, result.size, strict=True))
    ids = result.segmentation.numpy()[np.ix_(rows, columns)].astype("<u2")
    sure = result.confidence().numpy()[np.ix_(rows, columns)]
    percent = np.rint(sure * _PERCENT).astype(np.uint8)
    return base64.b64encode(zlib.compress(ids.tobytes() + percent.tobytes(), 3)).decode("ascii")


def legend(result: Segmentation) -> list[dict[str, Any]]:
    """One entry a label in id order: ``name``, ``words`` (its strings), ``colour`` (as #rrggbb) and ``share`` of the image."""
    colours = wheel(len(result.labels), background=result.background)
    shares = result.shares()
    return [
        {"name": label.name, "words": list(label.strings), "colour": _hex(colours[index]), "share": round(shares[label.name], 6)}
        for index, label in enumerate(result.labels)
    ]


def marks(clicks: Sequence[Click], result: Segmentation) -> list[dict[str, Any]]:
    """Where the clicks were: ``x`` and ``y`` in pixels of the image, and the ``id`` that they gave."""
    ids = {string: index for index, label in enumerate(result.labels) for string in (*label.strings, label.name)}
    return [{"x": x, "y": y, "id": ids.get(click.label, 0)} for click in clicks for x, y in click.points]


def _centres(length: int, full: int) -> np.ndarray:
    return ((np.arange(length) + 0.5) * full / length).astype(np.int64)


def _hex(colour: UInt8[np.ndarray, " c"]) -> str:
    return "#" + bytes(colour.tolist()).hex()


def _url(image: Image.Image, kind: str) -> str:
    out = BytesIO()
    image.save(out, format=kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
