"""The guided filter (He, Sun, Tang 2013): in every small window the maps become a linear function of the image's colours.

a = (Σ + εI)⁻¹ cov(I, P),  b = mean(P) − aᵀ mean(I)   in windows of radius r;   P′ = mean(a)ᵀ I + mean(b)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob

__all__ = ["Options", "refine"]

on_logits = False
own_size = False

_TINY = 1e-12
_LUMA = (0.299, 0.587, 0.114)  # grey of red, green, blue (ITU-R BT.601)


@dataclass(frozen=True)
class Options:
    """Knobs of the guided filter."""

    radius: int = knob(8, "r of the windows in pixels. Larger: wider, smoother.", low=1, high=1000, source="He et al.: 4 to 60")
    eps: float = knob(
        1e-4, "ε, of colours in 0…1 squared. Larger: weak edges are smoothed over.", low=1e-8, high=10, source="He et al.: 1e-6 to 1e-2"
    )
    guide: str = knob(
        "colour", "what guides: all three colours, or their grey, which is faster.", choices=("colour", "grey"), source="He et al.: both"
    )


@torch.no_grad()
def refine(P: Float[Tensor, "K H W"], image: LoadedImage, options: Options) -> Float[Tensor, "K H W"]:
    """Refine maps by the image's colours. On an image of one colour they become the mean of means over windows.

    The filter keeps sums over classes, and values may leave 0…1 by a little: they are cut there and divided by their sum again.
    Cost O(K·H·W) whatever the radius is; a few maps of memory beside P and the result.

    Args:
        P: shares at image size.
        image: of that size.
        options: see `Options`.
    """
    # Covariances are differences of near numbers: float32 would drown a small ε, and MPS has nothing wider.
    place = torch.device("cpu") if P.device.type == "mps" else P.device
    colors = torch.tensor(image.pixels).permute(2, 0, 1).to(place).double() / 255
    if options.guide == "grey":
        colors = (colors * colors.new_tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    mean = _box(colors, options.radius)
    count = len(colors)
    squares = _box((colors[:, None] * colors).flatten(0, 1), options.radius).view(count, count, *colors.shape[1:])
    inverse = _inverse(squares - mean[:, None] * mean, options.eps)
    out = torch.empty_like(P)
    for c in range(len(P)):
        out[c] = _filtered(P[c].to(place).double(), colors, mean, inverse, options.radius).clamp_(0, 1)
    return out / out.sum(0).clamp_min_(_TINY)


def _filtered(
    maps: Float[Tensor, "H W"], image: Float[Tensor, "c H W"], mean: Float[Tensor, "c H W"], inverse: Float[Tensor, "c c H W"], radius: int
) -> Float[Tensor, "H W"]:
    both = _box(torch.cat([image * maps, maps[None]]), radius)
    own, covariance = both[-1], both[:-1] - mean * both[-1]
    a = (inverse * covariance).sum(1)
    smooth = _box(torch.cat([a, (own - (a * mean).sum(0))[None]]), radius)
    return (smooth[:-1] * image).sum(0) + smooth[-1]


def _inverse(covariance: Float[Tensor, "c c H W"], eps: float) -> Float[Tensor, "c c H W"]:
    """(Σ + εI)⁻¹ of every window, Σ symmetric: rows of the inverse are cross products of rows of the matrix over its determinant."""
    count = len(covariance)
    matrix = covariance + eps * torch.eye(count, dtype=covariance.dtype, device=covariance.device)[..., None, None]
    if count == 1:
        return matrix.reciprocal()
    rows = torch.stack([torch.cross(matrix[(i + 1) % 3], matrix[(i + 2) % 3], dim=0) for i in range(3)])
    return rows / (matrix[0] * rows[0]).sum(0)


def _box(maps: Float[Tensor, "c H W"], radius: int) -> Float[Tensor, "c H W"]:
    """Mean over windows of 2r + 1, only of pixels inside the image."""
    # One side after the other, each by differences of running sums: the radius costs nothing.
    for dim in (1, 2):
        places = torch.arange(maps.shape[dim], device=maps.device)
        first, last = (places - radius).clamp_min_(0), (places + radius + 1).clamp_max_(maps.shape[dim])
        sums = F.pad(maps.cumsum(dim), (1, 0) if dim == 2 else (0, 0, 1, 0))
        count = (last - first).to(maps.dtype)
        maps = (sums.index_select(dim, last) - sums.index_select(dim, first)) / (count if dim == 2 else count[:, None])
    return maps
