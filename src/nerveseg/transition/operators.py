"""The forms an n × n matrix is stored in: a low-rank pair, sparse rows, or dense."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerveseg.reprs import brief
from nerveseg.transition.float64 import by_blocks, wide

__all__ = ["DenseMatrix", "LowRank", "SparseRows"]

# Rows that one float32 sum runs over: more of them drift, fewer cost.
_PART = 1024


@dataclass(frozen=True, eq=False)
class LowRank:
    """U diag(scale) Vᵀ + diag(stay), all heads side by side in U and V (20, 21).

    Args:
        left: U, (n, r) float32, rows divided by the row sums of their head.
        right: V, (n, r) float32.
        scale: (r,) float32, the weight of the head that a column belongs to.
        stay: (n,) float32, weight of the heads in which a row sums to 0 and stays in place; None where there is none.
    """

    left: Float[Tensor, "n r"]
    right: Float[Tensor, "n r"]
    scale: Float[Tensor, " r"]
    stay: Float[Tensor, " n"] | None = None

    __repr__ = brief

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns: two thin products, O(n·r·k)."""
        # In parts: one float32 sum over 65536 positive terms of like size drifts by 1e-5, and the rows of S with it.
        parts = [slice(start, start + _PART) for start in range(0, X.shape[0], _PART)]
        inner = torch.stack([self.right[part].mT @ X[part] for part in parts]).sum(dim=0)
        out = self.left @ inner.mul_(self.scale[:, None])
        return out if self.stay is None else out.addcmul_(self.stay[:, None], X)

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64."""
        inner, out = X.new_zeros(self.left.shape[1], X.shape[1]), torch.empty_like(X)
        for block, rows in by_blocks(self.right):
            inner.addmm_(rows.mT, X[block])
        inner.mul_(wide(self.scale)[:, None])
        for block, rows in by_blocks(self.left):
            torch.mm(rows, inner, out=out[block])
        return out if self.stay is None else out.addcmul_(wide(self.stay)[:, None], X)

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.left.nbytes + self.right.nbytes + self.scale.nbytes + (0 if self.stay is None else self.stay.nbytes)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Few entries a row: row i holds values[i, j] in column indices[i, j].

    Args:
        indices: (n, m) int32, columns; one may stand twice in a row, its values add up.
        values: (n, m) float32.
    """

    indices: Int[Tensor, "n m"]
    values: Float[Tensor, "n m"]

    __repr__ = brief

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns: O(n·m·k), with no n × m × k temporary."""
        # A weighted sum over bags of rows is exactly this product, and one pass: three times faster here than nine shifted addcmul.
        columns, starts, weights = self._bags
        bags: Any = torch.embedding_bag  # the friendlier form counts the bags anew in each of a walk's fifty products
        return bags(X.contiguous(), columns, starts, per_sample_weights=weights)[0]

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64."""
        columns, starts, weights = self._bags
        bags: Any = torch.embedding_bag
        return bags(X.contiguous(), columns.to(X.device), starts.to(X.device), per_sample_weights=wide(weights))[0]

    @cached_property
    def _bags(self) -> tuple[Int[Tensor, " nm"], Int[Tensor, " n"], Float[Tensor, " nm"]]:
        """Columns, where each row's begin, and their values."""
        starts = torch.arange(0, self.indices.numel(), self.indices.shape[1], device=self.indices.device, dtype=self.indices.dtype)
        return self.indices.flatten(), starts, self.values.flatten()

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.indices.nbytes + self.values.nbytes


@dataclass(frozen=True, eq=False)
class DenseMatrix:
    """The whole n × n matrix, all heads folded into one.

    Args:
        matrix: (n, n) float32.
    """

    matrix: Float[Tensor, "n n"]

    __repr__ = brief

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns: O(n²·k)."""
        return self.matrix @ X

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64: half as long again as in float32, on a CPU."""
        out = torch.empty_like(X)
        for block, rows in by_blocks(self.matrix):
            torch.mm(rows, X, out=out[block])
        return out

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.matrix.nbytes
