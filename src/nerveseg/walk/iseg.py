"""iSeg's iterated refinement by entropy-reduced attention: each class's map is spread, its floor taken off, and scaled, n times.

A = mean of the chosen heads' softmax(QKᵀ/√d):

    T_ij = A_ij / max_i A_ij                      by key: the largest over queries
    T_ij ← max(T_ij + λ·log10(e·T_ij), 0)         entropy reduction: weak entries vanish
    T_ij ← T_ij / Σ_j T_ij
    C ← N(G), then n times C ← N(T·C),            N(c) = (c − min c)/Σ(c − min c), each class by itself over the image
    P_ic = (C_ic − min C_c)/(max C_c − min C_c)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.registry import knob
from nerveseg.registry import options as checked_options
from nerveseg.transition import Heads
from nerveseg.transition.rows import finite_rows
from nerveseg.walk import _attention
from nerveseg.walk.base import Outcome, Walk

__all__ = ["Options", "iseg", "solve"]

linear = False
needs = "heads"


@dataclass(frozen=True)
class Options:
    """Knobs of iSeg's iteration."""

    steps: int = knob(
        8,
        "n: times the maps are spread. Larger: smoother, farther from G.",
        low=0,
        high=1000,
        source="iSeg: 8 (VOC), 5 (Context), 10 (COCO)",
    )
    lam: float = knob(
        0.015,
        "λ of the entropy reduction. Larger: fewer entries of T are left; 0: all.",
        low=0,
        high=10,
        source="iSeg: 0.015 (VOC), 0.002 (Context), 0.1 and 0.2 (COCO)",
    )
    heads: tuple = knob(  # type: ignore[type-arg]  # the registry reads bare types
        (1, 2),
        "heads whose mean is A, counted from 0; none: all of them. More: smoother.",
        source="iSeg: heads 1 and 2 of SD 2.1-base's up_blocks.3.attentions.1",
    )


def iseg(heads: Heads, G: Float[Tensor, "n k"], steps: int = 8, lam: float = 0.015, chosen: tuple[int, ...] = ()) -> Walk:
    """Spread each class's map ``steps`` times over entropy-reduced attention.

    Args:
        heads: queries and keys.
        G: (n, k) class maps on the same tokens, any float dtype; computed in float32. Only the shape of a column counts, not its height.
        steps: n ≥ 0; larger: smoother. 0 gives the columns of G from 0 to 1.
        lam: λ ≥ 0; larger: fewer entries of T are left.
        chosen: heads whose mean is taken, counted from 0; none: all.

    Returns:
        P: iSeg's own output, each class from 0 to 1 over the tokens, so non-negative, and rows do **not** sum to 1: rules compare the
        columns as they are, or by their shares of a pixel. A class that is the same at all tokens says nothing of where it is and becomes
        0. A column ``rest`` is treated as any other; iSeg itself makes the background of what the classes leave, see the knobs ``floor``
        and ``rest`` of the rule class_max. Not linear; there is no limit that P approaches: the bound is inf.

    Cost: O(n²·(H·d + steps·k)) time; n² · 4 bytes up to 8192 tokens, beyond T is made anew in each step.

    Raises:
        OptionError: a knob out of range, or a head that is not there.
        ShapeError: G does not fit the heads.
    """
    return solve(heads, G, checked_options(Options, {"steps": steps, "lam": lam, "heads": chosen}, "walk"))


@torch.no_grad()
def solve(heads: Heads, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    maps = _normed(finite_rows(G, heads.n).to(heads.queries.device))
    T = _reduced(heads, options)
    for _ in range(options.steps):
        maps = _normed(_attention.product(T, maps))
    top = maps.amax(0)  # the smallest value of a normed map is 0 already
    return Walk(maps / torch.where(top > 0, top, torch.ones_like(top)), options.steps, float("inf"), Outcome.REFINED)


def _normed(C: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    lifted = C - C.amin(0)
    sums = lifted.sum(0)
    return lifted / torch.where(sums > 0, sums, torch.ones_like(sums))


def _reduced(heads: Heads, options: Options) -> _attention.Rows:
    """Rows of T. A row that the reduction empties, for which iSeg has no rule, stays in place."""
    asked: tuple[object, ...] = options.heads  # type: ignore[reportUnknownMemberType]
    chosen = _chosen(asked, heads.count)
    A = _attention.attention(heads.queries[chosen], heads.keys[chosen])
    peaks = _attention.peaks(A, heads.n, heads.queries).clamp_min_(torch.finfo(torch.float32).tiny)
    decade = options.lam / math.log(10)

    def rows(block: slice) -> Float[Tensor, "b n"]:
        T = A(block).div_(peaks)
        if decade:  # λ·log10(e·T) = (λ/ln 10)·(1 + ln T); an entry of 0 becomes −inf, and 0 again
            T.add_(T.log().add_(1).mul_(decade)).clamp_(min=0)
        sums = T.sum(1, keepdim=True)
        empty = sums <= 0
        T.div_(sums.masked_fill_(empty, 1))
        T.diagonal(block.start).masked_fill_(empty[:, 0], 1)
        return T

    return _attention.held(rows, heads.n)


def _chosen(asked: tuple[object, ...], count: int) -> list[int]:
    if not asked:
        return list(range(count))
    found = [head for head in asked if isinstance(head, int) and not isinstance(head, bool) and 0 <= head < count]
    if len(found) != len(asked) or len(set(found)) != len(found):
        raise OptionError(
            f"Got walk.heads = {list(asked)!r} for {count} heads. Accepted are different numbers from 0 to {count - 1}. "
            "Choose some of them, or none for all."
        )
    return found
