"""Z_q Λ⁻¹ Z_kᵀ over m landmarks: the one kernel that is linear in n and sharp.

Z_q, Z_k = row-softmax of τ·cos to the landmark keys, Λ = diag(Z_kᵀ1): non-negative, rows sum to 1 exactly, rank m.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.transition.kernels._rows import unit

__all__ = ["Options", "features", "prepare"]

low_rank = True
stochastic = True
sharpness = "tau"


@dataclass(frozen=True)
class Options:
    """Knobs of the anchor kernel."""

    landmarks: int = knob(64, "m: landmark keys a head, at most n; larger: finer, and cost and memory grow with it.", low=1, high=4096)
    tau: float = knob(20.0, "τ: gain on the cosine to the landmarks; larger: sharper, 0 is uniform.", low=0, high=1e4)
    choice: str = knob(
        "grid", "Where landmarks come from: keys at even places of the grid, or spherical k-means.", choices=("grid", "kmeans")
    )
    rounds: int = knob(4, "Rounds of k-means, started from the grid; larger: better fitted, slower.", low=1, high=100)


def prepare(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "n d"], grid: tuple[int, int], options: Options
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Compare queries and keys with the landmarks: cosines, O(n·m·d), times the rounds for k-means."""
    right = unit(keys)
    marks = right[_even(grid, options.landmarks).to(right.device)]
    if options.choice == "kmeans":
        marks = _kmeans(right, marks, options.rounds)
    near = right @ marks.mT
    return (near if keys is queries else unit(queries) @ marks.mT), near


def features(A: Float[Tensor, "n m"], B: Float[Tensor, "n m"], options: Options) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Give Z_q and Z_k Λ⁻¹."""
    near = torch.softmax(B * options.tau, dim=1)
    left = near if A is B else torch.softmax(A * options.tau, dim=1)
    # A landmark that nobody is near to has Λ = 0 and no weight in Z_q either: any positive number will do.
    return left, near / near.sum(dim=0).clamp_min_(torch.finfo(near.dtype).tiny)


def _even(grid: tuple[int, int], count: int) -> Int[Tensor, " m"]:
    """Indices of at most ``count`` tokens, spread evenly over the grid."""
    height, width = grid
    down = min(height, max(1, round((min(count, height * width) * height / width) ** 0.5)), count)
    across = min(width, max(1, count // down))
    down = min(height, count // across)
    y = ((torch.arange(down) + 0.5) * (height / down)).long()
    x = ((torch.arange(across) + 0.5) * (width / across)).long()
    return (y[:, None] * width + x[None, :]).flatten()


def _kmeans(points: Float[Tensor, "n d"], marks: Float[Tensor, "m d"], rounds: int) -> Float[Tensor, "m d"]:
    """Spherical k-means; a centre that loses all its points stays where it was."""
    for _ in range(rounds):
        nearest = (points @ marks.mT).argmax(dim=1)
        sums = torch.zeros_like(marks).index_add_(0, nearest, points)
        empty = torch.bincount(nearest, minlength=marks.shape[0]) == 0
        marks = torch.where(empty[:, None], marks, unit(sums))
    return marks
