"""φ(q)·φ(k) with φ(x) = elu(x) + 1: low rank, linear in n, and nearly uniform.

The features of linear transformers (Katharopoulos et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
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
    """Apply elu(x) + 1 to both sides: all features are positive."""
    left = F.elu(A).add_(1.0)
    return left, left if B is A else F.elu(B).add_(1.0)
