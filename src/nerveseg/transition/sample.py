"""Choose the rows that an estimate uses, and measure how concentrated a row is."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["entropy", "sampled"]


def sampled(grid: tuple[int, int], count: int, device: torch.device) -> Int[Tensor, " s"]:
    """Choose about ``count`` token indices, evenly strided and the same in every run; all of them where count ≥ n.

    The stride shares no factor with the grid's width: stride 16 on width 64 would look at four columns only.
    """
    n, width = grid[0] * grid[1], grid[1]
    stride = max(1, n // max(1, count))
    while math.gcd(stride, width) > 1:
        stride += 1
    return torch.arange(0, n, min(stride, n), device=device)


def entropy(rows: Float[Tensor, "*H s n"]) -> Float[Tensor, "*H s"]:
    """Entropy of each row in nats (12); 0·log 0 = 0, and negative entries of a row that is not stochastic count as 0."""
    tiny = torch.finfo(rows.dtype).tiny
    rows = rows.clamp(min=0)
    return rows.clamp(min=tiny).log_().mul_(rows).sum(dim=-1).neg_()
