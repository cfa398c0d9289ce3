"""Smooth an image's noise but keep its edges: each pixel takes the mean of neighbours with similar colours."""

from __future__ import annotations

import math

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

__all__ = ["calm"]

_TURNS, _SHARPNESS = 2, 2.0
_BAND = 1 << 18  # pixels at a time
_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def calm(pixels: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "H W 3"]:
    """Take the grain out of an image, so that masks which keep to its colours have none.

    Twice, each pixel takes the mean of its own and its neighbours' colours, c_i ← Σ_j w_ij c_j / Σ_j w_ij with
    w_ij = exp(−2‖c_i − c_j‖/m) and m the mean of ‖c_i − c_j‖ over neighbours side by side: edges stay. Cost O(H·W), once an image.
    """
    for _ in range(_TURNS):
        pixels = _averaged(pixels)
    return pixels


def _averaged(pixels: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "H W 3"]:
    height, width = pixels.shape[:2]
    rows = max(1, _BAND // width)
    some = pixels[:: math.ceil(height / rows)].int()
    far = (some[:, 1:] - some[:, :-1]).float().square().sum(2).sqrt()
    mean = float(far.mean()) if far.numel() else 0.0
    if mean == 0:
        return pixels
    out = torch.empty_like(pixels)
    for top in range(0, height, rows):
        # A row more on either side, and at the image's sides the pixels there once more.
        at = torch.arange(top - 1, min(top + rows, height) + 1).clamp_(0, height - 1)
        c = F.pad(pixels[at].permute(2, 0, 1).float(), (1, 1), mode="replicate")
        own = c[:, 1:-1, 1:-1]
        total, weights = own.clone(), torch.ones_like(own[0])
        for dy, dx in _NEIGHBOURS:
            there = c[:, 1 + dy : c.shape[1] - 1 + dy, 1 + dx : c.shape[2] - 1 + dx]
            w = torch.exp((there - own).square().sum(0).sqrt_().mul_(-_SHARPNESS / mean))
            total.addcmul_(there, w)
            weights += w
        out[top : top + rows] = total.div_(weights).round_().byte().permute(1, 2, 0)
    return out
