"""An absorbing walk: it ends at tokens whose label is known.

With seeds B, one-hot rows Y on them and D = diag(1 off B, 0 on B),

    (I − αDS)P = (1 − α)DG + (I − D)Y      is      (I − αS')P = (1 − α)G',   S' = DS + (I − D),   G' = DG + (I − D)Y

S' is row-stochastic where S is, and rows of G' sum to 1, so every walk that takes S takes S', bound and all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nerveseg.errors import ShapeError
from nerveseg.reprs import brief
from nerveseg.transition.base import Transition
from nerveseg.transition.operators import SparseRows

__all__ = ["Absorbing", "absorbing", "sown"]


@dataclass(frozen=True, eq=False)
class Absorbing:
    """S' = DS + (I − D): S, and rows of seeds that stay in place. Make one with `absorbing`.

    Attributes:
        S: the transition.
        seeds: (b,) tokens, each once.
        near: (n, k) where the walk starts, best a solution with fewer seeds; None: where it starts without.
        local: S with no local way out of the seeds: what a guess at the walk may use.
    """

    S: Any
    seeds: Int64[Tensor, " b"]
    near: Float[Tensor, "n k"] | None = None
    local: Transition | None = None

    __repr__ = brief

    @property
    def n(self) -> int:
        """Tokens."""
        return int(self.S.n)

    @property
    def stochastic(self) -> bool:
        """Whether rows are non-negative and sum to 1: where those of S do."""
        return bool(getattr(self.S, "stochastic", True))

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Take one step: one of S, and seeds stay. Cost O(b·k) more than S."""
        return self._stayed(self.S @ X, X)

    def _stayed(self, out: Float[Tensor, "n k"], X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        out[self.seeds] = X[self.seeds].to(out)
        return out

    @property
    def exact(self) -> Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]] | None:
        """Take one step in float64, where S can."""
        own: Callable[[Tensor], Tensor] | None = getattr(self.S, "exact", None)
        return None if own is None else lambda X: self._stayed(own(X), X)

    def precondition(self, X: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
        """Guess at (I − αS')⁻¹X by the local graph alone, for columns that are 0 at the seeds, as residuals of the walk are."""
        return X if self.local is None else self.local.precondition(X, alpha)

    def head_start(self, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"] | None:
        """Give `near` with the seeds' own rows, padded by columns of zeros to the width of G; without one, and without seeds, that of S."""
        if self.near is None:
            own: Callable[..., Tensor | None] | None = None if len(self.seeds) else getattr(self.S, "head_start", None)
            return None if own is None else own(G, alpha)
        width = G.shape[1]
        if self.near.shape[1] > width:
            raise ShapeError(
                f"Got a start with {self.near.shape[1]} columns for G with {width}. Accepted are at most as many. Start from fewer labels."
            )
        start = torch.nn.functional.pad(self.near.to(G), (0, width - self.near.shape[1])).contiguous()
        start[self.seeds] = G[self.seeds]
        return start


def absorbing(S: Any, seeds: Int64[Tensor, " b"], *, near: Float[Tensor, "n k"] | None = None) -> Absorbing:
    """Let the walk end at some tokens.

    Args:
        S: the transition, or any matrix with ``n`` and ``@``.
        seeds: (b,) tokens, 0 … n − 1, each once; any order.
        near: (n, k) where an infinite walk starts; with P of fewer seeds it takes a few steps.

    Cost: nothing beside 9·n floats for the local graph.

    Raises:
        ShapeError: seeds that are no tokens, or that stand twice.

    >>> import torch
    >>> from nerveseg import transition, walk
    >>> S = transition.build(transition.Heads(torch.ones(1, 4, 2), torch.ones(1, 4, 2), (2, 2)), torch.full((4, 2), 0.5))
    >>> G, seed = torch.full((4, 2), 0.5), torch.tensor([0])
    >>> P = walk.direct(absorbing(S, seed), sown(G, seed, torch.tensor([[1.0, 0.0]])), alpha=0.9).probabilities
    >>> [round(p, 6) == y for p, y in zip(P[0].tolist(), (1, 0))], bool((P[1:, 0] > 0.5).all())
    ([True, True], True)
    """
    index = seeds.long()
    ordered = index.flatten().sort().values
    apart = bool((ordered[1:] > ordered[:-1]).all())
    if index.ndim != 1 or not apart or (len(index) and not 0 <= int(ordered[0]) <= int(ordered[-1]) < S.n):
        raise ShapeError(
            f"Got seeds {ordered[:8]} for {S.n} tokens. Accepted are tokens from 0 to {S.n - 1}, each once. Take doubled ones out."
        )
    return Absorbing(S, index, near, _kept_in(S, index))


def sown(G: Float[Tensor, "n k"], seeds: Int64[Tensor, " b"], Y: Float[Tensor, "b k"]) -> Float[Tensor, "n k"]:
    """G' = DG + (I − D)Y: a copy of G with the seeds' rows in it."""
    out = G.float().clone()
    out[seeds] = Y.to(out)
    return out


def _kept_in(S: Any, seeds: Int64[Tensor, " b"]) -> Transition | None:
    if not isinstance(S, Transition):
        guess: Callable[..., Tensor] | None = getattr(S, "precondition", None)
        # A guess that does not know of the seeds would lead out of them.
        return None if guess is None or len(seeds) else S
    if S.stencil is None:
        return S
    values = S.stencil.values.clone()
    values[seeds] = 0
    return dataclasses.replace(S, stencil=SparseRows(S.stencil.indices, values))
