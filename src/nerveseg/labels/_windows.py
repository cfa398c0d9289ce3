"""Windows as the SCLIP family has them: on a picture whose sides are no multiples of the patch, joined pixel by pixel.

    f = min(long/max(H, W), S/min(H, W)),  sides int(side·f + 0.5), bilinear without smoothing
    cosines of a window → bilinearly to its pixels → summed where windows lie → divided by how many lay there

The other way (`base.average`) keeps to whole tokens and takes the mean of embeddings; both are the same inside one window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.picture.geometry import CLIP_MEAN, CLIP_STD
from nerveseg.picture.load import Picture

__all__ = ["Box", "Part", "boxes", "crop", "joined", "kept_ratio", "resized"]

_LONGEST = 2048  # the family's limit on the longer side


@dataclass(frozen=True)
class Box:
    """Where a window lies, in pixels of the picture that CLIP sees, and how it is brought to whole patches.

    Attributes:
        top, left, height, width: the window.
        padded: its size with zeros around it.
        before: zeros above and to the left.
        seen: whole patches of that, from the top left: what the network reads.
    """

    top: int
    left: int
    height: int
    width: int
    padded: tuple[int, int]
    before: tuple[int, int]
    seen: tuple[int, int]


@dataclass(frozen=True)
class Part:
    """What one window says.

    Attributes:
        embeddings: of its patches, unit length.
        grid: (h, w) of them.
        box: where it lies.
    """

    embeddings: Float[Tensor, "m E"]
    grid: tuple[int, int]
    box: Box


def kept_ratio(size: tuple[int, int], short: int, longest: int = _LONGEST) -> tuple[int, int]:
    """Scale so that the shorter side is ``short``, or the longer one ``longest`` if that comes first; sides are rounded, not to a patch.

    >>> kept_ratio((375, 500), 336)
    (336, 448)
    >>> kept_ratio((100, 2000), 336)
    (102, 2048)
    """
    factor = min(longest / max(size), short / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def resized(picture: Picture, size: tuple[int, int]) -> Float[Tensor, "1 3 h w"]:
    """Bring a picture to a size bilinearly, without smoothing, in whole grey levels; normalised as CLIP wants it."""
    pixels = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1)[None].float()
    if picture.size != size:
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False).round_().clamp_(0, 255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels / 255 - mean) / std


def boxes(size: tuple[int, int], patch: int, options: Any) -> Iterator[Box]:
    """The windows over a picture, row by row; one over all of it where ``options.window`` is 0.

    Args:
        size: (height, width) of the picture that CLIP sees.
        patch: side of a patch.
        options: ``window`` and ``stride`` in pixels, ``pad_to``: zeros fill the sides to multiples of it, 0 cuts the rest of a patch.
    """
    height, width = (min(options.window, side) if options.window else side for side in size)
    step = options.pad_to or 1
    padded = tuple(max(patch, -(-side // step) * step) for side in (height, width))
    before = ((padded[0] - height) // 2, (padded[1] - width) // 2)
    seen = (padded[0] // patch * patch, padded[1] // patch * patch)
    for top in _starts(size[0], height, options.stride):
        for left in _starts(size[1], width, options.stride):
            yield Box(top, left, height, width, (padded[0], padded[1]), before, seen)


def crop(pixels: Float[Tensor, "1 3 h w"], box: Box) -> Float[Tensor, "1 3 a b"]:
    """Cut a window out, with zeros around it and without the rest of a patch, as its box says."""
    window = pixels[..., box.top : box.top + box.height, box.left : box.left + box.width]
    (above, left), (rows, columns) = box.before, box.padded
    window = F.pad(window, (left, columns - box.width - left, above, rows - box.height - above))
    return window[..., : box.seen[0], : box.seen[1]]


def joined(parts: tuple[Part, ...], size: tuple[int, int], vectors: Float[Tensor, "s E"]) -> Float[Tensor, "s h w"]:
    """Cosines with every word on the pixels of the picture that CLIP saw: the mean over the windows on each. Cost O(s·h·w) a window."""
    total = vectors.new_zeros(len(vectors), *size)
    count = vectors.new_zeros(size)
    for part in parts:
        box = part.box
        maps = (part.embeddings @ vectors.T).T.reshape(1, -1, *part.grid)
        # Where the rest of a patch was cut, the window's cosines are stretched over it, as the family does.
        full = F.interpolate(maps, size=box.padded, mode="bilinear", align_corners=False)[0]
        inside = full[:, box.before[0] : box.before[0] + box.height, box.before[1] : box.before[1] + box.width]
        area = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
        total[:, *area] += inside
        count[area] += 1
    return total.div_(count)


def _starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    count = max(length - window + stride - 1, 0) // stride + 1
    return tuple(max(min(i * stride, length - window), 0) for i in range(count))
