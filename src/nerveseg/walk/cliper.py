"""CLIPer's refinement by attention (ICCV 2025): the ordered product of the heads' matrices, once. It has no restarts.

Per head, A = softmax(QKᵀ/√d):

    B_ij = A_ij / (max_i A_ij + 1e-5)            by key: the largest over queries
    C_ij = B_ij where B_ij ≥ thr, else 0
    R_ij = C_ij / (Σ_j C_ij + 1e-5)
    P = R⁽¹⁾R⁽²⁾ … R⁽ᴴ⁾ G                         in the order of the heads, which does not commute
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.registry import options as checked_options
from nerveseg.transition import Heads
from nerveseg.transition.rows import label_rows
from nerveseg.walk import _attention
from nerveseg.walk.base import Outcome, Walk

__all__ = ["Options", "cliper", "solve"]

linear = True
needs = "heads"
_GUARD = 1e-5  # CLIPer's, in both quotients


@dataclass(frozen=True)
class Options:
    """Knobs of CLIPer's product."""

    attention_thr: float = knob(
        0.1,
        "share of a key's largest attention below which an entry is set to 0. Larger: sharper, fewer tokens exchange labels.",
        low=0,
        high=1,
        source="CLIPer: 0.1 (Pascal VOC, COCO-Object), 0.2, 0.35 (Cityscapes); the same number as in its label half",
    )


def cliper(heads: Heads, G: Float[Tensor, "n k"], attention_thr: float = 0.1) -> Walk:
    """Multiply G by every head's thinned attention, the last head first: P = R⁽¹⁾ … R⁽ᴴ⁾G.

    Args:
        heads: queries and keys; their order is the order of the product. CLIPer takes the last but one of SD 2.1's top layers first:
            ``graph.layers = ["up_blocks.3.attentions.1", "up_blocks.3.attentions.0"]``.
        G: (n, k) label probabilities on the same tokens, any float dtype; computed in float32.
        attention_thr: 0 … 1; larger: sharper.

    Returns:
        P ≥ 0, linear in G. A row of R sums to 1 less about 1e-5 over its sum before the division, so rows of P sum to a little less than
        those of G; a token of which no attention is left has a row of 0, and what leads there is lost, as in CLIPer. There is no limit
        that P approaches: the bound is inf.

    Cost: O(H·n²·(d + k)) time; n² · 4 bytes of one head at a time up to 8192 tokens, beyond a block of rows and twice the softmaxes.
    The product of the matrices is never formed.

    Raises:
        OptionError: attention_thr out of range.
        ShapeError: G does not fit the heads.
    """
    return solve(heads, G, checked_options(Options, {"attention_thr": attention_thr}, "walk"))


@torch.no_grad()
def solve(heads: Heads, G: Float[Tensor, "n k"], options: Options) -> Walk:
    """Walk with the knobs of ``options``."""
    columns = label_rows(G, heads.n).to(heads.queries.device)
    for h in reversed(range(heads.count)):
        columns = _attention.product(_thinned(heads.queries[h : h + 1], heads.keys[h : h + 1], options.attention_thr), columns)
    return Walk(columns, heads.count, float("inf"), Outcome.REFINED)


def _thinned(queries: Float[Tensor, "1 n d"], keys: Float[Tensor, "1 n d"], thr: float) -> _attention.Rows:
    A = _attention.held(_attention.attention(queries, keys), queries.shape[1])
    peaks = _attention.peaks(A, queries.shape[1], queries) + _GUARD

    def rows(block: slice) -> Float[Tensor, "b n"]:
        B = A(block) / peaks
        B.masked_fill_(thr > B, 0)
        return B.div_(B.sum(1, keepdim=True) + _GUARD)

    return rows
