"""The local graph: each token and its eight neighbours, all heads summed into one stencil (9, 10)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerveseg.transition.affinity import paired
from nerveseg.transition.heads import Heads
from nerveseg.transition.lengths import lengths
from nerveseg.transition.operators import Gathered

__all__ = ["stencil"]

# Half of the eight neighbours; the other half is their mirror image.
_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))


def stencil(heads: Heads, weights: Float[Tensor, " H"], *, pairing: str, stay: float, power: float) -> Gathered:
    """Sum the local graphs of all heads, each row-normalised first, into one n × 9 stencil.

    Neighbours beyond the grid's edge are absent from the row and from its sum.

    Args:
        heads: queries and keys.
        weights: (H,) w_h, sums to 1.
        pairing: "qk", "kk" or "qq".
        stay: ε > 0, weight of staying in place; larger: slower walk.
        power: exponent on max(cos, 0); larger: sharper edges.

    Cost: O(H·n·d).
    """
    height, width = heads.grid
    total = torch.zeros(9, height, width, device=weights.device)
    for head in range(heads.count):
        weight = float(weights[head])
        if weight > 0:
            local = _affinities(heads, head, pairing).clamp_(min=0)
            if power != 1:
                local.pow_(power)
            local[4] = stay
            total += local.mul_(weight / local.sum(dim=0))
    return Gathered(_columns(heads.grid).to(weights.device), total.reshape(9, -1).mT.contiguous())


def _affinities(heads: Heads, head: int, pairing: str) -> Float[Tensor, "nine h w"]:
    """Cosine of each token with its eight neighbours, 0 beyond the edge; plane 3(dy + 1) + dx + 1 holds the neighbour (dy, dx)."""
    left, right = paired(heads, head, pairing)
    scales = [lengths(side).reciprocal_().view(heads.grid) for side in (left, right)]
    A, B = left.view(*heads.grid, -1), right.view(*heads.grid, -1)
    out = torch.zeros(9, *heads.grid, device=left.device)
    for dy, dx in _FORWARD:
        here, there = _overlap(heads.grid, dy, dx)
        plane = 3 * (dy + 1) + dx + 1
        forth = (A[here] * B[there]).sum(dim=-1)
        out[plane][here] = forth * scales[0][here] * scales[1][there]
        back = forth if left is right else (A[there] * B[here]).sum(dim=-1)
        out[8 - plane][there] = back * scales[0][there] * scales[1][here]
    return out


def _overlap(grid: tuple[int, int], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The tokens that have a neighbour at (dy, dx), and those neighbours; dy ≥ 0."""
    height, width = grid
    down, up = slice(0, max(0, height - dy)), slice(dy, height)
    near, far = slice(max(0, -dx), max(0, width - max(0, dx))), slice(max(0, dx), max(0, width + min(0, dx)))
    return (down, near), (up, far)


def _columns(grid: tuple[int, int]) -> Int[Tensor, "n 9"]:
    """Index of each token's nine neighbours in plane order; beyond the edge, where the weight is 0, the token itself."""
    height, width = grid
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes: list[Tensor] = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
            planes.append(torch.where(inside, (y + dy) * width + x + dx, y * width + x).flatten())
    return torch.stack(planes, dim=1).int()
