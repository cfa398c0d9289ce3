"""The global graph of all heads as one operator: a thin pair, one folded matrix, kept entries, or rows made anew in each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.transition.affinity import Affinity
from nerveseg.transition.operators import Folded, Gathered, Thin

__all__ = ["Streamed", "fold", "keep", "thin"]

# Entries of one block of rows: 4 MiB of float32 stay in a core's cache, an accelerator wants more work at a time.
_BLOCK_CPU, _BLOCK_ELSEWHERE = 2**20, 2**26


@dataclass(frozen=True, eq=False)
class Streamed:
    """Σ_h w_h S_global⁽ʰ⁾ without a matrix: each product makes the rows anew, block by block.

    Args:
        affinities: the heads that have weight.
        weights: their w_h.
    """

    affinities: tuple[Affinity, ...]
    weights: tuple[float, ...]

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns: O(H·n²·d + n²·k) time, a block of rows of memory."""
        out = torch.empty_like(X)
        for block, rows, _ in blocks(self.affinities, self.weights):
            torch.mm(rows, X, out=out[block])
        return out

    @property
    def bytes(self) -> int:
        """Bytes held: what the rows are made of."""
        tensors = {id(side): side.nbytes for affinity in self.affinities for side in (affinity.left, affinity.right)}
        return sum(tensors.values())


def blocks(affinities: Sequence[Affinity], weights: Sequence[float]) -> Iterator[tuple[slice, Float[Tensor, "b n"], int]]:
    """Fold all heads, block of rows by block of rows: (which rows, Σ_h w_h of them, how many of them stay in place in some head)."""
    n = affinities[0].right.shape[0]
    device = affinities[0].right.device
    size = max(1, (_BLOCK_CPU if device.type == "cpu" else _BLOCK_ELSEWHERE) // n)
    for start in range(0, n, size):
        block = slice(start, min(start + size, n))
        total: Tensor | None = None
        stayed = torch.zeros(block.stop - start, device=device)
        for affinity, weight in zip(affinities, weights, strict=True):
            rows, stuck = affinity.rows(block)
            total = rows.mul_(weight) if total is None else total.add_(rows, alpha=weight)
            if stuck is not None:
                stayed += stuck * weight
        if total is not None:
            total.diagonal(start).add_(stayed)
            # The round-off of H row sums, if left in, would grow by 1/(1 − α) in the walk.
            yield block, total.div_(total.sum(dim=1, keepdim=True)), int((stayed > 0).sum())


def fold(affinities: Sequence[Affinity], weights: Sequence[float]) -> tuple[Folded, int]:
    """Fold all heads into one n × n matrix: O(H·n²·d) time, n²·4 bytes. Returns it and the rows that stay in place."""
    n = affinities[0].right.shape[0]
    matrix = torch.empty(n, n, device=affinities[0].right.device)
    stuck = 0
    for block, rows, stayed in blocks(affinities, weights):
        matrix[block] = rows
        stuck += stayed
    return Folded(matrix), stuck


def keep(affinities: Sequence[Affinity], weights: Sequence[float], count: int) -> tuple[Gathered, int]:
    """Keep the ``count`` largest entries of each folded row, renormalised: O(H·n²·d) time, n·count·8 bytes."""
    indices: list[Tensor] = []
    values: list[Tensor] = []
    stuck = 0
    for _, rows, stayed in blocks(affinities, weights):
        top = torch.topk(rows, min(count, rows.shape[1]), dim=1, sorted=False)
        indices.append(top.indices.int())
        values.append(top.values / top.values.sum(dim=1, keepdim=True))
        stuck += stayed
    return Gathered(torch.cat(indices), torch.cat(values)), stuck


def thin(affinities: list[Affinity], weights: Sequence[float]) -> tuple[Thin, int]:
    """Put the thin pairs of all heads side by side (20-22): O(n·Σr) time and memory. Returns it and the rows that stay in place.

    Takes the heads out of the list one by one, so that no pair is held twice.

    Args:
        affinities: the heads, their pairs ready; empty afterwards.
        weights: their w_h.
    """
    n = affinities[0].right.shape[0]
    widths = [affinity.left.shape[1] for affinity in affinities]
    stay = affinities[0].left.new_zeros(n)
    left, right = stay.new_empty(n, sum(widths)), stay.new_empty(n, sum(widths))
    scale = torch.cat([stay.new_full((width,), weight) for width, weight in zip(widths, weights, strict=True)])
    start = 0
    for width, weight in zip(widths, weights, strict=True):
        pair = affinities.pop(0)
        left[:, start : start + width] = pair.left
        right[:, start : start + width] = pair.right
        if pair.stuck is not None:
            stay += pair.stuck * weight
        start += width
    stuck = int((stay > 0).sum())
    return Thin(left, right, scale, stay if stuck else None), stuck
