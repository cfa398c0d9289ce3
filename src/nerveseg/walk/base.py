"""The result of a walk, and the interface of S that walks use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.reprs import brief
from nerveseg.transition.float64 import wide
from nerveseg.transition.rows import label_rows

__all__ = [
    "Outcome",
    "StepMatrix",
    "Walk",
    "aligned",
    "dense",
    "geometric",
    "is_stochastic",
    "started",
]

# Columns that a matrix product takes at once: 21 columns cost a third more than 24, and 2 to 10 nearly twice as much as 16.
_COLUMNS, _LEAST = 8, 16


@runtime_checkable
class StepMatrix(Protocol):
    """S as the walk needs it: n rows, and ``S @ X`` for n × k columns.

    ``stochastic`` is read where there is one, and True without. ``exact(X)``, the same step on float64 columns in float64, certifies the
    walk; without it the worst that float32 can do over n terms is counted, which grows with n. ``precondition(X, alpha)``, a cheap linear
    guess at (I − αS)⁻¹X that keeps row sums of 0, and ``head_start(G, alpha)``, a start near the end or None, are used by the infinite
    walk where there are such.
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
    NOT_FINITE = "Some values are not finite, and nothing is known of the others: mend the transition that gave them."
    UNCERTIFIED = "S is not row-stochastic, so no bound holds: judge by the residual in history."

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence."""
        return self.value

    @property
    def reached(self) -> bool:
        """True where the walk did what was asked of it."""
        return self not in (Outcome.SPENT, Outcome.STALLED, Outcome.NOT_FINITE, Outcome.UNCERTIFIED)


@dataclass(frozen=True, eq=False)
class Walk:
    """Label probabilities after the walk, and how far they may be from those of the infinite walk.

    Args:
        probabilities: P, (n, k) float32; rows sum to what the rows of G sum to, 1 as a rule.
        steps: applications of S.
        bound: the largest L1 distance of a row of P from the infinite walk's is at most this, round-off included; inf where nothing is
            known.
        outcome: how the walk ended, with advice; NOT_FINITE, whatever was given, where P has values that are not.
        history: the bound after each step, the start included, as far as it was computed; to plot against the steps.
    """

    probabilities: Float[Tensor, "n k"]
    steps: int
    bound: float
    outcome: Outcome
    history: tuple[float, ...] = field(default=(), repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Let nothing that is not finite pass as reached, whoever made it."""
        if not bool(torch.isfinite(self.probabilities).all()):
            object.__setattr__(self, "outcome", Outcome.NOT_FINITE)
            object.__setattr__(self, "bound", math.inf)


def started(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
    """Check G and α before a walk, and give G in float32."""
    if not (0 <= alpha < 1):
        raise OptionError(f"Got alpha = {alpha!r}. Accepted is a number from 0 to below 1. Choose how likely the walk goes on.")
    return label_rows(G, S.n)


def aligned(G: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
    """Copy G beside columns of zeros, up to 16 or a larger multiple of 8: they stay 0 in every walk and cost less than odd shapes do."""
    return torch.nn.functional.pad(G, (0, max(_LEAST - G.shape[1], -G.shape[1] % _COLUMNS))).contiguous()


def is_stochastic(S: StepMatrix) -> bool:
    """Whether rows of S are non-negative with sum 1, as S declares it; the bound holds for nothing else."""
    return bool(getattr(S, "stochastic", True))


def dense(S: StepMatrix, like: Tensor) -> Float[Tensor, "n n"]:
    """Write S out in float64 by n unit columns."""
    exact: Callable[[Tensor], Tensor] | None = getattr(S, "exact", None)
    unit = torch.eye(S.n, device=like.device)
    return wide(S @ unit) if exact is None else exact(wide(unit))


def geometric(alpha: float, step: int) -> float:
    """Bound of the truncated walk after ``step`` steps: 2α^{step+1}, never more than 2."""
    return min(2.0, 2.0 * math.pow(alpha, step + 1))
