"""The probability that a walk from each token ends at a click, by label: an absorbing walk with an α of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nerveseg.clicks.ground import Ground, Reach
from nerveseg.transition.absorbing import absorbing, sown
from nerveseg.transition.resolvent import Resolvent
from nerveseg.walk import infinite

__all__ = ["reached"]

# New tokens whose columns are solved for at once; a walk from where it ended before costs less than more of them.
_COLUMNS = 256


def reached(ground: Ground[Any], index: Int64[Tensor, " b"], ids: Int64[Tensor, " b"], before: Reach | None = None) -> Reach:
    """Solve (I − αDS)[H, r] = (1 − α)D[0, 1] + (I − D)[Y, 0]: where walks from every token end.

    S is here what clicks walk on, with the image's edges in it. With N = (I − αS)⁻¹ at hand, H = N_B (N_BB)⁻¹ Y: one column of N for each
    new token. Without, an infinite walk starts from where the clicks before these reached. Either way the last step is one of the walk's,
    whose residual bounds the error.

    Args:
        ground: what clicks walk on, their α and their tolerance.
        index: tokens that are clicks, each once.
        ids: their columns of P.
        before: what fewer of them reached.
    """
    labels, place = ids.unique(return_inverse=True)
    known: Mapping[int, Tensor] = {} if before is None else before.columns
    S, N = ground.carrier, ground.resolvents.get("clicks")
    Y = F.one_hot(place, len(labels) + 1).float().to(index.device)
    names = tuple(labels.tolist())
    if N is not None and len(set(index.tolist()) - known.keys()) <= _COLUMNS:
        near, known = _by_columns(N, index, Y, known)
    else:
        near = _as_before(before, names, S.n, Y)
    start = torch.zeros(S.n, Y.shape[1], device=Y.device)
    start[:, -1] = 1
    walk = infinite(absorbing(S, index, near=near), sown(start, index, Y), ground.alpha, ground.options.tolerance)
    return Reach(names, walk.probabilities, walk.bound, walk.outcome, walk.steps, known)


def _by_columns(
    N: Resolvent, index: Int64[Tensor, " b"], Y: Float[Tensor, "b l"], known: Mapping[int, Tensor]
) -> tuple[Float[Tensor, "n l"], Mapping[int, Tensor]]:
    new = [token for token in index.tolist() if token not in known]
    if new:
        units = torch.zeros(N.factors.shape[0], len(new), device=Y.device)
        units[new, range(len(new))] = 1
        known = {**known, **dict(zip(new, (N @ units).T.contiguous(), strict=True))}
    C = torch.stack([known[token] for token in index.tolist()], dim=1)
    linalg: Any = torch.linalg
    H = C @ linalg.solve(C[index].double(), Y.double()).float()
    H[:, -1] = 1 - H[:, :-1].sum(1)
    return H, known


def _as_before(before: Reach | None, names: tuple[int, ...], n: int, Y: Float[Tensor, "b l"]) -> Float[Tensor, "n l"]:
    near = Y.new_zeros(n, Y.shape[1])
    if before is not None:
        # The background's column moves as labels are added: what was another label's is only a worse start.
        for at, name in enumerate(names):
            if name in before.labels:
                near[:, at] = before.H[:, before.labels.index(name)]
    near[:, -1] = 1 - near[:, :-1].sum(1)
    return near
