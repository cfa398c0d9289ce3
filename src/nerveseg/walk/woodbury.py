"""The infinite walk by the Woodbury identity: exact at any n, for transitions that hold a thin pair.

With M = I − α((1 − β)S_local + β·diag(stay)) and the thin pair U Vᵀ of the global graph,
(I − αS)⁻¹B = X + αβ Z(I_r − αβ VᵀZ)⁻¹VᵀX,  X = M⁻¹B,  Z = M⁻¹U.
"""

# pyright: basic
# SciPy ships no types.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.registry import knob
from nerveseg.registry import options as checked
from nerveseg.transition.base import Transition
from nerveseg.transition.float64 import wide
from nerveseg.transition.operators import LowRank
from nerveseg.walk._certificate import certified, returned
from nerveseg.walk.base import Outcome, StepMatrix, Walk, started

__all__ = ["Options", "solve", "woodbury"]

linear = True
needs = "S"


@dataclass(frozen=True)
class Options:
    """Knobs of the Woodbury walk."""

    alpha: float = knob(0.9, "α: probability of walking on; larger: longer walks, smoother labels.", low=0, below=1)


def woodbury(S: StepMatrix, G: Float[Tensor, "n k"], alpha: float = 0.9) -> Walk:
    """Solve (I − αS)P = (1 − α)G exactly through one sparse LU of the local part: a reference, not the fast way.

    Args:
        S: a `Transition` whose global graph is a thin pair (kernels with a feature map), or absent (beta = 0).
        G: (n, k) label probabilities on the same tokens, rows ≥ 0 that sum to 1 (to 1/256), any float dtype; solved in float64.
        alpha: 0 ≤ α < 1; larger: longer walks. 0 gives G back.

    Cost: r + k sparse solves and O(n·r² + r³), r the columns of the pair (H·d); 16·n·r bytes.

    Raises:
        OptionError: alpha out of range, or a transition without a thin pair.
        ShapeError: G does not fit S, or is not finite. StochasticError: rows of G that are no probabilities.
    """
    return solve(S, G, checked(Options, {"alpha": alpha}, "walk"))


def solve(S: StepMatrix, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    alpha = options.alpha
    start = started(S, G, alpha)
    if alpha == 0:
        return Walk(start.clone(), 0, 0.0, Outcome.EXACT, (0.0,))
    if not isinstance(S, Transition) or not (S.spread is None or isinstance(S.spread, LowRank)):
        raise OptionError(
            f"Got a transition that holds {type(getattr(S, 'spread', S)).__name__}, not a thin pair, for the Woodbury walk. "
            "Accepted are kernels with a feature map (anchor, elu, shifted), without keep. Use walk.infinite or, for small n, walk.direct."
        )
    with torch.no_grad():
        P = wide(torch.from_numpy(_solution(S, start.double().cpu().numpy() * (1 - alpha), alpha)).to(wide(start[:0]).device))
        if not S.stochastic:
            return Walk(P.to(start), 0, float("inf"), Outcome.EXACT, (float("inf"),))
        found, grown = returned(P, start)
        bound = certified(S, start, P, alpha).bound + grown
    return Walk(found, 0, bound, Outcome.EXACT, (bound,))


def _solution(S: Transition, B: Any, alpha: float) -> Any:
    """(I − αS)⁻¹B in float64, B and the result n × k arrays."""
    from scipy.sparse.linalg import splu

    # Rows of S as it is held miss 1 by round-off, which 1/(1 − α) would blow up.
    sums = S.exact(wide(torch.ones(S.n, 1, device=S.weights.device))).cpu().numpy() if S.stochastic else np.ones((S.n, 1))
    factor = splu(_local(S, alpha, sums))
    X = factor.solve(B)
    if not isinstance(S.spread, LowRank):
        return X
    share = alpha * (S.beta if S.stencil is not None else 1.0)
    U = (S.spread.left.double().cpu() * S.spread.scale.double().cpu()).numpy() / sums
    V = S.spread.right.double().cpu().numpy()
    Z = factor.solve(U)
    return X + share * Z @ np.linalg.solve(np.eye(U.shape[1]) - share * V.T @ Z, V.T @ X)


def _local(S: Transition, alpha: float, sums: Any) -> Any:
    """M as a sparse matrix: the identity less what the stencil and the rows that stay in place do."""
    from scipy import sparse

    matrix = sparse.eye_array(S.n, format="csc")
    if S.stencil is not None:
        rows = np.repeat(np.arange(S.n), S.stencil.indices.shape[1])
        entries = ((S.stencil.values.double().cpu().numpy() / sums).ravel(), (rows, S.stencil.indices.cpu().numpy().ravel()))
        matrix = matrix - alpha * (1 - S.beta) * sparse.coo_array(entries, shape=(S.n, S.n)).tocsc()
    if isinstance(S.spread, LowRank) and S.spread.stay is not None:
        share = S.beta if S.stencil is not None else 1.0
        matrix = matrix - alpha * share * sparse.diags_array(S.spread.stay.double().cpu().numpy() / sums[:, 0], format="csc")
    return sparse.csc_matrix(matrix)
