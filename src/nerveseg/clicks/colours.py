"""A colour model of clicked labels, applied at pixels.

Let q be the share of a label at a pixel, h the probability that a walk from there ends at the label's clicks, and λ the local mean of h.
Two histograms describe the label's colours and those of everything else,

    f(c) ∝ Σ λq² over the pixels of colour c,    g(c) ∝ Σ λ(1 − q)²,

and the odds q/(1 − q) are multiplied by (f/g)ʷ wherever h is not 0. The histograms are then computed once more, from the new q. Colour may
extend a region but never create a disconnected one. This is the colour model of interactive segmentation (Rother, Kolmogorov and Blake
2004), made soft, and local by λ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, Int32
from scipy import ndimage as _ndimage  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.nn import functional as F

from nerveseg.clicks.ground import Reach
from nerveseg.masks.color_likelihood import BINS, ColorLikelihoodRatio
from nerveseg.masks.upsample import NOTHING, resample

__all__ = ["told"]

ndimage: Any = _ndimage

_AROUND = 3  # tokens on each side that λ is a mean over
_EVERYWHERE = 0.02  # what is added to λ, so that the rest of the image has a say
_REACHED = 30.0  # times h, at most 1: colours count where a walk comes to the clicks at all, and nowhere else
_ROUNDS = 2
_WIDTH = 0.7  # of the histograms' smoothing, in bins
_UNSEEN = 1e-6  # share of a histogram that is spread over all colours
_LEAST = 1e-4  # q is kept this far from 0 and 1
_TOGETHER = 16  # labels: more of them save nothing, and thousands would fill the memory
_PIXELS = 1 << 15  # of larger images, as many pixels make the histograms


def told(P: Float[Tensor, "n k"], grid: tuple[int, int], reach: Reach, codes: Int16[Tensor, "H W"], weight: float) -> ColorLikelihoodRatio:
    """Colours' odds of the labels that have clicks.

    Args:
        P: with clicks, the columns that are shown.
        grid: (h, w) of its tokens.
        reach: of the clicks.
        codes: the colours of the image's pixels, from `nerveseg.masks.color_likelihood.bins`.
        weight: w ≥ 0. Larger: colours count more.

    Cost O(32768) a label, whatever the image's size.
    """
    step = math.ceil(math.sqrt(codes.numel() / _PIXELS))
    seen = codes[step // 2 :: step, step // 2 :: step]
    size = (seen.shape[0], seen.shape[1])
    P, H = P.cpu(), reach.H[:, :-1].cpu()

    def fine(columns: Float[Tensor, "n c"]) -> Float[Tensor, "c H W"]:
        return resample(columns.T.unflatten(1, grid), size)

    total = fine(P.sum(1, keepdim=True)).clamp_min_(NOTHING)
    best, at = P.max(dim=1, keepdim=True)
    second = P.scatter(1, at, 0).amax(1, keepdim=True)
    tables: dict[int, Tensor] = {}
    near: dict[int, Tensor] = {}
    for first in range(0, len(reach.labels), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        labels, h = torch.tensor(reach.labels[part]), H[:, part]
        around = F.avg_pool2d(h.T.unflatten(1, grid), 2 * _AROUND + 1, stride=1, padding=_AROUND, count_include_pad=False)
        local = resample(around + _EVERYWHERE, size)
        q, felt = (fine(P[:, labels]) / total).clamp_(_LEAST, 1 - _LEAST), fine(h).mul_(_REACHED).clamp_(0, 1)
        by_colour, after = _tables(q, local, felt, seen.int(), weight)
        rival = fine(torch.where(at == labels, second, best)) / total
        felt = felt * ~_apart(after * (1 - q) > rival * (1 - after), q > rival)
        tables |= zip(reach.labels[part], by_colour, strict=True)
        near |= zip(reach.labels[part], felt, strict=True)
    return ColorLikelihoodRatio(codes, tables, near)


def _tables(
    q: Float[Tensor, "l y x"], local: Float[Tensor, "l y x"], felt: Float[Tensor, "l y x"], codes: Int32[Tensor, "y x"], weight: float
) -> tuple[Float[Tensor, "l b"], Float[Tensor, "l y x"]]:
    """w·ln(f/g) by colour, and the q that comes of it."""
    start, tables, after, smoothing = torch.logit(q), q.new_zeros(len(q), BINS**3), q, _smoothing()
    places = codes + torch.arange(len(q), dtype=torch.int32).view(-1, 1, 1) * BINS**3
    for _ in range(_ROUNDS):
        f, g = (_histograms(local * part.square(), places, smoothing) for part in (after, 1 - after))
        tables = f.div_(g).log_().mul_(weight)
        after = torch.sigmoid(start + felt * tables.flatten()[places])
    return tables, after


def _apart(has: Bool[Tensor, "l y x"], had: Bool[Tensor, "l y x"]) -> Bool[Tensor, "l y x"]:
    """Islands: parts that a label has only by its colours, and a pixel more on every side of them."""
    beside = np.zeros((3, 3, 3), bool)
    beside[1] = True  # labels lie in planes that do not touch
    number, count = ndimage.label(has.numpy(), beside)
    part = torch.from_numpy(number)
    joined = torch.zeros(count + 1, dtype=torch.bool)
    joined[part[has & had].long()] = True
    islands = has & ~joined[part]
    wide = islands.clone()
    wide[..., 1:] |= islands[..., :-1]
    wide[..., :-1] |= islands[..., 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown & ~(has & ~islands)


def _histograms(weights: Float[Tensor, "l y x"], places: Int32[Tensor, "l y x"], smoothing: Float[Tensor, "to of"]) -> Float[Tensor, "l b"]:
    """The share of each colour, smoothed along red, green and blue, nowhere 0."""
    count = len(weights)
    counts = torch.bincount(places.flatten(), weights.flatten(), count * BINS**3).float().view(count, BINS, BINS, BINS)
    for _ in range(3):  # each turn smooths the first axis of a cube and brings the next one to its place
        counts = (smoothing @ counts.flatten(2)).view(count, BINS, BINS, BINS).permute(0, 2, 3, 1)
    counts = counts.flatten(1)
    # The last is for a label that has no pixel at all.
    counts = counts + counts.sum(1, keepdim=True) * (_UNSEEN / BINS**3) + NOTHING
    return counts / counts.sum(1, keepdim=True)


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
