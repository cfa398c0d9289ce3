"""exp(τ·cos): the cosine of (8) sharpened without clamping. No feature map; sharp for large τ, uniform at 0."""

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
sharpness = "tau"


@dataclass(frozen=True)
class Options:
    """Knobs of the exponential kernel."""

    tau: float = knob(20.0, "τ: gain on the cosine; larger: sharper, 0 is uniform.", low=0, high=1e4)


def rows(products: Float[Tensor, "*H b n"], options: Options) -> tuple[Float[Tensor, "*H b n"], Bool[Tensor, "*H b"] | None]:
    """Normalise exp(τ·cos); torch's softmax takes the row maximum off first, so no τ overflows."""
    return torch.softmax(products.mul_(options.tau), dim=-1), None
