"""The most probable label wins: nothing is rescaled."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nerveseg.masks.rules.base import ClassStats, Extremes, Line, plain

__all__ = ["Options", "line", "transform"]


@dataclass(frozen=True)
class Options:
    """No knobs."""


def transform(maps: Float[Tensor, "c H W"], stats: ClassStats, options: Options) -> Float[Tensor, "c H W"]:
    """Return the maps as they are."""
    return maps


def line(stats: ClassStats, extremes: Extremes, options: Options) -> Line:
    """The maps as they are."""
    return plain(stats)
