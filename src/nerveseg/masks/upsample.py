"""Token grid → image size, a few classes at a time so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from nerveseg.errors import ShapeError, StochasticError
from nerveseg.masks.color_likelihood import ColorLikelihoodRatio

__all__ = ["BUDGET", "NOTHING", "Blocks", "between", "check_maps", "picked", "resample", "shares", "to_maps", "totals"]

BUDGET = 1 << 24
"""Bytes that one block of upsampled maps may take (16 MiB); a rule holds three or four such blocks at a time. Blocks of 32 MiB and more
are fresh memory from the system every time, which made hundreds of labels take twice as long."""

Blocks = Iterable[tuple[int, Float[Tensor, "c H W"]]]
"""The id of a block's first class, and its maps; all classes once."""

NOTHING = 1e-12
"""Below this the labels have no probability at a pixel, and a quotient would be noise."""


def resample(P: Float[Tensor, "k h w"], size: tuple[int, int]) -> Float[Tensor, "k H W"]:
    """Interpolate maps bilinearly between pixel centres (align_corners=False).

    Args:
        P: maps on a grid; float16 and bfloat16 are computed in float32.
        size: (height, width) wanted.

    Returns:
        Maps of that size; every value lies between the smallest and largest of its own map. Cost O(k·H·W).

    >>> resample(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    values = P if P.dtype in (torch.float32, torch.float64) else P.float()
    if tuple(values.shape[1:]) == tuple(size):
        return values
    return functional.interpolate(values[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def shares(
    P: Float[Tensor, "k h w"], size: tuple[int, int], *, budget: int = BUDGET, divide: bool = True, odds: ColorLikelihoodRatio | None = None
) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
    """Walk through the classes' shares of each pixel, o_c·Ũ_c / Σ_c o_c·Ũ_c with Ũ the upsampled maps; the shares of a pixel sum to 1.

    Where no class has any probability every class gets 1/k.

    Args:
        P: probabilities ≥ 0 of the labels that are shown, on the token grid. They need not sum to 1.
        size: (height, width) of the image.
        budget: bytes per block. Smaller: more blocks, same numbers.
        divide: False for the upsampled maps as they are; with odds, they keep their sum.
        odds: of classes whose o_c is not 1.

    Yields:
        The id of the block's first class, and the block.
    """
    k = P.shape[0]
    factors: Mapping[int, Tensor] = {} if odds is None else odds.factors(P.device)
    before, total = totals(P, size, factors)
    empty = total <= NOTHING
    somewhere = divide and bool(empty.any())  # rarely: then one pass less over every block
    total = total.clamp_min(NOTHING)
    step = max(1, budget // (4 * max(1, size[0] * size[1])))
    for first in range(0, k, step):
        block = resample(P[first : first + step].float(), size)
        if divide or factors:
            # Into itself, where it is not the caller's: as much fresh memory again takes as long as the division.
            own = block if tuple(P.shape[1:]) != tuple(size) else torch.empty_like(block)
            block = torch.div(block, total, out=own) if divide else torch.mul(block, before / total, out=own)
        for c in factors.keys() & range(first, first + len(block)):
            block[c - first] *= factors[c]
        yield first, block.masked_fill(empty, 1.0 / k) if somewhere else block


def totals(
    P: Float[Tensor, "k h w"], size: tuple[int, int], factors: Mapping[int, Float[Tensor, "H W"]]
) -> tuple[Float[Tensor, "1 H W"], Float[Tensor, "1 H W"]]:
    """Σ_c Ũ_c and Σ_c o_c·Ũ_c at each pixel, o_c being 1 where there is no factor; one and the same tensor without any."""
    plain = resample(P.float().sum(0, keepdim=True), size)
    if not factors:
        return plain, plain
    total = plain.clone()
    for c, factor in factors.items():
        total.addcmul_(resample(P[c : c + 1].float(), size), factor - 1)
    return plain, total


def picked(P: Float[Tensor, "k h w"], ids: Int64[Tensor, "H W"], odds: ColorLikelihoodRatio | None = None) -> Float[Tensor, "H W"]:
    """The share of one class at each pixel: what `shares` says of the class ``ids`` there, without upsampling the others.

    Args:
        P: as for `shares`.
        ids: a class at each pixel; 0 comes out where it is none of the k.
        odds: as for `shares`.

    Cost O(H·W) whatever k is, and as much again for each class that has odds: four values a pixel are looked up.
    """
    size = (ids.shape[0], ids.shape[1])
    k, h, w = P.shape
    values = P.float()
    factors: Mapping[int, Tensor] = {} if odds is None else odds.factors(P.device)
    total = totals(P, size, factors)[1][0]
    inside = (ids >= 0) & (ids < k)
    flat, first = values.flatten(), ids.clamp(0, k - 1) * (h * w)
    (top, bottom, down), (left, right, across) = between(h, size[0], P.device), between(w, size[1], P.device)
    own = torch.zeros_like(total)
    for row, high in ((top, 1 - down), (bottom, down)):
        for column, wide in ((left, 1 - across), (right, across)):
            own.addcmul_(flat.take(first + (row[:, None] * w + column)), high[:, None] * wide)
    for c, factor in factors.items():
        own = torch.where(ids == c, own * factor, own)
    own = torch.where(total > NOTHING, own / total.clamp_min(NOTHING), torch.full_like(own, 1.0 / k))
    return own.masked_fill_(~inside, 0.0)


def between(cells: int, pixels: int, device: torch.device) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Float[Tensor, " p"]]:
    """For each pixel along one side: the cells before and after its centre, and how far it is from the first to the second (0 … 1)."""
    place = ((torch.arange(pixels, device=device) + 0.5) * (cells / pixels) - 0.5).clamp_min_(0.0)
    before = place.floor().long().clamp_max_(cells - 1)
    return before, (before + 1).clamp_max(cells - 1), place - before


def check_maps(P: Tensor, name: str = "P") -> None:
    """Refuse anything but finite maps ≥ 0 of shape (k, h, w) with k, h, w ≥ 1."""
    shape = tuple(P.shape)
    if P.ndim != 3 or 0 in shape or not P.is_floating_point():
        raise ShapeError(
            f"Got {name} of shape {shape} and type {P.dtype}. Accepted are floats of shape (k, h, w). "
            "Reshape (n, k) to (h, w, k) and permute."
        )
    low, high = (float(value) for value in torch.aminmax(P))  # one pass; nan where there is one
    if not (low >= -1e-4 and high < float("inf")):
        raise StochasticError(
            f"Got {name} with values that are negative or not finite. Accepted are probabilities. Check G and the walk before it."
        )


def to_maps(P: Float[Tensor, "n k"], grid: tuple[int, int]) -> Float[Tensor, "k h w"]:
    """Lay the rows of P out on their grid (row by row from the top left): a view, nothing is copied."""
    if P.ndim != 2 or P.shape[0] != grid[0] * grid[1]:
        raise ShapeError(
            f"Got P of shape {tuple(P.shape)} for the grid {grid}. Accepted is one row a token. Give the grid of the same graph."
        )
    return P.T.reshape(P.shape[1], *grid)
