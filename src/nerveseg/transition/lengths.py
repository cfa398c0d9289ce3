"""Euclidean lengths of rows, typed: torch ships no types for its linear algebra."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["lengths", "unit"]


def lengths(X: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """Give the Euclidean length of each row, never below the smallest normal number, so that it can divide."""
    linalg: Any = torch.linalg
    return linalg.vector_norm(X, dim=-1).clamp_min_(torch.finfo(X.dtype).tiny)


def unit(X: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Divide each row by its length; a row of zeros stays so, and has cosine 0 with everything.

    Rows of any length that float32 holds: squares of 1e-30 or 1e30 would leave its range, so each is first divided by its largest entry. A
    row without a normal number in it (all below 1.2e-38) counts as zeros.
    """
    largest = X.abs().amax(dim=-1, keepdim=True)
    out = X / largest.masked_fill_(largest < torch.finfo(X.dtype).tiny, torch.inf)
    return out.div_(lengths(out)[..., None])
