"""What several kernels share."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from nerveseg.transition.lengths import unit

__all__ = ["normalised", "unit", "unit_pair"]


def unit_pair(
    queries: Float[Tensor, "*H n d"], keys: Float[Tensor, "*H n d"], grid: tuple[int, int], options: object
) -> tuple[Float[Tensor, "*H n d"], Float[Tensor, "*H n d"]]:
    """Scale both sides to unit length, so that products are cosines: the ``prepare`` of every kernel made of cosines."""
    left = unit(queries)
    return left, left if keys is queries else unit(keys)


def normalised(affinity: Float[Tensor, "*H b n"]) -> tuple[Float[Tensor, "*H b n"], Bool[Tensor, "*H b"] | None]:
    """Divide non-negative rows by their sums, in place; rows that sum to 0 stay 0 and are flagged."""
    sums = affinity.sum(dim=-1, keepdim=True)
    stuck = sums[..., 0] <= 0
    rows = affinity.div_(sums.masked_fill_(stuck[..., None], 1.0))
    return rows, stuck if bool(stuck.any()) else None
