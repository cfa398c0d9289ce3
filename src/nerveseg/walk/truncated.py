"""The paper's walk: L steps, normalised (16, 19)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.registry import options as checked
from nerveseg.walk._certificate import certified
from nerveseg.walk.base import Outcome, StepMatrix, Walk, aligned, geometric, is_stochastic, started

__all__ = ["Options", "solve", "truncated"]

linear = True
needs = "S"


@dataclass(frozen=True)
class Options:
    """Knobs of the truncated walk."""

    alpha: float = knob(0.9, "α: probability of walking on; larger: longer walks, smoother labels.", low=0, below=1)
    steps: int = knob(40, "L: steps taken; larger: nearer to the infinite walk, 0 gives G back.", low=0, high=100_000, source="Fig. 2")


def truncated(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float = 0.9, steps: int = 40) -> Walk:
    """Walk L steps: P_L = (1 − α)/(1 − α^{L+1}) · Σ_{t=0..L} αᵗSᵗG (16), by the recurrence (19).

    Args:
        S: the transition over n tokens.
        G: (n, k) label probabilities on the same tokens, rows ≥ 0 that sum to 1 (to 1/256), any float dtype; computed in float32.
        alpha: 0 ≤ α < 1; larger: longer walks. 0 gives G back without a step.
        steps: L ≥ 0; larger: nearer to the infinite walk. 0 gives G back.

    Returns:
        P_L, whose rows are at most ``bound`` from those of the infinite walk in L1: 2α^{L+1}, which is reached, and round-off.

    Cost: L applications of S, and one in float64 that proves the bound; three n × k blocks, then four in float64.

    Raises:
        OptionError: alpha or steps out of range.
        ShapeError: G does not fit S, or is not finite. StochasticError: rows of G that are no probabilities.
    """
    return solve(S, G, checked(Options, {"alpha": alpha, "steps": steps}, "walk"))


def solve(S: StepMatrix, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    alpha, taken = options.alpha, options.steps if options.alpha > 0 else 0
    start = started(S, G, alpha)
    history = tuple(geometric(alpha, step) if is_stochastic(S) else float("inf") for step in range(taken + 1))
    if taken == 0:
        return Walk(start.clone(), 0, history[-1], Outcome.EXACT if alpha == 0 else Outcome.TRUNCATED, history)
    with torch.no_grad():
        source = aligned(start).mul_(1 - alpha)
        P = source.clone()
        for _ in range(taken):
            torch.add(source, S @ P, alpha=alpha, out=P)
        bound = _bound(S, source, P, options) if is_stochastic(S) else float("inf")
    found = P[:, : start.shape[1]] / (1 - alpha ** (taken + 1))
    return Walk(found, taken, bound, Outcome.TRUNCATED, (*history[:-1], bound))


def _bound(S: StepMatrix, source: Float[Tensor, "n k"], P: Float[Tensor, "n k"], options: Options) -> float:
    """Bound the error of P̃_L/(1 − α^{L+1}).

    The residual of P̃_L, before it is normalised, is (1 − α)α^{L+1}S^{L+1}G: not negative, rows of one sum. So its certificate is
    α^{L+1} to the digit, and round-off; dividing moves each row by α^{L+1}/(1 − α^{L+1}) of itself, and rounds it.
    """
    alpha, left = options.alpha, options.alpha ** (options.steps + 1)
    most = float(P.abs().sum(dim=1).max())
    return certified(S, source / (1 - alpha), P, alpha).bound + most * (left + torch.finfo(P.dtype).eps) / (1 - left)
