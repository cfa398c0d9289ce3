"""What the colours at pixels say of labels with seeds.

With q the share of a label at a pixel, h how far its seeds reach and λ the mean of h around, its colours and those of all else are told
apart by two histograms,

    f(c) ∝ Σ λq² over the pixels of colour c,    g(c) ∝ Σ λ(1 − q)²,

and the odds q/(1 − q) are multiplied by (f/g)ʷ there, as far as a walk comes to the seeds. The q that comes out makes the histograms once
more. It is the colour model of interactive segmentation (Rother, Kolmogorov and Blake 2004), soft, and local by λ.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int16, Int32
from torch import Tensor
from torch.nn import functional as F

from nerveseg.clicks.ground import Reach
from nerveseg.masks.odds import BINS, Odds
from nerveseg.masks.upsample import NOTHING, resample

__all__ = ["told"]

_AROUND = 3  # tokens on each side that λ is a mean over
_EVERYWHERE = 0.02  # what is added to λ, so that the rest of the picture has a say
_REACHED = 30.0  # times h, at most 1: colours count where a walk comes to the seeds at all, and nowhere else
_ROUNDS = 2
_WIDTH = 0.7  # of the histograms' smoothing, in bins
_UNSEEN = 1e-6  # share of a histogram that is spread over all colours
_LEAST = 1e-4  # q is kept this far from 0 and 1
_PIXELS = 1 << 16  # of larger pictures, as many pixels make the histograms


def told(P: Float[Tensor, "n k"], grid: tuple[int, int], reach: Reach, codes: Int16[Tensor, "H W"], weight: float) -> Odds:
    """Colours' odds of the labels that have seeds.

    Args:
        P: with seeds, the columns that are shown.
        grid: (h, w) of its tokens.
        reach: of the seeds.
        codes: from `nerveseg.masks.odds.bins`.
        weight: w ≥ 0. Larger: colours count more.

    Cost O(65536) a label, whatever the picture's size.
    """
    step = math.ceil(math.sqrt(codes.numel() / _PIXELS))
    seen = codes[step // 2 :: step, step // 2 :: step]
    size, flat = (seen.shape[0], seen.shape[1]), seen.flatten().int()
    labels = list(reach.labels)
    maps, total = P[:, labels].cpu().T.unflatten(1, grid), P.sum(1).cpu().view(1, *grid)
    h = reach.H[:, :-1].cpu().T.unflatten(1, grid)
    around = F.avg_pool2d(h, 2 * _AROUND + 1, stride=1, padding=_AROUND, count_include_pad=False)
    near = (h * _REACHED).clamp_(0, 1)
    shares = (resample(maps, size) / resample(total, size).clamp_min(NOTHING)).clamp_(_LEAST, 1 - _LEAST).flatten(1)
    local, felt = (resample(part, size).flatten(1) for part in (around + _EVERYWHERE, near))
    tables = {label: _table(q, at, by, flat, weight) for label, q, at, by in zip(labels, shares, local, felt, strict=True)}
    return Odds(codes, tables, dict(zip(labels, near, strict=True)))


def _table(
    q: Float[Tensor, " p"], local: Float[Tensor, " p"], felt: Float[Tensor, " p"], codes: Int32[Tensor, " p"], weight: float
) -> Float[Tensor, " b"]:
    """w·ln(f/g) by colour."""
    start, table = torch.logit(q), q.new_zeros(BINS**3)
    for _ in range(_ROUNDS):
        f, g = (_histogram(local * part.square(), codes) for part in (q, 1 - q))
        table = (f / g).log_().mul_(weight)
        q = torch.sigmoid(start + felt * table[codes])
    return table


def _histogram(weights: Float[Tensor, " p"], codes: Int32[Tensor, " p"]) -> Float[Tensor, " b"]:
    """The share of each colour, smoothed along red, green and blue, nowhere 0."""
    counts, smoothing = torch.bincount(codes, weights, BINS**3).float().view(BINS, BINS, BINS), _smoothing()
    for _ in range(3):  # each turn smooths the first axis and brings the next one to its place
        counts = (smoothing @ counts.flatten(1)).view(BINS, BINS, BINS).permute(1, 2, 0)
    # The last is for a label that has no pixel at all.
    counts = counts.flatten() + counts.sum() * (_UNSEEN / BINS**3) + NOTHING
    return counts / counts.sum()


def _smoothing() -> Float[Tensor, "to of"]:
    """A Gaussian along one axis, what would leave it kept at its ends."""
    steps = torch.arange(-math.ceil(3 * _WIDTH), math.ceil(3 * _WIDTH) + 1)
    kernel = torch.exp(-0.5 * (steps / _WIDTH).square())
    bins = torch.arange(BINS)
    return torch.zeros(BINS, BINS).index_put_(
        (bins.repeat_interleave(len(steps)), (bins[:, None] + steps).clamp_(0, BINS - 1).flatten()),
        (kernel / kernel.sum()).repeat(BINS),
        accumulate=True,
    )
