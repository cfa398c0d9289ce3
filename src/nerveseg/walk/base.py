"""What every walk gives back, and the bound that certifies it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError, ShapeError
from nerveseg.showing import brief

__all__ = [
    "Outcome",
    "StepMatrix",
    "Walk",
    "aligned",
    "certified",
    "checked",
    "dense",
    "geometric",
    "is_stochastic",
    "residual",
    "settled",
    "started",
]

# Columns that a matrix product takes at once: 21 columns cost a third more than 24, and 2 to 10 nearly twice as much as 16.
_COLUMNS, _LEAST = 8, 16

# A row of P sums to 1 and float32 rounds each of its few operations to half an ulp: a residual below this is round-off.
_ROUND_OFF = 4 * torch.finfo(torch.float32).eps

# Row sums of G that differ by less are one sum: float16 scores keep theirs to about 1e-3, and then are left as they are.
_ONE_SUM = 1e-5


@runtime_checkable
class StepMatrix(Protocol):
    """S as the walk needs it: n rows, and ``S @ X`` for n × k columns.

    ``stochastic`` is read where there is one, and True without; ``precondition(X, alpha)``, a cheap linear guess at (I − αS)⁻¹X that
    keeps row sums of 0, and ``head_start(G, alpha)``, a start near the end or None, are used by the infinite walk where there are such.
    """

    @property
    def n(self) -> int:
        """Tokens."""
        ...

    def __matmul__(self, X: Float[Tensor, "n k"], /) -> Float[Tensor, "n k"]:
        """Take one step."""
        ...


class Outcome(Enum):
    """How a walk ended; the value is advice for whoever reads it."""

    EXACT = "Solved without iterations: nothing to do."
    CONVERGED = "The bound is at most the tolerance: nothing to do."
    TRUNCATED = "The walk took the number of steps it was given: take more steps or use the infinite walk if the bound is too large."
    FELL_BACK = "Krylov steps stalled and plain iteration reached the tolerance: raise restart if this is slow."
    SPENT = "The steps ran out before the tolerance was reached: raise max_steps, lower alpha, or accept the bound."
    STALLED = "float32 cannot certify a smaller error: raise the tolerance or lower alpha."
    REFINED = "The heads' matrices were applied as the method has it, which is no random walk: there is no bound to judge by."
    UNCERTIFIED = "S is not row-stochastic, so no bound holds: judge by the residual in history."

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence."""
        return self.value

    @property
    def reached(self) -> bool:
        """True where the walk did what was asked of it."""
        return self not in (Outcome.SPENT, Outcome.STALLED, Outcome.UNCERTIFIED)


@dataclass(frozen=True, eq=False)
class Walk:
    """Label probabilities after the walk, and how far they may be from those of the infinite walk.

    Args:
        probabilities: P, (n, k) float32; rows sum to what the rows of G sum to, 1 as a rule.
        steps: applications of S.
        bound: the largest L1 distance of a row of P from the infinite walk's is at most this; inf where nothing is known.
        outcome: how the walk ended, with advice.
        history: the bound after each step, the start included, as far as it was computed; to plot against the steps.
    """

    probabilities: Float[Tensor, "n k"]
    steps: int
    bound: float
    outcome: Outcome
    history: tuple[float, ...] = field(default=(), repr=False)

    __repr__ = brief


def started(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
    """Check G and α before a walk, and give G in float32."""
    if not (0 <= alpha < 1):
        raise OptionError(f"Got alpha = {alpha!r}. Accepted is a number from 0 to below 1. Choose how likely the walk goes on.")
    return checked(G, S.n)


def checked(G: Float[Tensor, "n k"], n: int) -> Float[Tensor, "n k"]:
    """Check that G has one finite row for each of n tokens, and give it in float32."""
    if G.ndim != 2 or G.shape[0] != n or G.shape[1] < 1:
        raise ShapeError(f"Got G of shape {tuple(G.shape)}. Accepted is ({n}, k), one row a token of S. Resample G to the grid of S.")
    if not (G.is_floating_point() and bool(torch.isfinite(G).all())):
        raise ShapeError(f"Got G in {G.dtype} or with values that are not finite. Accepted are finite floats. Mend the label source.")
    return G.float()


def aligned(G: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
    """Copy G beside columns of zeros, up to 16 or a larger multiple of 8: they stay 0 in every walk and cost less than odd shapes do."""
    return torch.nn.functional.pad(G, (0, max(_LEAST - G.shape[1], -G.shape[1] % _COLUMNS))).contiguous()


def is_stochastic(S: StepMatrix) -> bool:
    """Whether rows of S are non-negative with sum 1, as S declares it; the bound holds for nothing else."""
    return bool(getattr(S, "stochastic", True))


def residual(S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
    """Compute R = (1 − α)G − (I − αS)P: one application of S. P + R is one plain step of the walk."""
    return (S @ P).mul_(alpha).sub_(P).add_(G, alpha=1 - alpha)


def certified(R: Float[Tensor, "n k"], alpha: float) -> float:
    """Bound the L1 error of every row of P by max_i ‖R_i‖₁ / (1 − α), the round-off of R itself included.

    Holds for row-stochastic S: (I − αS)⁻¹ = Σ αᵗSᵗ has row sums 1/(1 − α).
    """
    return (float(R.abs().sum(dim=1).max()) + _ROUND_OFF) / (1 - alpha)


def settled(P: Float[Tensor, "n k"], G: Float[Tensor, "n k"]) -> float:
    """Lift the negative entries that an approximation leaves to 0 and mend the row sums, in place; returns what the bound grows by.

    The true walk is non-negative, so lifting takes δ off a row's L1 error and scaling the row back to its sum adds at most δ: the
    bound still holds. Where all rows of G have one sum, the true walk's rows have it too, and P's, which round-off moved, are put
    back to it. Only for a row-stochastic S; P is left alone where G has negative entries.
    """
    sums, wanted = P.sum(dim=1), G.sum(dim=1)
    least, apart = torch.stack([G.min(), wanted.max() - wanted.min()]).cpu()  # both at once: the host waits for each
    if float(least) < 0:
        return 0.0
    if float(apart) > _ONE_SUM:
        wanted = sums
    P.clamp_(min=0)
    lifted = P.sum(dim=1)
    P.mul_(torch.where(lifted > 0, wanted / lifted, torch.ones_like(sums))[:, None])
    return float((sums - wanted).abs().max())


def dense(S: StepMatrix, like: Tensor) -> Float[Tensor, "n n"]:
    """Write S out in float64 by n unit columns."""
    return (S @ torch.eye(S.n, device=like.device)).double()


def geometric(alpha: float, step: int) -> float:
    """Bound of the truncated walk after ``step`` steps: 2α^{step+1}, never more than 2."""
    return min(2.0, 2.0 * math.pow(alpha, step + 1))
