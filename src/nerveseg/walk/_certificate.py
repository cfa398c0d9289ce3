"""How far P is from the infinite walk, proven: residuals in float64, round-off counted.

With D the row sums of S as it is held and S' = D⁻¹S, whose rows sum to 1, P∞ the walk on S' and R = (1 − α)G − (I − αS')P,

    ‖P∞ − P‖ ≤ ‖R‖/(1 − α)              ‖·‖ the largest L1 norm of a row: (I − αS')⁻¹ = Σ αᵗS'ᵗ has rows ≥ 0 of sum 1/(1 − α)

R is computed in float64 from the entries as they are held, so that its own round-off, n·2⁻⁵²/(1 − α), is next to nothing. What float32 did
to D stays: with δ = max_i |D_i − 1| the walk on S itself is at most αδ/(1 − α − αδ) from P∞; that is added, and the bound holds for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.reprs import brief
from nerveseg.transition.float64 import wide
from nerveseg.transition.transfer import numbers
from nerveseg.walk.base import StepMatrix, is_stochastic

__all__ = ["Certificate", "certified", "residual", "returned"]

_EPS = torch.finfo(torch.float32).eps  # twice the largest relative error of one rounding

# Row sums of G that differ by less are one sum: float16 scores keep theirs to about 1e-3, and then are left as they are.
_ONE_SUM = 1e-5


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of P.

    Args:
        residual: R in float64. P + R is one plain step of the walk, and takes a factor α off ``size``.
        size: max_i ‖R_i‖₁/(1 − α); nan or inf where a value is not finite.
        floor: what round-off adds to it, and no step takes away.
    """

    residual: Float[Tensor, "n k"]
    size: float
    floor: float

    __repr__ = brief

    @property
    def bound(self) -> float:
        """The largest L1 error of a row of P is at most this."""
        return self.size + self.floor


def certified(S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], alpha: float) -> Certificate:
    """Bound the error of P, float32 or float64, by one application of S in float64.

    An S that has none is applied in float32: its rows of n terms are then off by up to (n + 8)/2 · 2⁻²³ in L1, whatever the order in which
    they are added up. For an S that is not row-stochastic the size means nothing.
    """
    exact: Callable[[Tensor], Tensor] | None = getattr(S, "exact", None)
    if exact is None or not is_stochastic(S):
        return _by_float32(S, G, P, alpha)
    columns = F.pad(wide(P), (0, 1), value=1.0)  # a column of ones: the row sums come with the step
    stepped = exact(columns)
    sums = stepped[:, -1:]
    R = stepped[:, :-1].div(sums).mul_(alpha).sub_(columns[:, :-1]).add_(wide(G), alpha=1 - alpha)
    largest, drift = numbers(torch.stack([R.abs().sum(dim=1).max(), (sums - 1).abs().max()]))
    left = 1 - alpha - alpha * drift
    floor = alpha * drift / left if left > 0 else math.inf
    return Certificate(R, largest / (1 - alpha), floor + S.n * torch.finfo(torch.float64).eps / (1 - alpha))


def _by_float32(S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], alpha: float) -> Certificate:
    seen = P.to(G)
    R = wide(S @ seen).mul_(alpha).sub_(wide(P)).add_(wide(G), alpha=1 - alpha)
    largest, most = numbers(torch.stack([R.abs().sum(dim=1).max(), wide(seen).abs().sum(dim=1).max()]))
    return Certificate(R, largest / (1 - alpha), (S.n + 8) * _EPS / 2 * most / (1 - alpha))


def residual(S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], alpha: float) -> tuple[Float[Tensor, "n k"], float]:
    """R = (1 − α)G − (I − αS)P in float32, one application of S, and max_i ‖R_i‖₁/(1 − α): to go on from, not to rely on."""
    R = (S @ P).mul_(alpha).sub_(P).add_(G, alpha=1 - alpha)
    return R, float(R.abs().sum(dim=1).max()) / (1 - alpha)


def returned(P: Float[Tensor, "n k"], G: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n k"], float]:
    """Give P, float64, in float32, its negative entries lifted to 0 and its row sums mended, and what the bound grows by.

    The true walk is non-negative, so lifting takes δ off a row's L1 error and scaling the row back to its sum adds at most δ: the
    bound still holds. Where all rows of G have one sum, the true walk's rows have it too, and P's, which round-off moved, are put
    back to it. Rounding to float32 moves a row by half of 2⁻²³ of its sum. P is only rounded where G has negative entries.
    """
    sums, wanted = P.sum(dim=1), wide(G).sum(dim=1)
    least, apart, most = numbers(torch.stack([wide(G.min()), wanted.max() - wanted.min(), P.abs().sum(dim=1).max()]))
    if least < 0:
        return P.to(G), _EPS * most
    if apart > _ONE_SUM:
        wanted = sums
    lifted = P.clamp(min=0)
    total = lifted.sum(dim=1)
    mended = lifted.mul_(torch.where(total > 0, wanted / total, 1.0)[:, None])
    return mended.to(G), float((sums - wanted).abs().max()) + _EPS * most
