"""The labels painted over the image, as a PNG for people to look at."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import check_holds, replacing

__all__ = ["Options", "holds", "put", "suffix", "write"]

suffix = ".overlay.png"
_LOOKED_AT = 640  # pixels on the longer side that are comfortable to look at
_LARGE = 1 << 22  # pixels from which seconds weigh more than bytes: zlib's default takes three times as long as its run lengths


@dataclass(frozen=True)
class Options:
    """How it is painted."""

    alpha: float = knob(0.55, "Strength of the colours. 0: the image alone; 1: the colours alone.", low=0.0, high=1.0, source="taste")
    legend: bool = knob(default=True, doc="Add the labels' names below the image.", source="taste")
    scale: int = knob(
        0, "Whole-number enlargement; 0: small images as often as fits 640 pixels, others not at all.", low=0, high=32, source="taste"
    )


def holds(labels: int) -> bool:
    """Any number; past 60 in one image the legend counts the rest."""
    return labels >= 1


def write(segmentation: Segmentation, path: Path, options: Options) -> tuple[Path, ...]:
    """Write the overlay."""
    check_holds(sys.modules[__name__], len(segmentation.labels), path)
    scale = options.scale or max(1, _LOOKED_AT // max(segmentation.size))
    with replacing(path) as (draft,):
        put(segmentation.overlay(alpha=options.alpha, legend=options.legend, scale=scale), draft)
    return (path,)


def put(image: Image.Image, target: Path | BytesIO) -> None:
    """Write an overlay as PNG."""
    kind = zlib.Z_RLE if image.width * image.height >= _LARGE else zlib.Z_DEFAULT_STRATEGY
    image.save(target, format="PNG", compress_type=kind)
