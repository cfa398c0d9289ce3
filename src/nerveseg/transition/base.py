"""The transition S as the walk sees it: an n × n operator that multiplies from the left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import ShapeError
from nerveseg.reprs import brief
from nerveseg.transition.operators import DenseMatrix, LowRank, SparseRows

__all__ = ["Operator", "Transition"]

# Terms of the local walk's series: four do most of it, sixteen cost as much as they save.
_TERMS = 6

# Tokens a column: with more columns than n / 8, one factorisation costs less than the steps that it saves (measured on a CPU).
_FACTOR = 8

# Columns that go through the series together: more of them leave the caches between one stencil step and the next.
_WIDTH = 192


@runtime_checkable
class Operator(Protocol):
    """A matrix that multiplies n × k columns."""

    def __matmul__(self, X: Float[Tensor, "n k"], /) -> Float[Tensor, "n k"]:
        """Multiply n × k columns."""
        ...

    def exact(self, X: Float[Tensor, "n k"], /) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64 by the same entries."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes held."""
        ...


@dataclass(frozen=True, eq=False)
class Transition:
    """S = β·Σ_h w_h S_global⁽ʰ⁾ + (1 − β)·Σ_h w_h S_local⁽ʰ⁾ (1, 10, 15, 22), row-stochastic where ``stochastic`` says so.

    Args:
        spread: the global graph with its head weights; None at β = 0.
        stencil: the local graph with its head weights, nine entries a row; None at β = 1.
        beta: share of the global graph, 0 … 1.
        grid: (height, width) in tokens.
        weights: (H,) float32, w_h, sums to 1.
        entropies: (H,) float32, mean entropy in nats of one global step (12, 13); None where w_h was not taken from it.
        sharpness: the sharpness that ``neighbours`` solved, one number a head; empty where nothing was solved.
        stuck: rows that stay in place in at least one head, because their affinities sum to 0.
        stochastic: True where rows are non-negative and sum to 1; False for kernels that keep negative entries.
    """

    spread: LowRank | SparseRows | DenseMatrix | Operator | None
    stencil: SparseRows | None
    beta: float
    grid: tuple[int, int]
    weights: Float[Tensor, " H"]
    entropies: Float[Tensor, " H"] | None = None
    sharpness: tuple[float, ...] = ()
    stuck: int = 0
    stochastic: bool = True

    __repr__ = brief

    @property
    def n(self) -> int:
        """Tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def bytes(self) -> int:
        """Bytes that one application reads: the walk's memory apart from its own n × k columns."""
        return sum(part.bytes for part in (self.spread, self.stencil) if part is not None)

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Take one step: S @ X.

        Args:
            X: (n, k) columns over the token grid, any float dtype; computed and returned in float32.

        Raises:
            ShapeError: X is not n × k.
        """
        if X.ndim != 2 or X.shape[0] != self.n:
            raise ShapeError(
                f"Got a right-hand side of shape {tuple(X.shape)}. Accepted is ({self.n}, k), one row a token of the grid {self.grid}. "
                "Resample the columns to the transition's grid first."
            )
        with torch.no_grad():
            columns = X.to(device=self.weights.device, dtype=torch.float32)
            if self.spread is None or self.stencil is None:
                part = self.spread if self.stencil is None else self.stencil
                return columns.clone() if part is None else part @ columns
            return (self.stencil @ columns).lerp_(self.spread @ columns, self.beta)

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Take one step in float64, by the entries as they are held: what certifies a walk.

        Args:
            X: (n, k) float64 columns, on the device of S (on the CPU, where that one knows no float64).

        Cost: half as long again as ``S @ X``, on a CPU.
        """
        with torch.no_grad():
            if self.spread is None or self.stencil is None:
                part = self.spread if self.stencil is None else self.stencil
                return X.clone() if part is None else part.exact(X)
            return self.stencil.exact(X).lerp_(self.spread.exact(X), self.beta)

    def precondition(self, X: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
        """Guess at (I − αS)⁻¹X by the local graph alone: Σ_{t≤6} (α(1 − β)S_local)ᵗ X, nearly free beside a global step.

        Args:
            X: (n, k) float32 columns.
            alpha: probability of walking on.
        """
        if self.spread is None or self.stencil is None:
            return X
        starts = range(0, X.shape[1], _WIDTH)
        parts = [self._series(X[:, at : at + _WIDTH], self.stencil, alpha * (1 - self.beta)) for at in starts]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def head_start(self, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"] | None:
        """Solve (I − αS)P = (1 − α)G in float32 by one factorisation, where there are so many columns that it costs less than steps.

        That is where S is held whole, on a CPU, and k ≥ n/8: hundreds of labels. Elsewhere None.

        Args:
            G: (n, k) float32.
            alpha: probability of walking on.

        Cost: O(n³ + n²·k), n² · 8 bytes.
        """
        if not isinstance(self.spread, DenseMatrix) or G.device.type != "cpu" or G.shape[1] * _FACTOR < self.n:
            return None
        matrix = self.spread.matrix * (-alpha * self.beta)
        if self.stencil is not None:
            share = self.stencil.values * (-alpha * (1 - self.beta))
            matrix.scatter_add_(1, self.stencil.indices.long(), share)
        matrix.diagonal().add_(1)
        linalg: Any = torch.linalg
        # LAPACK reads columns: the transpose of rows is what it wants, and solving with the adjoint turns it back.
        factors, pivots = linalg.lu_factor(matrix.mT)
        return linalg.lu_solve(factors, pivots, G * (1 - alpha), adjoint=True)

    @staticmethod
    def _series(X: Float[Tensor, "n k"], stencil: SparseRows, share: float) -> Float[Tensor, "n k"]:
        """Σ_{t≤6} (share · S_local)ᵗ X."""
        columns = X.contiguous()
        total = columns
        for _ in range(_TERMS):
            total = torch.add(columns, stencil @ total, alpha=share)
        return total

    def to_dense(self) -> Float[Tensor, "n n"]:
        """Write S out as an n × n float32 matrix: n² · 4 bytes, for small n and for tests."""
        return self @ torch.eye(self.n, device=self.weights.device)
