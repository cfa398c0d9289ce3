"""The weight of each head, from the entropy of the labels after one step with that head alone (12-14)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition.affinity import Affinity
from nerveseg.transition.global_graph import height
from nerveseg.transition.sample import entropy, sampled
from nerveseg.transition.transfer import numbers

__all__ = ["from_entropies", "given", "head_entropies"]

# Rows below which a share of them is not worth taking.
_LEAST_ROWS = 256


def head_entropies(affinities: Sequence[Affinity], G: Float[Tensor, "n k"], grid: tuple[int, int], share: float) -> Float[Tensor, " H"]:
    """Estimate 𝓗⁽ʰ⁾, the mean entropy in nats of the rows of one global step Y⁽ʰ⁾ = S_global⁽ʰ⁾ G (12, 13).

    Args:
        affinities: all heads, in their groups.
        G: (n, k) float32, rows sum to 1.
        grid: (height, width) in tokens.
        share: share of the rows looked at, in (0, 1]; 1 takes all, and 256 rows are always looked at.

    Cost: O(share·n²·d) a head, or O(n·r·k) with a feature map.
    """
    n = grid[0] * grid[1]
    index = sampled(grid, max(_LEAST_ROWS, math.ceil(share * n)), G.device)
    return torch.cat([_some(affinity, G, index) for affinity in affinities])


def _some(affinity: Affinity, G: Float[Tensor, "n k"], index: Tensor) -> Float[Tensor, " H"]:
    if affinity.kernel.low_rank:
        pair = affinity.thin()
        return _mean_entropy(pair.left[:, index] @ (pair.right.mT @ G), None if pair.stuck is None else pair.stuck[:, index], G[index])
    total = torch.zeros(len(affinity.left), device=G.device)
    size = height([affinity])
    for start in range(0, index.numel(), size):
        part = index[start : start + size]
        rows, stuck = affinity.rows(part)
        total += _mean_entropy(rows @ G, stuck, G[part]) * (part.numel() / index.numel())
    return total


def _mean_entropy(Y: Float[Tensor, "H s k"], stuck: Tensor | None, stay: Float[Tensor, "s k"]) -> Float[Tensor, " H"]:
    return entropy(Y if stuck is None else torch.where(stuck[..., None], stay, Y)).mean(dim=-1)


def from_entropies(entropies: Float[Tensor, " H"], peakedness: float) -> Float[Tensor, " H"]:
    """Weigh heads by softmax(−c·𝓗) (14).

    Args:
        entropies: (H,) in nats.
        peakedness: c ≥ 0; larger: certain heads count more, 0: all alike, inf: the most certain one alone, the first where several tie.
    """
    if math.isinf(peakedness):
        return torch.nn.functional.one_hot(entropies.argmin(), entropies.numel()).float()
    above = entropies - entropies.min()  # c of any size: the most certain head's term stays 0
    return torch.softmax(-peakedness * above.double(), dim=0).float()


def given(weights: Tensor, count: int) -> Float[Tensor, " H"]:
    """Check the weights that a caller brought, and scale them to sum 1."""
    if weights.shape != (count,):
        raise ShapeError(f"Got head weights of shape {tuple(weights.shape)}. Accepted is ({count},), one a head. Give one number a head.")
    each = numbers(weights)
    if not (all(math.isfinite(x) and x >= 0 for x in each) and max(each) > 0):
        raise OptionError(
            f"Got the head weights {each}. Accepted are finite numbers ≥ 0 that are not all 0. Leave heads out with weight 0."
        )
    largest = max(each)  # a sum of huge numbers is inf
    shares = [x / largest for x in each]
    return torch.tensor([x / sum(shares) for x in shares])
