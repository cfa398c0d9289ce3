"""The global graph of all heads as one operator: a thin pair, one folded matrix, kept entries, or rows made anew in each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.transition.affinity import Affinity
from nerveseg.transition.operators import Folded, Gathered, Thin

__all__ = ["Room", "Streamed", "fold", "keep", "thin"]

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


class Room:
    """U and V of all heads side by side, made when the first head says how wide its pair is; heads write themselves into it.

    So no pair is held twice, and none is copied.

    Args:
        n: tokens.
        heads: how many pairs of one width there will be.
        device: where.
    """

    def __init__(self, n: int, heads: int, device: torch.device) -> None:
        self._n, self._heads, self._device = n, heads, device
        self._both: tuple[Tensor, Tensor] | None = None

    def at(self, place: int, width: int) -> tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]:
        """Where the pair of a head goes, n × ``width`` each."""
        if self._both is None:
            U, V = (torch.empty(self._n, self._heads * width, device=self._device) for _ in range(2))
            self._both = (U, V)
        columns = slice(place * width, (place + 1) * width)
        return self._both[0][:, columns], self._both[1][:, columns]

    def of(self, used: Sequence[int]) -> tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]:
        """U and V of some heads: themselves where these are all heads, a copy of their columns otherwise."""
        if self._both is None or len(used) == self._heads:
            return self._both or (torch.empty(self._n, 0), torch.empty(self._n, 0))
        columns = torch.arange(self._both[0].shape[1], device=self._device).view(self._heads, -1)[list(used)].flatten()
        return self._both[0][:, columns], self._both[1][:, columns]


def thin(
    affinities: Sequence[Affinity], weights: Sequence[float], pair: tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]
) -> tuple[Thin, int]:
    """The thin pairs of all heads as one operator (20-22). Returns it and how many rows stay in place in some head.

    Args:
        affinities: the heads, ready.
        weights: their w_h.
        pair: their U and V side by side.
    """
    left, right = pair
    width = left.shape[1] // len(affinities)
    scale = torch.cat([left.new_full((width,), weight) for weight in weights])
    stay = left.new_zeros(left.shape[0])
    for affinity, weight in zip(affinities, weights, strict=True):
        if affinity.stuck is not None:
            stay += affinity.stuck * weight
    stuck = int((stay > 0).sum())
    return Thin(left, right, scale, stay if stuck else None), stuck
