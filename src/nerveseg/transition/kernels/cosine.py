"""max(cos, 0): the paper's affinity (8) made stochastic. No feature map, no sharpness."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from nerveseg.transition.kernels._rows import normalised
from nerveseg.transition.kernels._rows import unit_pair as prepare

__all__ = ["Options", "prepare", "rows"]

low_rank = False
stochastic = True
sharpness = None


@dataclass(frozen=True)
class Options:
    """No knobs."""


def rows(products: Float[Tensor, "*H b n"], options: Options) -> tuple[Float[Tensor, "*H b n"], Bool[Tensor, "*H b"] | None]:
    """Clamp the cosines at 0 and divide by the row sums; a row without a positive cosine is stuck."""
    return normalised(products.clamp_(min=0))
