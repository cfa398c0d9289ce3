"""The labels painted over the picture, as a PNG for people to look at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import check_holds, replacing

__all__ = ["Options", "holds", "suffix", "write"]

suffix = ".overlay.png"
_LOOKED_AT = 640  # pixels on the longer side that are comfortable to look at


@dataclass(frozen=True)
class Options:
    """How it is painted."""

    alpha: float = knob(0.55, "Strength of the colours. 0: the picture alone; 1: the colours alone.", low=0.0, high=1.0, source="taste")
    legend: bool = knob(default=True, doc="Add the labels' names below the picture.", source="taste")
    scale: int = knob(
        0, "Whole-number enlargement; 0: small pictures as often as fits 640 pixels, others not at all.", low=0, high=32, source="taste"
    )


def holds(labels: int) -> bool:
    """Any number; past 30 in one picture the legend counts the rest."""
    return labels >= 1


def write(segmentation: Segmentation, path: Path, options: Options) -> tuple[Path, ...]:
    """Write the overlay."""
    check_holds(sys.modules[__name__], len(segmentation.labels), path)
    scale = options.scale or max(1, _LOOKED_AT // max(segmentation.size))
    with replacing(path) as (draft,):
        segmentation.overlay(alpha=options.alpha, legend=options.legend, scale=scale).save(draft, format="PNG")
    return (path,)
