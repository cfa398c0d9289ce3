"""LPOSS+ (CVPR 2025): label propagation over pixels, joined with those around them by likeness of colour.

On the image resized to a short side of 448, with c_i = Lab / [100, 128, 128] of pixel i and every offset of up to r in both axes:

    W_ij = exp(−‖c_i − c_j‖/τ),   D_ii = Σ_j W_ij (1 where that is 0),   Ŵ = D^−½ W D^−½
    (I − αŴ) X = Y                  conjugate gradients from 0, map by map, at most ``steps``
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.image.load import LoadedImage
from nerveseg.labels._windows import bilinear, kept_ratio
from nerveseg.masks.upsample import resample
from nerveseg.registry import knob
from nerveseg.walk.lposs import alpha_knob, conjugate, steps_knob, tolerance_knob

__all__ = ["Options", "lab", "refine"]

on_logits = True
own_size = True  # it works on the image as the network saw it, and gives maps back in the size they came in
_MAPS = 16  # maps solved at once: each takes five more of its size
_ONE = 1e-3  # sums of shares are 1 up to this

# CIE 1931, sRGB with the white of D65 (IEC 61966-2-1).
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
_LAB = (100.0, 128.0, 128.0)


@dataclass(frozen=True)
class Options:
    """Knobs of LPOSS+."""

    short_side: int = knob(
        448,
        "pixels of the shorter side that is worked on, 0: the image's own. Larger: finer, slower.",
        low=0,
        high=4096,
        source="LPOSS+: 448",
    )
    radius: int = knob(
        6,
        "r: farthest pixel along an axis that each is joined with. Larger: wider, time by its square.",
        low=1,
        high=64,
        source="LPOSS+: 6",
    )
    tau: float = knob(0.01, "τ: distance of colours at which the weight falls to 1/e. Larger: flatter.", above=0, source="LPOSS+: 0.01")
    alpha: float = alpha_knob()
    steps: int = steps_knob()
    tolerance: float = tolerance_knob()


@torch.no_grad()
def refine(P: Float[Tensor, "K H W"], image: LoadedImage, options: Options) -> Float[Tensor, "K H W"]:
    """Propagate maps over the image's pixels.

    (I − αŴ)⁻¹ is non-negative, but its rows do not sum to 1. Shares (≥ 0, sum 1) are therefore divided by what a map of ones becomes in the
    same solve: the order of labels at a pixel stays LPOSS+'s, maps that say the same everywhere come back as they are. They are then cut
    at 0 and divided by their sum, which early stopping leaves a little beside 1. Logits stay LPOSS+'s own, (1 − α)X: what is brought to
    the image's size after this must not be divided pixel by pixel before.

    Args:
        P: shares, or logits, of any size: they are brought to the size that is worked on and back, bilinearly.
        image: what they are of.
        options: see `Options`.

    Cost: O(steps·(2r + 1)²·K·h·w) at the size h·w that is worked on. Memory: 2r(r + 1) floats a pixel for weights (90 MB at 448 × 600) and
    five maps each of up to 16 that are solved at once, whatever K is.
    """
    size = kept_ratio(image.size, options.short_side) if options.short_side else image.size
    own = (P.shape[1], P.shape[2])
    weights = _weights(lab(_colours(image, size)).to(P.device), options)
    shares = float(P.min()) >= 0 and float((P.sum(0) - 1).abs().max()) < _ONE
    out = torch.empty(P.shape, device=P.device)
    for first in range(0, len(P), _MAPS):
        block = resample(P[first : first + _MAPS].float(), size)
        out[first : first + _MAPS] = resample(_solved(block, weights, options), own)
    if shares:
        ones = resample(_solved(torch.ones(1, *size, device=P.device), weights, options), own)
        out.div_(ones.clamp_min_(torch.finfo(torch.float32).tiny)).clamp_(min=0)
        out.div_(out.sum(0))
    return out.to(P.dtype)


def lab(rgb: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """CIE L*a*b* of sRGB in 0…1: L in 0…100, a and b in about −128…127."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).pow(2.4), rgb / 12.92)
    xyz = torch.einsum("xc,chw->xhw", rgb.new_tensor(_XYZ), linear) / rgb.new_tensor(_WHITE).view(3, 1, 1)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0).pow(1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _colours(image: LoadedImage, size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """RGB in 0…1 at a size, resized as the label source does it."""
    return bilinear(torch.tensor(image.pixels).permute(2, 0, 1), size).float() / 255


def _offsets(radius: int, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """One of each pair of opposite offsets, those that leave nothing of the image out."""
    found = [(dy, dx) for dy in range(radius + 1) for dx in range(-radius, radius + 1) if (dy, dx) > (0, 0)]
    return tuple((dy, dx) for dy, dx in found if dy < size[0] and abs(dx) < size[1])


def _pair(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Views of the pixels that have a partner at an offset, and of those partners."""
    h, w = x.shape[-2:]
    left, right = max(0, -dx), max(0, dx)
    return x[..., : h - dy, left : w - right], x[..., dy:, right : w - left]


def _weights(colours: Float[Tensor, "3 h w"], options: Options) -> tuple[tuple[tuple[int, int], Tensor], ...]:
    """Ŵ at each offset, over the pixels that have a partner there: one half of it, the other mirrors it."""
    c = colours / colours.new_tensor(_LAB).view(3, 1, 1)
    degree = torch.zeros_like(c[0])
    found: list[tuple[tuple[int, int], Tensor]] = []
    for dy, dx in _offsets(options.radius, (c.shape[1], c.shape[2])):
        here, there = _pair(c, dy, dx)
        weight = torch.exp(-(here - there).square().sum(0).sqrt() / options.tau)
        for side in _pair(degree, dy, dx):
            side += weight
        found.append(((dy, dx), weight))
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    for (dy, dx), weight in found:
        here, there = _pair(scale, dy, dx)
        weight.mul_(here).mul_(there)
    return tuple(found)


def _solved(maps: Float[Tensor, "c h w"], weights: tuple[tuple[tuple[int, int], Tensor], ...], options: Options) -> Float[Tensor, "c h w"]:
    """(1 − α)(I − αŴ)⁻¹ of each map."""
    shape = maps.shape

    def A(X: Tensor) -> Tensor:
        x = X.T.reshape(shape)
        moved = torch.zeros_like(x)
        for (dy, dx), weight in weights:
            (from_here, from_there), (to_here, to_there) = _pair(x, dy, dx), _pair(moved, dy, dx)
            to_here.addcmul_(from_there, weight)
            to_there.addcmul_(from_here, weight)
        return torch.sub(x, moved, alpha=options.alpha).flatten(1).T

    # A column a map, laid out map by map: what is multiplied stays contiguous.
    X, _ = conjugate(A, maps.flatten(1).T, steps=options.steps, tolerance=options.tolerance)
    return X.T.reshape(shape).mul_(1 - options.alpha)
