"""(I − αS)⁻¹ by one LU factorisation, for repeated solves with the same S."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.reprs import brief
from nerveseg.transition.base import Transition
from nerveseg.transition.operators import DenseMatrix

__all__ = ["Resolvent", "resolvent"]


@dataclass(frozen=True, eq=False)
class Resolvent:
    """The factors of I − αS. Make one with `resolvent`.

    Attributes:
        factors: (n, n) float32, LU of the transpose.
        pivots: its row exchanges.
        alpha: probability of walking on.
    """

    factors: Float[Tensor, "n n"]
    pivots: Tensor
    alpha: float

    __repr__ = brief

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.factors.nbytes + self.pivots.nbytes

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Solve (I − αS)Y = X in float32. Cost O(n²·k)."""
        linalg: Any = torch.linalg
        # LAPACK reads columns: the transpose of rows is what it wants, and solving with the adjoint turns it back.
        return linalg.lu_solve(self.factors, self.pivots, X.float(), adjoint=True)


def resolvent(S: Any, alpha: float, *, most: int = 6144) -> Resolvent | None:
    """Factorise I − αS.

    Args:
        S: a transition that is held whole, on a CPU; any other gives None.
        alpha: probability of walking on.
        most: tokens; with more of them it gives None.

    Cost: O(n³), a second and a half and 64 MiB at n = 4096 on two cores; 8·n² bytes while it is made.
    """
    if not isinstance(S, Transition) or not isinstance(S.spread, DenseMatrix) or S.weights.device.type != "cpu" or S.n > most:
        return None
    with torch.no_grad():
        beta = S.beta if S.stencil is not None else 1.0
        matrix = S.spread.matrix * (-alpha * beta)
        if S.stencil is not None:
            matrix.scatter_add_(1, S.stencil.indices.long(), S.stencil.values * (-alpha * (1 - beta)))
        matrix.diagonal().add_(1)
        linalg: Any = torch.linalg
        factors, pivots = linalg.lu_factor(matrix.mT)
    return Resolvent(factors, pivots, alpha)
