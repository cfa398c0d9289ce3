"""Sliding windows as the SCLIP family uses them: image sides need not be multiples of the patch, and logits are blended per pixel.

    f = min(long/max(H, W), S/min(H, W)),  sides int(side·f + 0.5), bilinear without smoothing, in whole grey levels
    cosines of a window → bilinearly to its pixels → summed where windows lie → divided by how many lay there

The other way (`base.average`) keeps to whole tokens and takes the mean of embeddings; both are the same inside one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD
from nerveseg.image.load import LoadedImage
from nerveseg.reprs import brief

__all__ = ["LONGEST", "Box", "Part", "bilinear", "blend_windows", "boxes", "crop", "kept_ratio", "resized", "starts"]

LONGEST = 2048  # the family's limit on the longer side
_BITS = 11  # of a weight in OpenCV's bilinear resizing of 8-bit images


@dataclass(frozen=True)
class Box:
    """Where a window lies, in pixels of the image that CLIP sees, and how it is brought to whole patches.

    Attributes:
        top, left, height, width: the window.
        padded: its size with zeros around it.
        before: zeros above and to the left.
        seen: whole patches of that, from the top left: what the network reads.
        stretched: cosines of all patches are laid over the window alone, not over the zeros, too.
    """

    top: int
    left: int
    height: int
    width: int
    padded: tuple[int, int]
    before: tuple[int, int]
    seen: tuple[int, int]
    stretched: bool = False


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

    __repr__ = brief


def kept_ratio(size: tuple[int, int], short: int, longest: int = LONGEST) -> tuple[int, int]:
    """Scale so that the shorter side is ``short``, or the longer one ``longest`` if that comes first; sides are rounded, not to a patch.

    >>> kept_ratio((375, 500), 336)
    (336, 448)
    >>> kept_ratio((100, 2000), 336)
    (102, 2048)
    """
    factor = min(longest / max(size), short / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def resized(
    image: LoadedImage, size: tuple[int, int], colours: tuple[tuple[float, ...], tuple[float, ...]] = (CLIP_MEAN, CLIP_STD)
) -> Float[Tensor, "1 3 h w"]:
    """Bring an image to a size bilinearly, without smoothing, in whole grey levels; normalised by a mean and a deviation, CLIP's."""
    pixels = bilinear(torch.from_numpy(image.pixels.copy()).permute(2, 0, 1), size)[None].float()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in colours)
    return (pixels / 255 - mean) / std


def bilinear(pixels: UInt8[Tensor, "c h w"], size: tuple[int, int]) -> UInt8[Tensor, "c h2 w2"]:
    """Bilinear resizing as OpenCV does it on 8-bit images, to the last grey level: with weights of 11 bits, columns first.

    The family reads its images through OpenCV; rounding elsewhere moves cosines in their third decimal.
    """
    if tuple(pixels.shape[1:]) == tuple(size):
        return pixels
    left, right, a, b = _between(pixels.shape[2], size[1])
    wide = pixels.int()
    wide = (wide[..., left] * a + wide[..., right] * b) >> 4
    above, below, a, b = _between(pixels.shape[1], size[0])
    tall = (wide[:, above] * a[:, None] >> 16) + (wide[:, below] * b[:, None] >> 16)
    return ((tall + 2) >> 2).clamp_(0, 255).to(torch.uint8)


def _between(own: int, wanted: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each place wanted the two places around it and their weights in 2^-11."""
    at = (torch.arange(wanted, dtype=torch.float64) + 0.5).mul_(own / wanted).sub_(0.5).float()
    first = at.floor()
    share = at - first
    low = first.long()
    a, b = ((weight * (1 << _BITS)).round().int() for weight in (1 - share, share))
    return low.clamp(0, own - 1), (low + 1).clamp(0, own - 1), a, b


def boxes(size: tuple[int, int], patch: int, options: Any) -> Iterator[Box]:
    """The windows over an image, row by row; one over all of it where ``options.window`` is 0.

    Args:
        size: (height, width) of the image that CLIP sees.
        patch: side of a patch.
        options: ``window`` and ``stride`` in pixels, ``pad_to``: zeros fill the sides to multiples of it, at least of the
            patch; 0 cuts the rest of a patch. ``pad_at``, where there is one: "middle" has them all around, "corner" at the bottom and
            the right alone, and the window's cosines are stretched.
    """
    height, width = (min(options.window, side) if options.window else side for side in size)
    step = max(options.pad_to, patch) if options.pad_to else 1
    padded = tuple(max(patch, -(-side // step) * step) for side in (height, width))
    corner = getattr(options, "pad_at", "middle") == "corner"
    before = (0, 0) if corner else ((padded[0] - height) // 2, (padded[1] - width) // 2)
    seen = (padded[0] // patch * patch, padded[1] // patch * patch)
    for top in starts(size[0], height, options.stride):
        for left in starts(size[1], width, options.stride):
            yield Box(top, left, height, width, (padded[0], padded[1]), before, seen, corner)


def starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """Where windows begin along a side; the last one is shifted back inside.

    >>> starts(10, 4, 4)
    (0, 4, 6)
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    return tuple(max(min(i * stride, length - window), 0) for i in range(count))


def crop(pixels: Float[Tensor, "1 3 h w"], box: Box) -> Float[Tensor, "1 3 a b"]:
    """Cut a window out, with zeros around it and without the rest of a patch, as its box says."""
    window = pixels[..., box.top : box.top + box.height, box.left : box.left + box.width]
    (above, left), (rows, columns) = box.before, box.padded
    window = F.pad(window, (left, columns - box.width - left, above, rows - box.height - above))
    return window[..., : box.seen[0], : box.seen[1]]


def blend_windows(
    parts: tuple[Part, ...],
    size: tuple[int, int],
    vectors: Float[Tensor, "s E"],
    refine: Callable[[Float[Tensor, "m s"], int], Float[Tensor, "m s"]],
) -> Float[Tensor, "s h w"]:
    """Cosines with every word on the pixels of the image that CLIP saw: the mean over the windows on each. Cost O(s·h·w) a window.

    Args:
        parts: the windows.
        size: (h, w) of that image.
        vectors: unit rows, one a word.
        refine: what is done to the cosines of a window, by its number, while they lie on its patches.
    """
    total = vectors.new_zeros(len(vectors), *size)
    count = vectors.new_zeros(size)
    for number, part in enumerate(parts):
        box = part.box
        maps = refine(part.embeddings @ vectors.T, number).T.reshape(1, -1, *part.grid)
        # Where the rest of a patch was cut, the window's cosines are stretched over it, as the family does.
        over = (box.height, box.width) if box.stretched else box.padded
        full = F.interpolate(maps, size=over, mode="bilinear", align_corners=False)[0]
        inside = full[:, box.before[0] : box.before[0] + box.height, box.before[1] : box.before[1] + box.width]
        area = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
        total[:, *area] += inside
        count[area] += 1
    return total.div_(count)
