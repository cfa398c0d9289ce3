"""LPOSS (CVPR 2025): label propagation on a nearest-neighbour graph with symmetric normalisation, by a few conjugate gradients.

With unit features f_i and centres p_i in pixels:

    S_ij = max(f_i·f_j, 0)^γ · exp(−σ‖p_i − p_j‖)   where j is one of i's k nearest by f_i·f_j, i itself counted, else 0
    W = S + Sᵀ without its diagonal,   D_ii = Σ_j W_ij (1 where that is 0),   Ŵ = D^−½ W D^−½
    (I − αŴ) X = Y                                      conjugate gradients from 0, column by column, at most ``steps``

Ŵ is symmetric, not row-stochastic: X holds scores, no probabilities. `solve` makes rows of P of them, as it says there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nerveseg.errors import OptionError, ShapeError
from nerveseg.registry import knob
from nerveseg.registry import options as checked_options
from nerveseg.reprs import brief
from nerveseg.transition import Heads
from nerveseg.transition.rows import label_rows
from nerveseg.walk.base import Outcome, Walk

__all__ = [
    "Affinity",
    "Options",
    "affinity",
    "alpha_knob",
    "centres",
    "conjugate",
    "lposs",
    "propagate",
    "solve",
    "steps_knob",
    "tolerance_knob",
]

linear = False
needs = "heads"
_BLOCK = 1 << 24  # products held at once: 64 MiB
_DENSE = 8192  # tokens up to which Ŵ is written out, 256 MiB: its product is ten times faster than a sparse one


def alpha_knob() -> Any:
    """The knob ``alpha``."""
    return knob(0.95, "α: share of the neighbours. Larger: smoother, farther.", low=0, below=1, source="LPOSS: 0.95")


def steps_knob() -> Any:
    """The knob ``steps``."""
    doc = "most conjugate gradients. Larger: nearer to the solution, and farther from the published numbers, which stop early."
    return knob(10, doc, low=1, high=10_000, source="LPOSS: 10")


def tolerance_knob() -> Any:
    """The knob ``tolerance``."""
    return knob(
        1e-6, "a column ends once its residual is this share of Y's length. Smaller: more steps.", above=0, below=1, source="LPOSS: 1e-6"
    )


@dataclass(frozen=True)
class Options:
    """Knobs of LPOSS's propagation on a graph's heads."""

    alpha: float = alpha_knob()
    neighbours: int = knob(400, "k: nearest tokens that each is joined with, itself counted. Larger: farther.", low=1, source="LPOSS: 400")
    power: float = knob(3.0, "γ: exponent on cosines. Larger: sharper.", above=0, high=100, source="LPOSS: 3")
    sigma: float = knob(0.01, "σ: decay a pixel of distance. Larger: more local; 0: place does not count.", low=0, source="LPOSS: 0.01")
    patch: float = knob(16.0, "pixels from one token to the next, the unit of σ.", above=0, source="LPOSS: DINO ViT-B/16")
    steps: int = steps_knob()
    tolerance: float = tolerance_knob()


@dataclass(frozen=True, eq=False)
class Affinity:
    """Ŵ as its entries.

    Attributes:
        indices: rows and columns.
        values: entries, ≥ 0, symmetric.
        n: tokens.
    """

    indices: Int64[Tensor, "2 e"]
    values: Float[Tensor, " e"]
    n: int

    __repr__ = brief

    def matrix(self) -> Tensor:
        """Ŵ to multiply by: written out where n² is small, sparse beyond."""
        sparse = _sparse(self.indices, self.values, self.n, is_coalesced=True)
        return sparse.to_dense() if self.n <= _DENSE else sparse


def lposs(
    heads: Heads, G: Float[Tensor, "n k"], alpha: float = 0.95, *, neighbours: int = 400, power: float = 3.0, sigma: float = 0.01
) -> Walk:
    """Propagate labels as LPOSS does, on the keys of all heads. See `solve`.

    Args:
        heads: their keys, side by side, are the features; queries are not read.
        G: (n, k) label probabilities on the same tokens, any float dtype; computed in float32.
        alpha: 0 ≤ α < 1; larger: smoother.
        neighbours: k; larger: farther.
        power: γ; larger: sharper.
        sigma: σ; larger: more local.

    Raises:
        OptionError: a knob out of range. ShapeError: G does not fit the heads.
    """
    given = {"alpha": alpha, "neighbours": neighbours, "power": power, "sigma": sigma}
    return solve(heads, G, checked_options(Options, given, "walk"))


@torch.no_grad()
def solve(heads: Heads, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Propagate with the knobs of ``options``.

    X of LPOSS is no probability: (I − αŴ)⁻¹ is non-negative, but its rows sum to anything from 1 to beyond 1/(1 − α). So every row is
    divided by what a column of ones becomes in the same solve, u = (I − αŴ)⁻¹1. The order of labels at a token stays LPOSS's; row i of P
    becomes a mean of rows of G with the weights (I − αŴ)⁻¹_ij / u_i. What early stopping leaves outside the range of a column of G, where
    no mean can lie, is moved to its edge. Columns end each by its own residual, so P is linear in G only up to where they end; rows sum to
    those of G up to the same. A bound is not known: inf.

    Cost: O(n²·H·d) for the neighbours, then at most ``steps`` products of n × n (n·2k entries past 8192 tokens) with k + 1 columns.
    """
    start = label_rows(G, heads.n).to(heads.queries.device)
    features = heads.keys.float().transpose(0, 1).flatten(1)
    places = centres(heads.grid, options.patch, features.device)
    graph = affinity(features, places, neighbours=options.neighbours, power=options.power, sigma=options.sigma)
    columns = torch.cat([start, torch.ones_like(start[:, :1])], dim=1)
    X, steps = propagate(graph, columns, alpha=options.alpha, steps=options.steps, tolerance=options.tolerance)
    mean = X[:, :-1] / X[:, -1:].clamp_min(torch.finfo(X.dtype).tiny)
    return Walk(torch.minimum(torch.maximum(mean, start.amin(0)), start.amax(0)), steps, float("inf"), Outcome.REFINED)


def centres(grid: tuple[int, int], patch: float, device: torch.device | str = "cpu") -> Float[Tensor, "n 2"]:
    """Middles (y, x) of tokens in pixels, row by row."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=device).add_(0.5).mul_(patch) for side in grid)
    return torch.stack([rows.repeat_interleave(grid[1]), columns.repeat(grid[0])], dim=1)


def affinity(
    features: Float[Tensor, "n d"], places: Float[Tensor, "n 2"], *, neighbours: int = 400, power: float = 3.0, sigma: float = 0.01
) -> Affinity:
    """Build Ŵ over any tokens; those of several windows may lie at one place.

    Args:
        features: brought to unit length here.
        places: (y, x) of each token, in the unit of 1/σ.
        neighbours: k; at most n are taken.
        power: γ.
        sigma: σ.

    Cost O(n²·d) time; blocks of 64 MiB, then 20 bytes for each of up to 2·n·k entries.

    Raises:
        ShapeError: places that are not one a token.
    """
    n = len(features)
    if places.shape != (n, 2):
        raise ShapeError(f"Got places of shape {tuple(places.shape)} for {n} tokens. Accepted is ({n}, 2). Give one place a token.")
    if neighbours < 1:
        raise OptionError(f"Got neighbours = {neighbours}. Accepted is 1 or more. Choose how many tokens each is joined with.")
    f = torch.nn.functional.normalize(features.float(), dim=1)
    k, step = min(neighbours, n), max(1, _BLOCK // n)
    near: list[Tensor] = []
    weights: list[Tensor] = []
    for first in range(0, n, step):
        cosines, found = (f[first : first + step] @ f.T).topk(k, dim=1)
        distance = (places[first : first + step, None] - places[found]).square().sum(-1).sqrt()
        near.append(found)
        weights.append(cosines.clamp_min(0).pow(power) * torch.exp(-sigma * distance))
    columns, values = torch.cat(near).flatten(), torch.cat(weights).flatten()
    rows = torch.arange(n, device=f.device).repeat_interleave(k)
    other = rows != columns
    rows, columns, values = rows[other], columns[other], values[other]
    both = torch.stack([torch.cat([rows, columns]), torch.cat([columns, rows])])
    W = _sparse(both, torch.cat([values, values]), n).coalesce()
    indices, values = W.indices(), W.values()
    degree = values.new_zeros(n).index_add_(0, indices[0], values)
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return Affinity(indices, values * (scale[indices[0]] * scale[indices[1]]), n)


def propagate(
    graph: Affinity, Y: Float[Tensor, "n k"], *, alpha: float = 0.95, steps: int = 10, tolerance: float = 1e-6
) -> tuple[Float[Tensor, "n k"], int]:
    """Solve (I − αŴ)X = Y; gives X and the products taken. Any real Y: LPOSS propagates raw cosines."""
    W = graph.matrix()
    return conjugate(lambda X: torch.sub(X, W @ X, alpha=alpha), Y.float(), steps=steps, tolerance=tolerance)


def conjugate(
    A: Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]], Y: Float[Tensor, "n k"], *, steps: int, tolerance: float
) -> tuple[Float[Tensor, "n k"], int]:
    """Conjugate gradients for a symmetric positive matrix, every column on its own, from 0.

    Args:
        A: X → AX.
        Y: right-hand sides.
        steps: most products; a column that ended waits for the others unchanged.
        tolerance: a column ends once ‖Y − AX‖ ≤ tolerance·‖Y‖.
    """
    X, R, path = torch.zeros_like(Y), Y.clone(), Y.clone()
    length = R.square().sum(0)
    goal = tolerance**2 * length
    taken = 0
    while taken < steps and bool((active := length > goal).any()):
        applied = A(path)
        curvature = (path * applied).sum(0)
        step = torch.where(active & (curvature > 0), length / curvature, torch.zeros_like(length))
        X.addcmul_(path, step)
        R.addcmul_(applied, step, value=-1)
        shorter = R.square().sum(0)
        turn = torch.where(active, shorter / length, torch.zeros_like(length))
        path = torch.where(active, torch.addcmul(R, path, turn), path)
        length = torch.where(active, shorter, length)
        taken += 1
    return X, taken


def _sparse(indices: Int64[Tensor, "2 e"], values: Float[Tensor, " e"], n: int, **known: bool) -> Tensor:
    untyped: Any = torch
    return untyped.sparse_coo_tensor(indices, values, (n, n), check_invariants=False, **known)
