"""PAMR (CVPR 2020): pixels take the mean of pixels around them that look alike, again and again.

κ(p, q) = mean_c −|I_c(p) − I_c(q)|/(0.1·s_c(p)),  s_c(p) the deviation of channel c over p's surroundings
w = softmax_q κ over 8 directions × dilations;   m(p) ← Σ_q w(p, q) m(q)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.errors import OptionError
from nerveseg.image.load import LoadedImage
from nerveseg.labels._windows import bilinear, kept_ratio
from nerveseg.masks.upsample import resample
from nerveseg.registry import knob

__all__ = ["Options", "refine"]

on_logits = True
own_size = False
_SHARE, _TINY = 0.1, 1e-8  # of the deviation; PAMR's
_BLOCK = 1 << 26  # bytes of one block of classes
_DIRECTIONS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


@dataclass(frozen=True)
class Options:
    """Knobs of PAMR."""

    iterations: int = knob(10, "times the mean is taken. Larger: smoother, slower.", low=0, high=1000, source="PAMR, NACLIP: 10")
    dilations: tuple = knob(  # type: ignore[type-arg]  # the registry reads bare types
        (8, 16), "distances of the pixels that are looked at. More: wider, slower.", source="NACLIP, SCLIP: 8 and 16"
    )
    guide_side: int = knob(
        0,
        "shorter side to which the image is brought, and back to its size, before its colours count. Smaller: blurred; 0: as it is.",
        low=0,
        high=4096,
        source="NACLIP, SCLIP: the short side of the network's image, as that image is their guide",
    )


@torch.no_grad()
def refine(P: Float[Tensor, "K H W"], image: LoadedImage, options: Options) -> Float[Tensor, "K H W"]:
    """Refine maps by the image's colours.

    Weights are non-negative and sum to 1 at each pixel, so shares stay shares. Cost O(iterations·8·dilations·K·H·W) time and
    8·dilations·H·W floats beside the maps, whatever K is.

    Args:
        P: maps at image size; shares, or logits of any sign.
        image: of that size. A factor on its colours cancels out, so it makes no difference whether they were normalised.
        options: see `Options`.

    Raises:
        OptionError: dilations that are no whole numbers from 1.
    """
    asked: tuple[object, ...] = options.dilations  # type: ignore[reportUnknownMemberType]
    dilations = _checked(asked)
    weights = _weights(_guide(image, options.guide_side).to(P.device), dilations)
    out = torch.empty_like(P)
    step = max(1, _BLOCK // (4 * P.shape[1] * P.shape[2]))
    for first in range(0, len(P), step):
        out[first : first + step] = _spread(P[first : first + step].float(), weights, options.iterations, dilations)
    return out


def _guide(image: LoadedImage, side: int) -> Float[Tensor, "3 H W"]:
    pixels = torch.tensor(image.pixels).permute(2, 0, 1)
    if side:
        pixels = bilinear(pixels, kept_ratio(image.size, side))
    return resample(pixels.float() / 255, image.size)


def _spread(
    maps: Float[Tensor, "c H W"], weights: Float[Tensor, "o H W"], times: int, dilations: tuple[int, ...]
) -> Float[Tensor, "c H W"]:
    for _ in range(times):
        total = torch.zeros_like(maps)
        for weight, moved in zip(weights, _around(maps, dilations), strict=True):
            total.addcmul_(moved, weight[None])
        maps = total
    return maps


def _weights(image: Float[Tensor, "3 H W"], dilations: tuple[int, ...]) -> Float[Tensor, "o H W"]:
    # The deviation is over all values that are looked at, the pixel itself once a dilation (unbiased).
    count = 9 * len(dilations)
    mean = image * len(dilations)
    for moved in _around(image, dilations):
        mean += moved
    mean /= count
    # Two passes: a difference of squares would be round-off where the image is nearly even.
    squares = (image - mean).square_() * len(dilations)
    for moved in _around(image, dilations):
        squares += (moved - mean).square_()
    scale = _SHARE * squares.div_(count - 1).sqrt_() + _TINY
    return torch.stack([-((image - moved).abs() / scale).mean(0) for moved in _around(image, dilations)]).softmax(0)


def _checked(dilations: tuple[object, ...]) -> tuple[int, ...]:
    found = tuple(entry for entry in dilations if isinstance(entry, int) and not isinstance(entry, bool) and entry >= 1)
    if not found or len(found) != len(dilations):
        raise OptionError(
            f"Got refiner.dilations = {list(dilations)!r}. Accepted are whole numbers of at least 1, one or more. Give distances in pixels."
        )
    return found


def _around(maps: Float[Tensor, "c H W"], dilations: tuple[int, ...]) -> Iterator[Float[Tensor, "c H W"]]:
    """The maps moved to each of the pixels that are looked at; beyond the edge, the edge again."""
    height, width = maps.shape[1:]
    for dilation in dilations:
        padded = F.pad(maps[None], (dilation,) * 4, mode="replicate")[0]
        for dy, dx in _DIRECTIONS:
            top, left = dilation * (1 + dy), dilation * (1 + dx)
            yield padded[:, top : top + height, left : left + width]
