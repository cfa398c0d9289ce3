"""Each class is measured in its own standard deviations over the image, times a power of its class score.

value_c(pixel) = (map_c(pixel) − mean map_c) / std map_c · s_c^power,   s_c = ½·max P_c + ½·max G_c
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.masks.rules.base import ClassStats
from nerveseg.registry import knob

__all__ = ["Options", "transform"]

_FLAT = 1e-6  # spread, relative to the class's largest value, that is float32 noise of an even map


@dataclass(frozen=True)
class Options:
    """How much the class score counts."""

    score_power: float = knob(
        0.5,
        "Power of the class score. 0: plain z-score, which finds every label somewhere; larger: absent labels are held down harder.",
        low=0.0,
        high=4.0,
        source="strongest rule of a study on rendered scenes with absent labels in the list",
    )


def transform(maps: Float[Tensor, "c H W"], stats: ClassStats, options: Options) -> Float[Tensor, "c H W"]:
    """Subtract each map's mean over the image, divide by its standard deviation, weigh by the class score.

    A map that is the same everywhere becomes 0, which is the mean of every other class.
    """
    mean = maps.mean(dim=(1, 2), keepdim=True)
    centred = maps - mean
    spread = centred.square().mean(dim=(1, 2), keepdim=True).sqrt()
    flat = spread <= _FLAT * torch.amax(maps.abs(), dim=(1, 2), keepdim=True)
    z = torch.where(flat, torch.zeros_like(centred), centred / torch.where(flat, torch.ones_like(spread), spread))
    return z * stats.score[:, None, None].to(maps.dtype).clamp_min(0.0).pow(options.score_power)
