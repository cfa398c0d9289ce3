"""The infinite walk by a dense solve: the reference for small n (3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.registry import knob
from nerveseg.registry import options as checked
from nerveseg.transition.float64 import wide
from nerveseg.walk._certificate import certified, returned
from nerveseg.walk.base import Outcome, StepMatrix, Walk, dense, is_stochastic, started

__all__ = ["Options", "direct", "solve"]

linear = True
needs = "S"


@dataclass(frozen=True)
class Options:
    """Knobs of the direct walk."""

    alpha: float = knob(0.9, "α: probability of walking on; larger: longer walks, smoother labels.", low=0, below=1)
    limit: int = knob(
        8192, "Most tokens accepted: two dense n × n matrices in float64 are held; larger: 16 n² bytes and O(n³) time.", low=1
    )


def direct(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float = 0.9) -> Walk:
    """Solve (I − αS)P = (1 − α)G densely in float64: the oracle of every other walk.

    Args:
        S: the transition over n tokens.
        G: (n, k) label probabilities on the same tokens, rows ≥ 0 that sum to 1 (to 1/256), any float dtype.
        alpha: 0 ≤ α < 1; larger: longer walks. 0 gives G back.

    Cost: n applications of S to one column each and O(n³ + n²·k); 16 n² bytes.

    Raises:
        OptionError: alpha out of range, or more tokens than ``Options.limit``.
        ShapeError: G does not fit S, or is not finite. StochasticError: rows of G that are no probabilities.

    >>> from nerveseg.transition import Heads, build
    >>> S = build(Heads(torch.ones(1, 4, 2), torch.ones(1, 4, 2), (2, 2)), torch.eye(4), beta=1.0)
    >>> direct(S, torch.eye(4), alpha=0.5).probabilities[0].tolist()
    [0.625, 0.125, 0.125, 0.125]
    """
    return solve(S, G, checked(Options, {"alpha": alpha}, "walk"))


def solve(S: StepMatrix, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    alpha = options.alpha
    start = started(S, G, alpha)
    if alpha == 0:
        return Walk(start.clone(), 0, 0.0, Outcome.EXACT, (0.0,))
    if options.limit < S.n:
        raise OptionError(
            f"Got {S.n} tokens for the direct walk. Accepted are at most {options.limit}. Use walk.infinite, which certifies its error."
        )
    with torch.no_grad():
        held = dense(S, start)
        matrix = held * -alpha
        if is_stochastic(S):
            matrix.div_(held.sum(dim=1, keepdim=True))
        matrix.diagonal().add_(1.0)
        linalg: Any = torch.linalg
        P: Tensor = linalg.solve(matrix, wide(start).mul_(1 - alpha))
        if not is_stochastic(S):
            return Walk(P.to(start), S.n, float("inf"), Outcome.EXACT, (float("inf"),))
        found, grown = returned(P, start)
        bound = certified(_Held(held), start, P, alpha).bound + grown
    return Walk(found, S.n, bound, Outcome.EXACT, (bound,))


@dataclass(frozen=True, eq=False)
class _Held:
    """S as a float64 matrix."""

    matrix: Float[Tensor, "n n"]

    @property
    def n(self) -> int:
        return len(self.matrix)

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return self.matrix @ X

    exact = __matmul__
