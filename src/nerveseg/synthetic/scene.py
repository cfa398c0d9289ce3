"""What a renderer of scenes returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerveseg.reprs import brief

__all__ = ["Scene"]


@dataclass(frozen=True)
class Scene:
    """One rendered scene.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, ids are places in `nerveseg.synthetic.names.NAMES`; every pixel has one.
        names: the names whose pixels are in the mask, things first, each once.
        caption: one sentence about what is there, and nothing about where it is.
        told: those of ``names`` that the caption speaks of, be it by a synonym; all of them in the first world.
        foil: a sentence like the caption with one thing in it that is not so; empty in the first world.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    names: tuple[str, ...]
    caption: str
    told: tuple[str, ...]
    foil: str = ""

    __repr__ = brief
