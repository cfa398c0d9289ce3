"""Rows of G as a softmax over per-class z-scores, weighed by how strongly each class shows at all.

    z_ic = (G_ic − mean_i G_ic)/std_i G_ic,   q_c = max_i G_ic
    a_ic = gain · z_ic · q_c^power + log_score · log q_c,   row i = softmax_c(a_ic)

The z-score lets a small or timid class win where it is strongest; q keeps a class that shows nowhere from winning anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob

__all__ = ["Options", "calibrate"]

_FLAT = 1e-6  # a column whose deviation is below this share of its maximum counts as constant: its z-score is 0


@dataclass(frozen=True)
class Options:
    """Knobs of the z-score calibration."""

    gain: float = knob(
        1.0,
        "factor on z-scores. Larger: harder rows; 0: rows say the class scores only.",
        low=0,
        high=100,
        source="measured on the embedded world",
    )
    score_power: float = knob(
        0.0,
        "power of the class score that multiplies z. Larger: weak classes flatten; 0.5 is the root.",
        low=0,
        high=4,
        source="measured on the embedded world",
    )
    log_score: float = knob(
        2.0,
        "factor on the log of the class score. Larger: weak classes are kept down harder; 0: not at all.",
        low=0,
        high=20,
        source="measured on the embedded world",
    )
    rest: str = knob(
        "keep",
        "what becomes of the rest column. keep: it stays, and classes share what it leaves; class: it competes like a class.",
        choices=("keep", "class"),
        source="ours",
    )


@torch.no_grad()
def calibrate(G: Float[Tensor, "n k"], options: Options, *, rest: bool = True) -> Float[Tensor, "n k"]:
    """Rescale every class to its own z-score, weigh by its score, and renormalise rows. Cost O(n·k).

    Args:
        G: non-negative, rows sum to 1, on the token grid.
        options: see `Options`.
        rest: whether the last column of G is ``rest``.

    Returns:
        Non-negative, rows sum to 1. Permuting classes permutes columns; constant columns have z = 0; all-zero columns stay 0
        (in an image where every class is 0, rows stay as they are).

    >>> G = torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0]])
    >>> calibrate(G, Options(log_score=0.0)).argmax(1)
    tensor([1, 0])
    """
    kept = rest and options.rest == "keep"
    classes = G[:, :-1] if kept else G
    left = 1 - G[:, -1:] if kept else G.new_ones(len(G), 1)
    rows = _softmax_of_z(classes, options) * left
    return torch.cat([rows, G[:, -1:]], dim=1) if kept else rows


def _softmax_of_z(G: Float[Tensor, "n C"], options: Options) -> Float[Tensor, "n C"]:
    q = G.amax(0)
    present = q > 0
    if not bool(present.any()):
        return G
    std, mean = torch.std_mean(G, dim=0, correction=0)
    z = torch.where(std > _FLAT * q, (G - mean) / std.clamp_min(torch.finfo(G.dtype).tiny), torch.zeros_like(G))
    a = options.gain * z * q.pow(options.score_power) + options.log_score * q.clamp_min(torch.finfo(G.dtype).tiny).log()
    return a.masked_fill(~present, -torch.inf).softmax(1)
