"""The local graph: each token and its eight neighbours, all heads summed into one stencil (9, 10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerveseg.transition.affinity import groups, paired
from nerveseg.transition.float64 import totals
from nerveseg.transition.heads import Heads
from nerveseg.transition.lengths import unit
from nerveseg.transition.operators import SparseRows
from nerveseg.transition.transfer import numbers

__all__ = ["columns", "stencil"]

# Half of the eight neighbours; the other half is their mirror image.
_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))


def stencil(
    heads: Heads, weights: Float[Tensor, " H"], *, pairing: str, stay: float, power: float, used: Sequence[int] | None = None
) -> SparseRows:
    """Sum the local graphs of all heads, each row-normalised first, into one n × 9 stencil.

    Neighbours beyond the grid's edge are absent from the row and from its sum.

    Args:
        heads: queries and keys.
        weights: (H,) w_h, sums to 1.
        pairing: "qk", "kk" or "qq".
        stay: ε > 0, weight of staying in place; larger: slower walk.
        power: exponent on max(cos, 0); larger: sharper edges.
        used: the heads that have weight; None: those of ``weights`` above 0, which waits for the device.

    Cost: O(H·n·d).
    """
    which = [head for head, weight in enumerate(numbers(weights)) if weight > 0] if used is None else list(used)
    local = _cosines(heads, which, pairing).clamp_(0, 1)  # above 1 is round-off, which a power would blow up
    if power != 1:
        local.pow_(power)
    local[:, 4] = stay
    shares = (weights if len(which) == len(weights) else weights[which]).view(-1, 1, 1) / local.sum(dim=1)
    total = local.mul_(shares[:, None]).sum(dim=0).reshape(9, -1).mT.contiguous()
    return SparseRows(columns(heads.grid, weights.device), total.div_(totals(total)))


def _cosines(heads: Heads, used: Sequence[int], pairing: str) -> Float[Tensor, "H nine h w"]:
    """Cosine of each token with its eight neighbours, 0 beyond the edge; plane 3(dy + 1) + dx + 1 holds the neighbour (dy, dx)."""
    out = torch.zeros(len(used), 9, *heads.grid, device=heads.queries.device)
    done = 0
    for which in groups(used, out.device):
        left, right = paired(heads, which, pairing)
        same, left = left is right, unit(left)
        right = left if same else unit(right)
        places = slice(done, done + len(which))
        A, B = left.view(-1, *heads.grid, heads.width), right.view(-1, *heads.grid, heads.width)
        for dy, dx in _FORWARD:
            here, there = _overlap(heads.grid, dy, dx)
            plane = 3 * (dy + 1) + dx + 1
            out[places, plane, *here] = forth = (A[:, *here] * B[:, *there]).sum(dim=-1)
            out[places, 8 - plane, *there] = forth if same else (A[:, *there] * B[:, *here]).sum(dim=-1)
        done = places.stop
    return out


def _overlap(grid: tuple[int, int], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The tokens that have a neighbour at (dy, dx), and those neighbours; dy ≥ 0."""
    height, width = grid
    down, up = slice(0, max(0, height - dy)), slice(dy, height)
    near, far = slice(max(0, -dx), max(0, width - max(0, dx))), slice(max(0, dx), max(0, width + min(0, dx)))
    return (down, near), (up, far)


def columns(grid: tuple[int, int], device: torch.device | None = None) -> Int[Tensor, "n 9"]:
    """Give the index of each token's nine neighbours in plane order; beyond the edge, where the weight is 0, the token itself."""
    height, width = grid
    own = torch.arange(height * width, device=device)[:, None]
    plane = torch.arange(9, device=device)
    y, x = own // width + (plane // 3 - 1), own % width + (plane % 3 - 1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(inside, y * width + x, own).int()
