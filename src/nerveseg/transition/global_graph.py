"""The global graph of all heads as one operator: a low-rank pair, one dense matrix, sparse rows, or rows recomputed at each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.reprs import brief
from nerveseg.transition.affinity import Affinity
from nerveseg.transition.float64 import by_blocks, totals, totals_in, wide
from nerveseg.transition.operators import DenseMatrix, LowRank, SparseRows

__all__ = ["HeadBuffers", "StreamedRows", "fold", "height", "keep", "thin"]

# Entries of one block of rows, of all heads of a group: 4 MiB of float32 stay in a core's cache, an accelerator wants more work at a time.
_BLOCK_CPU, _BLOCK_ELSEWHERE = 2**20, 2**26


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Σ_h w_h S_global⁽ʰ⁾ without a matrix: each product makes the rows anew, block by block.

    Args:
        affinities: the heads that have weight, in their groups.
        weights: their w_h, as many of a group as it has heads.
    """

    affinities: tuple[Affinity, ...]
    weights: tuple[Float[Tensor, " H"], ...]

    __repr__ = brief

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns: O(H·n²·d + n²·k) time, a block of rows of memory."""
        out = torch.empty_like(X)
        for block, rows, _ in blocks(self.affinities, self.weights):
            torch.mm(rows, X, out=out[block])
        return out

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64; the rows are those of float32."""
        out = torch.empty_like(X)
        for block, rows, _ in blocks(self.affinities, self.weights):
            torch.mm(wide(rows), X, out=out[block])
        return out

    @property
    def bytes(self) -> int:
        """Bytes held: what the rows are made of."""
        tensors = {id(side): side.nbytes for affinity in self.affinities for side in (affinity.left, affinity.right)}
        return sum(tensors.values())


def height(affinities: Sequence[Affinity]) -> int:
    """Rows of one block: as many as the device takes at a time of all heads of a group."""
    entries = _BLOCK_CPU if affinities[0].left.device.type == "cpu" else _BLOCK_ELSEWHERE
    return max(1, entries // (affinities[0].right.shape[1] * max(len(affinity.left) for affinity in affinities)))


def blocks(
    affinities: Sequence[Affinity], weights: Sequence[Float[Tensor, " H"]], into: Float[Tensor, "n n"] | None = None
) -> Iterator[tuple[slice, Float[Tensor, "b n"], int]]:
    """Fold all heads, block of rows by block of rows: (which rows, Σ_h w_h of them, how many of them stay in place in some head).

    Args:
        affinities: the heads that have weight, in their groups.
        weights: their w_h.
        into: where the rows are written; None makes them anew for each block.
    """
    n = affinities[0].right.shape[1]
    size = height(affinities)
    for start in range(0, n, size):
        block = slice(start, min(start + size, n))
        total = weights[0].new_empty(block.stop - start, n) if into is None else into[block]
        stayed: Tensor | None = None
        for place, (affinity, shares) in enumerate(zip(affinities, weights, strict=True)):
            rows, stuck = affinity.rows(block)
            _add(total, rows, shares, first=place == 0)
            if stuck is not None:
                part = shares @ stuck.to(shares)
                stayed = part if stayed is None else stayed + part
        if stayed is not None:
            total.diagonal(start).add_(stayed)
        # The round-off of H row sums, if left in, would grow by 1/(1 − α) in the walk.
        yield block, total.div_(totals(total)), 0 if stayed is None else int((stayed > 0).sum())


def _add(total: Float[Tensor, "b n"], rows: Float[Tensor, "H b n"], shares: Float[Tensor, " H"], *, first: bool) -> None:
    """Add Σ_h w_h rows_h to the groups before, in one pass; the weights stay on their device."""
    if len(rows) > 1:
        total.view(-1).addmv_(rows.flatten(1).mT, shares, beta=0 if first else 1)
    elif first:
        torch.mul(rows[0], shares, out=total)
    else:
        total.addcmul_(rows[0], shares)


def fold(affinities: Sequence[Affinity], weights: Sequence[Float[Tensor, " H"]]) -> tuple[DenseMatrix, int]:
    """Fold all heads into one n × n matrix: O(H·n²·d) time, n²·4 bytes. Returns it and the rows that stay in place."""
    n = affinities[0].right.shape[1]
    matrix = weights[0].new_empty(n, n)
    return DenseMatrix(matrix), sum(stayed for _, _, stayed in blocks(affinities, weights, matrix))


def keep(affinities: Sequence[Affinity], weights: Sequence[Float[Tensor, " H"]], count: int) -> tuple[SparseRows, int]:
    """Keep the ``count`` largest entries of each folded row, renormalised: O(H·n²·d) time, n·count·8 bytes."""
    indices: list[Tensor] = []
    values: list[Tensor] = []
    stuck = 0
    for _, rows, stayed in blocks(affinities, weights):
        top = torch.topk(rows, min(count, rows.shape[1]), dim=1, sorted=False)
        indices.append(top.indices.int())
        values.append(top.values / totals(top.values))
        stuck += stayed
    return SparseRows(torch.cat(indices), torch.cat(values)), stuck


class HeadBuffers:
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
    affinities: Sequence[Affinity], weights: Sequence[Float[Tensor, " H"]], pair: tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]
) -> tuple[LowRank, int]:
    """The thin pairs of all heads as one operator (20-22). Returns it and how many rows stay in place in some head.

    Args:
        affinities: the heads, ready.
        weights: their w_h.
        pair: their U and V side by side.
    """
    left, right = pair
    width = left.shape[1] // len(affinities)
    scale = torch.cat(list(weights)).repeat_interleave(width)
    parts = [affinity.stuck[0] * share for affinity, share in zip(affinities, weights, strict=True) if affinity.stuck is not None]
    stay = torch.stack(parts).sum(dim=0) if parts else None
    if affinities[0].kernel.stochastic:
        _evened(left, wide(right.sum(dim=0, dtype=totals_in(right))) * wide(scale), stay)
    return LowRank(left, right, scale, stay), 0 if stay is None else int((stay > 0).sum())


def _evened(left: Float[Tensor, "n r"], total: Float[Tensor, " r"], stay: Float[Tensor, " n"] | None) -> None:
    """Take the round-off of each head's row sums and of the weights out of U, in place: the walk would blow it up by 1/(1 − α)."""
    for block, rows in by_blocks(left):
        sums = rows @ total
        wanted = torch.ones_like(sums) if stay is None else 1 - wide(stay[block])
        left[block] = rows.mul_(torch.where(sums > 0, wanted / sums, 0)[:, None]).to(left)
