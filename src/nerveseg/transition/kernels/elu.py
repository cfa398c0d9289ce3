"""φ(q)·φ(k) with φ(x) = elu(x) + 1: low rank, linear in n, and nearly uniform.

The features of linear transformers (Katharopoulos et al. 2020). φ(x) is exp(x) below 0, which elu(x) + 1 loses to cancellation: a third of
its digits at −6, all of them at −17.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["Options", "features", "prepare"]

low_rank = True
stochastic = True
sharpness = None


@dataclass(frozen=True)
class Options:
    """No knobs."""


def prepare(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "n d"], grid: tuple[int, int], options: Options
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Leave queries and keys as they are."""
    return queries, keys


def features(A: Float[Tensor, "n d"], B: Float[Tensor, "n d"], options: Options) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Apply elu(x) + 1 to both sides: no feature is negative.

    Rows are divided by their sums later, so a query's features may all be multiplied by one number, and those of all keys by another: where
    all entries are negative, the largest is lifted to 0, and exp does not underflow.
    """
    return _phi(A, A.amax(dim=1, keepdim=True)), _phi(B, B.max())


def _phi(X: Float[Tensor, "n d"], largest: Tensor) -> Float[Tensor, "n d"]:
    return X.clamp(max=0).sub_(largest.clamp(max=0)).exp_().add_(X.clamp(min=0))
