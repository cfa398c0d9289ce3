"""Each class is measured against its own best pixel, times a class score (the rule in CLIPer's code).

    value_c(pixel) = map_c(pixel) / max map_c · s_c,   s_c = ½·max P_c + ½·max G_c

A walk flattens P towards one row for all tokens; dividing by the class's own maximum brings small objects back, and the class score keeps
labels down that are not in the image.

CLIPer itself has ``rest`` and ``divide`` off, ``score_grid = source``, and a score floor and floor for each benchmark; on Pascal VOC with
background it also stretches every map from 0 to 1, whatever its score: ``stretch`` with ``score_power = 0``. iSeg does, too, after maps
have been ``through`` 512 × 512; its background (1 − max)² competes with the labels, which is a floor of (3 − √5)/2 ≈ 0.382.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.masks.rules.base import ClassStats, Extremes, Line, MapExtremes
from nerveseg.registry import knob

__all__ = ["Options", "divides", "line", "score_grid", "threshold", "through", "transform"]

_ABSENT = -1.0  # below every value of a class that is allowed, all of which are ≥ 0
_NOTHING = 1e-12
_FLAT = 1e-6  # share of a map's largest value below which its range is rounding: CLIPer and iSeg guard the same quotient by 1e-6


@dataclass(frozen=True)
class Options:
    """Class score, stretch and floor."""

    score_power: float = knob(
        1.0, "Power of the class score. 0: none; larger: absent labels are held down harder.", low=0.0, high=4.0, source="CLIPer: 1"
    )
    score_grid: str = knob(
        "walk",
        "Grid on which max G_c is looked for. walk: the walk's; source: the label source's own, on which a peak keeps its height.",
        choices=("walk", "source"),
        source="walk; CLIPer: source",
    )
    through: int = knob(
        0,
        "Side of a square on which the maps lie on their way to the image's size, bilinearly. 0: straight.",
        low=0,
        high=4096,
        source="off; iSeg: 512",
    )
    score_floor: float = knob(
        0.0,
        "Classes whose score is at or below it take no part (if any class is above it). Larger: fewer labels, fewer false ones.",
        low=0.0,
        high=1.0,
        source="off; CLIPer sets 0 to 0.7 per benchmark",
    )
    stretch: bool = knob(
        default=False,
        doc="Also subtract each class's smallest value, so that its map runs from 0 to its score.",
        source="off; CLIPer: on for VOC21 only",
    )
    floor: float = knob(
        0.0,
        "Value below which a pixel is background, where there is one. Larger: more background.",
        low=0.0,
        high=1.0,
        source="off; CLIPer sets 1e-4 to 0.6 per benchmark",
    )
    rest: bool = knob(
        default=True,
        doc="Where there is a background: whether what no label takes competes with the labels. Off: only the floor makes background.",
        source="on; CLIPer and iSeg: off",
    )
    divide: bool = knob(
        default=True,
        doc="Divide the maps by their sum at each pixel first. Off: as they are upsampled, so that pixels where all are weak stay weak.",
        source="on; CLIPer and iSeg: off",
    )


def transform(maps: Float[Tensor, "c H W"], stats: ClassStats, options: Options) -> Float[Tensor, "c H W"]:
    """Divide each map by its maximum over the image and multiply it by its class score.

    A map that is 0 everywhere stays 0, and so does one that is stretched and the same everywhere but for rounding. Values are in 0…1.
    """
    return line(stats, MapExtremes(maps), options)(maps)


def line(stats: ClassStats, extremes: Extremes, options: Options) -> Line:
    """One line a class: from 0, or its smallest value, up to its score."""
    top = extremes.top()
    low = extremes.low() if options.stretch else torch.zeros_like(top)
    score = stats.score.to(top)
    gain = score.pow(options.score_power) / (top - low).clamp_min(_NOTHING)
    if options.stretch:
        gain = gain.masked_fill(top - low <= _FLAT * top, 0)
    out = torch.zeros_like(top, dtype=torch.bool)
    if options.score_floor > 0.0:
        out = score <= options.score_floor
    if stats.rest is not None and not options.rest:
        out = out | stats.rest.to(out.device)
    return Line(low, gain.masked_fill(out, 0), torch.zeros_like(top).masked_fill(out, _ABSENT))


def score_grid(options: Options) -> str:
    """The grid that class scores are looked for on."""
    return options.score_grid


def through(options: Options) -> int:
    """Side of the square that maps are resized to first."""
    return options.through


def divides(options: Options) -> bool:
    """As the knob says."""
    return options.divide


def threshold(options: Options) -> float:
    """The floor; 0 lets every value pass."""
    return options.floor
