"""max(cos, 0)^p: the clamped cosine of (8) sharpened. No feature map; p = 1 is `cosine`, larger is sharper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.transition.kernels._rows import unit_pair as prepare

__all__ = ["Options", "prepare", "rows"]

low_rank = False
stochastic = True
sharpness = "power"


@dataclass(frozen=True)
class Options:
    """Knobs of the power kernel."""

    power: float = knob(8.0, "p: exponent on the clamped cosine; larger: sharper, 1 is the plain clamped cosine.", low=1e-6, high=1e4)


def rows(products: Float[Tensor, "*H b n"], options: Options) -> tuple[Float[Tensor, "*H b n"], Bool[Tensor, "*H b"] | None]:
    """Normalise cos^p over positive cosines; a row without one is stuck."""
    # As exp(p·log cos) less its row maximum: 0.2^100 would underflow to a row of zeros.
    made = torch.softmax(products.clamp_(min=0).log_().mul_(options.power), dim=-1)
    stuck = made[..., 0].isnan()
    if not bool(stuck.any()):
        return made, None
    return made.masked_fill_(stuck[..., None], 0.0), stuck
