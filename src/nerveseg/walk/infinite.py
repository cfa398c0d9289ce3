"""The infinite walk to a certified tolerance, by global GMRES: one Krylov polynomial for all k columns.

GMRES for matrix equations after Jbilou, Messaoudi and Sadok (1999): the unknown is one n × k block, the inner product is Frobenius'.
Where S offers a cheap guess at (I − αS)⁻¹ (its local graph alone: a stencil step costs a fortieth of a global one), GMRES is
preconditioned with it from the right, which saves a third to a half of the applications and leaves the residual, so the bound, what it is.
Started at G, every iterate is made of S and the guess applied to G, and keeps row sums at 1. With hundreds of columns S may offer a
start that is nearly the end, one factorisation for all of them; the bound is that of the true residual all the same.

Steps are float32's, the residual that ends a cycle is float64's (`nerveseg.walk._certificate`): the next cycle mends what round-off did to
the one before, as iterative refinement does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.registry import options as checked
from nerveseg.transition.float64 import wide
from nerveseg.transition.transfer import sent
from nerveseg.walk._certificate import Certificate, certified, residual, returned
from nerveseg.walk.base import Outcome, StepMatrix, Walk, aligned, geometric, is_stochastic, started

__all__ = ["Options", "infinite", "solve"]

linear = True
needs = "S"


@dataclass(frozen=True)
class Options:
    """Knobs of the infinite walk."""

    alpha: float = knob(0.9, "α: probability of walking on; larger: longer walks, smoother labels.", low=0, below=1)
    tolerance: float = knob(1e-4, "Largest accepted L1 error of a row of P; smaller: more steps, float32 ends near 1e-7/(1 − α).", above=0)
    max_steps: int = knob(400, "Most applications of S; larger: a hard case may take longer.", low=1)
    restart: int = knob(12, "Krylov blocks held before a restart; larger: fewer steps, n·k·4 bytes a block.", low=1, high=64)


def infinite(
    S: StepMatrix, G: Float[Tensor, "n k"], alpha: float = 0.9, tolerance: float = 1e-4, *, max_steps: int = 400, restart: int = 12
) -> Walk:
    """Walk for ever: P∞ = (1 − α)(I − αS)⁻¹G (3), to a certified tolerance.

    Args:
        S: the transition over n tokens.
        G: (n, k) label probabilities on the same tokens, rows ≥ 0 that sum to 1 (to 1/256), any float dtype.
        alpha: 0 ≤ α < 1; larger: longer walks. 0 gives G back without a step.
        tolerance: largest accepted L1 error of a row; smaller: more steps.
        max_steps: most applications of S.
        restart: Krylov blocks held before a restart; larger: fewer steps and more memory.

    Returns:
        P with ``bound`` ≤ tolerance wherever ``outcome.reached``, by max_i ‖R_i‖₁/(1 − α) of the true residual R, taken in float64, and
        what float32 did to the row sums of S.

    Cost: 5 to 11 applications of S for 1e-4 at α = 0.9; restart + 6 blocks of n × k.

    Raises:
        OptionError: a knob out of range.
        ShapeError: G does not fit S, or is not finite. StochasticError: rows of G that are no probabilities.
    """
    given = {"alpha": alpha, "tolerance": tolerance, "max_steps": max_steps, "restart": restart}
    return solve(S, G, checked(Options, given, "walk"))


def solve(S: StepMatrix, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    start = started(S, G, options.alpha)
    if options.alpha == 0:
        return Walk(start.clone(), 0, 0.0, Outcome.EXACT, (0.0,))
    with torch.no_grad():
        walk = _walk(S, aligned(start), options)
    return dataclasses.replace(walk, probabilities=walk.probabilities[:, : start.shape[1]].contiguous())


def _walk(S: StepMatrix, G: Float[Tensor, "n k"], options: Options) -> Walk:
    # Iterative refinement: P and its residual are in float64, what is added to P comes from float32.
    alpha = options.alpha
    start = _beginning(S, G, alpha)
    # history[t] is the bound after t steps. After none, rows that sum to 1 give the truncated walk's bound at L = 0.
    history = [geometric(alpha, 0)]
    P, proven = wide(G if start is None else start), None
    if start is None and options.max_steps > 1:
        missing, size = residual(S, G, G, alpha)
    else:
        proven = certified(S, G, P, alpha)
        missing, size = proven.residual.to(G), proven.size
    history.append(size if proven is None else proven.bound)
    aim, stalled = _aim(options, 0.0 if proven is None else proven.floor), False
    while alpha * size > aim and len(history) < options.max_steps and not stalled:
        before, begun = size, len(history)
        P.add_(_cycle(S, missing, options, aim, history).to(P))
        proven = _proven(S, G, P, options, history)
        missing, size, aim = proven.residual.to(G), proven.size, _aim(options, proven.floor)
        # Plain iteration is sure to shrink the error by α a step; a cycle that does worse has lost its footing.
        stalled = not size < before * alpha ** (len(history) - begun)
    if proven is None:
        proven = _proven(S, G, P, options, history)
    if not is_stochastic(S):
        return Walk(P.to(G), len(history) - 1, float("inf"), Outcome.UNCERTIFIED, tuple(history))
    if alpha * proven.size > _aim(options, proven.floor):
        proven = _plain(S, G, P, proven, options, history)
    # The residual is at hand, so one more plain step is free, and takes a factor α off the bound.
    found, grown = returned(P.add_(proven.residual), G)
    history[-1] = bound = alpha * proven.size + proven.floor + grown
    if bound <= options.tolerance:
        outcome = Outcome.FELL_BACK if stalled else Outcome.CONVERGED
    else:
        out_of_reach = proven.floor + grown > options.tolerance  # by any number of steps
        outcome = Outcome.SPENT if len(history) > options.max_steps and not out_of_reach else Outcome.STALLED
    return Walk(found, len(history) - 1, bound, outcome, tuple(history))


def _aim(options: Options, floor: float) -> float:
    """What α·size is to fall below: a little less than the tolerance leaves beside round-off; where it leaves nothing, a tenth of that."""
    goal = 0.95 * options.tolerance
    return max(goal - floor, 0.05 * goal) if floor < goal else 0.1 * floor


def _proven(S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], options: Options, history: list[float]) -> Certificate:
    proven = certified(S, G, P, options.alpha)
    history.append(proven.bound)
    return proven


def _beginning(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"] | None:
    head_start: Callable[..., Tensor | None] | None = getattr(S, "head_start", None)
    return None if head_start is None else head_start(G, alpha)


def _cycle(S: StepMatrix, R: Float[Tensor, "n k"], options: Options, aim: float, history: list[float]) -> Float[Tensor, "n k"]:
    """Run one cycle of GMRES from the residual ``R``: gives the correction of P, and adds a bound a step to ``history``."""
    alpha, size = options.alpha, float(R.square().sum().sqrt())
    if not 0 < size < float("inf"):  # nothing to mend, or nothing that can be mended
        return torch.zeros_like(R)
    room = min(options.restart, options.max_steps - len(history))
    basis = R.new_empty(room + 1, R.numel())
    basis[0] = R.flatten() / size
    H = torch.zeros(room + 1, room, dtype=torch.float64)
    y = torch.zeros(0, 1, dtype=torch.float64)
    guess: Callable[..., Tensor] = getattr(S, "precondition", _as_it_is)
    for j in range(room):
        Z = guess(basis[j].view_as(R), alpha)
        length = _orthogonalise(basis, j + 1, torch.sub(Z, S @ Z, alpha=alpha).flatten(), H[:, j])
        if not math.isfinite(length):
            return torch.zeros_like(R)
        target = torch.zeros(j + 2, 1, dtype=torch.float64)
        target[0] = size
        y = _least_squares(H[: j + 2, : j + 1], target)
        left = sent(target - H[: j + 2, : j + 1] @ y, R.device, R.dtype)
        found = float((basis[: j + 2].mT @ left).view_as(R).abs().sum(dim=1).max()) / (1 - alpha)
        history.append(min(history[-1], found))
        # Aim below: the true residual, taken afterwards, differs from this one by round-off.
        if alpha * found <= 0.94 * aim or length <= 1e-6:
            break
    return guess((basis[: y.shape[0]].mT @ sent(y, R.device, R.dtype)).view_as(R), alpha)


def _as_it_is(X: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
    return X


def _least_squares(A: Float[Tensor, "rows j"], b: Float[Tensor, "rows 1"]) -> Float[Tensor, "j 1"]:
    linalg: Any = torch.linalg
    return linalg.lstsq(A, b).solution


def _orthogonalise(basis: Float[Tensor, "rows nk"], count: int, w: Float[Tensor, " nk"], column: Float[Tensor, " rows"]) -> float:
    """Take the first ``count`` rows of the basis out of ``w`` and make what is left, at unit length, the next row.

    Writes the coefficients into a column of the Hessenberg matrix and returns the length that was left; ``w`` is overwritten.
    """
    inner: list[Tensor] = []
    for _ in range(2):
        # Classical Gram-Schmidt, twice is enough: one pass alone loses orthogonality in float32 near convergence.
        inner.append(basis[:count] @ w)
        w.addmv_(basis[:count].mT, inner[-1], alpha=-1)
    length = w.square().sum().sqrt()
    torch.div(w, length.clamp_min(torch.finfo(w.dtype).tiny), out=basis[count])
    # All coefficients and the length come at once: each time that the host asks, the device runs dry.
    found = torch.cat([*inner, length[None]]).cpu().double()
    column[:count] += found[:count]
    column[:count] += found[count:-1]
    column[count] = found[-1]
    return float(found[-1])


def _plain(
    S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], proven: Certificate, options: Options, history: list[float]
) -> Certificate:
    """Iterate P ← P + R in place until the bound is reached, the steps are spent, or five steps bring nothing (round-off)."""
    alpha = options.alpha
    best, idle = proven.size, 0
    while alpha * proven.size > _aim(options, proven.floor) and len(history) - 1 < options.max_steps and idle < 5:
        P.add_(proven.residual)
        proven = _proven(S, G, P, options, history)
        # Exact arithmetic gains a factor α; less than half of that gain is round-off.
        best, idle = (proven.size, 0) if proven.size < best * (1 + alpha) / 2 else (best, idle + 1)
    return proven
