"""The most probable label wins if it is probable enough; the rest of the image is background (the rule of the SCLIP family)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nerveseg.masks.rules.base import ClassStats, Extremes, Line, plain
from nerveseg.registry import knob

__all__ = ["Options", "least", "line", "threshold", "transform"]


@dataclass(frozen=True)
class Options:
    """Where the floor lies."""

    floor: float = knob(
        0.1,
        "Probability below which a pixel is background, where there is one. Larger: more background.",
        low=0.0,
        high=1.0,
        source="SCLIP (arXiv 2312.01597), its configuration for Pascal VOC with background; others use 0.1 to 0.5",
    )
    area: float = knob(
        0.0,
        "Share of all pixels won by labels that a label must exceed, where there is a background; else it is dropped. "
        "Larger: fewer labels, small things are lost; 0: none is dropped.",
        low=0.0,
        high=1.0,
        source="off; SCLIP: 0.1 on Pascal VOC with background",
    )


def transform(maps: Float[Tensor, "c H W"], stats: ClassStats, options: Options) -> Float[Tensor, "c H W"]:
    """Return the maps as they are."""
    return maps


def threshold(options: Options) -> float:
    """The floor."""
    return options.floor


def least(options: Options) -> float:
    """The area; it is looked at before the floor."""
    return options.area


def line(stats: ClassStats, extremes: Extremes, options: Options) -> Line:
    """The maps as they are."""
    return plain(stats)
