"""The infinite walk to a certified tolerance, by global GMRES: one Krylov polynomial for all k columns.

GMRES for matrix equations after Jbilou, Messaoudi and Sadok (1999): the unknown is one n × k block, the inner product is Frobenius'.
Where S offers a cheap guess at (I − αS)⁻¹ (its local graph alone: a stencil step costs a fortieth of a global one), GMRES is
preconditioned with it from the right, which saves a third to a half of the applications and leaves the residual, so the bound, what it is.
Started at G, every iterate is made of S and the guess applied to G, and keeps row sums at 1. With hundreds of columns S may offer a
start that is nearly the end, one factorisation for all of them; the bound is that of the true residual all the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.registry import options as checked
from nerveseg.transition.host import sent
from nerveseg.walk.base import Outcome, StepMatrix, Walk, aligned, certified, geometric, is_stochastic, residual, settled, started

__all__ = ["Options", "infinite", "solve"]

linear = True
needs = "S"


@dataclass(frozen=True)
class Options:
    """Knobs of the infinite walk."""

    alpha: float = knob(0.9, "α: probability of walking on; larger: longer walks, smoother labels.", low=0, below=1)
    tolerance: float = knob(1e-4, "Largest accepted L1 error of a row of P; smaller: more steps, float32 ends near 1e-6.", above=0)
    max_steps: int = knob(400, "Most applications of S; larger: a hard case may take longer.", low=1)
    restart: int = knob(12, "Krylov blocks held before a restart; larger: fewer steps, n·k·4 bytes a block.", low=1, high=64)


def infinite(
    S: StepMatrix, G: Float[Tensor, "n k"], alpha: float = 0.9, tolerance: float = 1e-4, *, max_steps: int = 400, restart: int = 12
) -> Walk:
    """Walk for ever: P∞ = (1 − α)(I − αS)⁻¹G (3), to a certified tolerance.

    Args:
        S: the transition over n tokens.
        G: (n, k) label probabilities on the same tokens, rows sum to 1, any float dtype; computed in float32.
        alpha: 0 ≤ α < 1; larger: longer walks. 0 gives G back without a step.
        tolerance: largest accepted L1 error of a row; smaller: more steps.
        max_steps: most applications of S.
        restart: Krylov blocks held before a restart; larger: fewer steps and more memory.

    Returns:
        P with ``bound`` ≤ tolerance wherever ``outcome.reached``, by max_i ‖R_i‖₁/(1 − α) of the true residual R.

    Cost: 5 to 11 applications of S for 1e-4 at α = 0.9; restart + 6 blocks of n × k.

    Raises:
        OptionError: a knob out of range.
        ShapeError: G does not fit S.
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
    # What mending the row sums may add is kept back from the tolerance.
    alpha, goal = options.alpha, 0.95 * options.tolerance
    P = _beginning(S, G, alpha)
    R = residual(S, G, P, alpha)
    bound = certified(R, alpha)
    # history[t] is the bound after t steps. After none, rows that sum to 1 give the truncated walk's bound at L = 0.
    history = [geometric(alpha, 0), bound]
    stalled = False
    while alpha * bound > goal and len(history) < options.max_steps and not stalled:
        before, start = bound, len(history)
        _cycle(S, P, R, options, history)
        R.copy_(residual(S, G, P, alpha))
        bound = certified(R, alpha)
        history.append(bound)
        # Plain iteration is sure to shrink the error by α a step; a cycle that does worse has lost its footing.
        stalled = not bound < before * alpha ** (len(history) - start)
    if not is_stochastic(S):
        return Walk(P, len(history) - 1, float("inf"), Outcome.UNCERTIFIED, tuple(history))
    if alpha * bound > goal:
        bound = _plain(S, G, P, R, options, history)
    # The residual is at hand, so one more plain step is free, and takes a factor α off the bound.
    P.add_(R)
    history[-1] = bound = alpha * bound + settled(P, G)
    if bound <= options.tolerance:
        outcome = Outcome.FELL_BACK if stalled else Outcome.CONVERGED
    else:
        outcome = Outcome.SPENT if len(history) > options.max_steps else Outcome.STALLED
    return Walk(P, len(history) - 1, bound, outcome, tuple(history))


def _beginning(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
    head_start: Callable[..., Tensor | None] | None = getattr(S, "head_start", None)
    near = None if head_start is None else head_start(G, alpha)
    return G.clone() if near is None else near


def _cycle(S: StepMatrix, P: Float[Tensor, "n k"], R: Float[Tensor, "n k"], options: Options, history: list[float]) -> None:
    """Run one cycle of GMRES from the residual ``R``: adds the correction to ``P`` in place and a bound a step to ``history``."""
    alpha, size = options.alpha, float(R.square().sum().sqrt())
    if size == 0:
        return
    room = min(options.restart, options.max_steps - len(history))
    basis = R.new_empty(room + 1, R.numel())
    basis[0] = R.flatten() / size
    H = torch.zeros(room + 1, room, dtype=torch.float64)
    y = torch.zeros(0, 1, dtype=torch.float64)
    guess: Callable[..., Tensor] = getattr(S, "precondition", _as_it_is)
    for j in range(room):
        Z = guess(basis[j].view_as(R), alpha)
        length = _orthogonalise(basis, j + 1, torch.sub(Z, S @ Z, alpha=alpha).flatten(), H[:, j])
        target = torch.zeros(j + 2, 1, dtype=torch.float64)
        target[0] = size
        y = _least_squares(H[: j + 2, : j + 1], target)
        left = sent(target - H[: j + 2, : j + 1] @ y, R.device, R.dtype)
        history.append(min(history[-1], certified((basis[: j + 2].mT @ left).view_as(R), alpha)))
        # Aim below the tolerance: the true residual, taken afterwards, differs from this one by round-off.
        if alpha * history[-1] <= 0.9 * options.tolerance or length <= 1e-6:
            break
    P.add_(guess((basis[: y.shape[0]].mT @ sent(y, R.device, R.dtype)).view_as(R), alpha))


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
    S: StepMatrix, G: Float[Tensor, "n k"], P: Float[Tensor, "n k"], R: Float[Tensor, "n k"], options: Options, history: list[float]
) -> float:
    """Iterate P ← P + R in place until the bound is reached, the steps are spent, or five steps bring nothing (round-off)."""
    bound = certified(R, options.alpha)
    best, idle = bound, 0
    while options.alpha * bound > 0.95 * options.tolerance and len(history) - 1 < options.max_steps and idle < 5:
        P.add_(R)
        R.copy_(residual(S, G, P, options.alpha))
        bound = certified(R, options.alpha)
        history.append(bound)
        # Exact arithmetic gains a factor α; less than half of that gain is round-off.
        best, idle = (bound, 0) if bound < best * (1 + options.alpha) / 2 else (best, idle + 1)
    return bound
