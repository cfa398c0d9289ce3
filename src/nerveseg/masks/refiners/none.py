"""No sharpening: the maps pass as they are."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nerveseg.picture.load import Picture

__all__ = ["Options", "refine"]


@dataclass(frozen=True)
class Options:
    """No knobs."""


def refine(P: Float[Tensor, "K H W"], picture: Picture, options: Options) -> Float[Tensor, "K H W"]:
    """Return P as it is."""
    return P
