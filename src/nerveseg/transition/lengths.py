"""Euclidean lengths of rows, typed: torch ships no types for its linear algebra."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["lengths"]


def lengths(X: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """Give the Euclidean length of each row, never below the smallest normal number, so that it can divide."""
    linalg: Any = torch.linalg
    return linalg.vector_norm(X, dim=-1).clamp_min_(torch.finfo(X.dtype).tiny)
