"""From image size to network size and back: which sides, which tokens, which tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from nerveseg.errors import OptionError
from nerveseg.image.load import LoadedImage

__all__ = ["CLIP_MEAN", "CLIP_STD", "FILTERS", "MAX_TOKENS", "SAMPLINGS", "Frame", "fit", "sampled", "short_side", "square", "to_tensor"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, RGB in 0…1; part of every CLIP checkpoint
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_TOKENS = 4096
"""Default cap on the tokens of one image: attention takes tokens² memory, and a 1×5000 strip would ask for 120,000."""
FILTERS = ("bicubic", "bilinear", "lanczos", "box", "nearest")
SAMPLINGS = ("bilinear", "nearest")


@dataclass(frozen=True)
class Frame:
    """How one image lies on one network's grid: the whole image is stretched to ``fitted``, nothing is cut or padded.

    Attributes:
        image: (height, width) in image pixels.
        fitted: (height, width) in network pixels, multiples of ``patch``.
        patch: side of one token in network pixels.
    """

    image: tuple[int, int]
    fitted: tuple[int, int]
    patch: int

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens."""
        return self.fitted[0] // self.patch, self.fitted[1] // self.patch

    @property
    def tokens(self) -> int:
        """Number of tokens n."""
        rows, columns = self.grid
        return rows * columns

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """The token (row, column) under the image point (x, y), origin at the top left corner; outside points go to the nearest.

        >>> Frame((100, 200), (56, 112), 14).cell(199, 0)
        (0, 7)
        """
        rows, columns = self.grid
        row = min(max(math.floor(y / self.image[0] * rows), 0), rows - 1)
        column = min(max(math.floor(x / self.image[1] * columns), 0), columns - 1)
        return row, column

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """The image point (x, y) at the middle of a token."""
        rows, columns = self.grid
        return (column + 0.5) / columns * self.image[1], (row + 0.5) / rows * self.image[0]


def short_side(size: tuple[int, int], short: int, multiple: int, *, max_tokens: int = MAX_TOKENS) -> tuple[int, int]:
    """Scale so that the shorter side is ``short``, then round each side to a multiple (CLIPer's rule, int(s/p + 0.5)·p).

    Past ``max_tokens`` both sides shrink together, aspect kept, until the shorter one is a single patch; past that the longer
    one is squeezed.

    Args:
        size: (height, width) of the image.
        short: wanted shorter side, network pixels. Larger: finer masks, tokens grow with its square.
        multiple: patch side p; each side is at least one patch.
        max_tokens: cap on (h/p)·(w/p).

    Returns:
        (h, w), multiples of ``multiple``.

    >>> short_side((375, 500), 336, 14)
    (336, 448)
    >>> short_side((1, 5000), 336, 14)
    (14, 57344)
    """
    _positive(height=size[0], width=size[1], short=short, multiple=multiple, max_tokens=max_tokens)
    scale = short / min(size)
    rows, columns = (max(1, int(side * scale / multiple + 0.5)) for side in size)
    if rows * columns > max_tokens:
        shrink = math.sqrt(max_tokens / (size[0] * size[1]))
        rows, columns = (max(1, math.floor(side * shrink)) for side in size)
        # max(1, ·) may have lifted one side, so the other must give way.
        rows, columns = min(rows, max_tokens // min(columns, max_tokens)), min(columns, max_tokens)
        columns = min(columns, max_tokens // rows)
    return rows * multiple, columns * multiple


def square(side: int, multiple: int) -> tuple[int, int]:
    """The square of about ``side`` network pixels, rounded to a multiple; the aspect is given up, as Stable Diffusion's input does.

    >>> square(512, 8)
    (512, 512)
    """
    _positive(side=side, multiple=multiple)
    rounded = max(1, int(side / multiple + 0.5)) * multiple
    return rounded, rounded


def fit(size: tuple[int, int], mode: str, side: int, patch: int, *, max_tokens: int = MAX_TOKENS) -> Frame:
    """Lay an image on a grid.

    Args:
        size: (height, width) of the image.
        mode: ``"aspect"`` – the shorter side becomes ``side``; ``"square"`` – both do.
        side: network pixels.
        patch: side of one token in network pixels.
        max_tokens: cap on the number of tokens; a square past it is refused, since it was asked for by number.

    Raises:
        OptionError: another mode, a number below 1, or a square past ``max_tokens``.
    """
    if mode == "aspect":
        return Frame(size, short_side(size, side, patch, max_tokens=max_tokens), patch)
    if mode != "square":
        raise OptionError(f"Got fit = {mode!r}. Accepted are 'aspect' and 'square'. Choose one of them.")
    frame = Frame(size, square(side, patch), patch)
    if frame.tokens > max_tokens:
        raise OptionError(
            f"Got a side of {side} with {frame.tokens} tokens. Accepted are at most {max_tokens}. Lower the side or raise max_tokens."
        )
    return frame


def to_tensor(
    image: LoadedImage,
    size: tuple[int, int],
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
    *,
    filter: str = "bicubic",
) -> Float[Tensor, "3 h w"]:
    """Resize an image and normalise its colours: (rgb/255 − mean)/std.

    Args:
        image: the image; it is stretched to ``size``.
        size: (height, width) in network pixels.
        mean: per colour, in 0…1; (0.5, 0.5, 0.5) for Stable Diffusion.
        std: per colour; (0.5, 0.5, 0.5) gives −1…1.
        filter: one of `FILTERS`; CLIP was trained on PIL's bicubic, which smooths when shrinking.

    Returns:
        float32 on the CPU; of an image that is `keeping`, the same tensor each time, which nobody may write into.
    """
    if filter not in FILTERS:
        raise OptionError(f"Got filter = {filter!r}. Accepted are {', '.join(FILTERS)}. Choose one of them.")
    _positive(height=size[0], width=size[1])
    key = (tuple(size), mean, std, filter)
    if image.made is not None and key in image.made:
        return image.made[key]
    pil_image = image.to_pil()
    if image.size != tuple(size):
        pil_image = pil_image.resize((size[1], size[0]), Image.Resampling[filter.upper()])
    pixels = torch.from_numpy(_normalised(np.asarray(pil_image), mean, std))
    if image.made is not None:
        image.made[key] = pixels
    return pixels


def _normalised(
    rgb: UInt8[np.ndarray, "h w 3"], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Float32[np.ndarray, "3 h w"]:
    # A byte has 256 values, so that a table is as exact as arithmetic; and it starts no threads of torch's in those of a batch.
    middle, width = (np.asarray(numbers, dtype=np.float32)[:, None] for numbers in (mean, std))
    table = (np.arange(256, dtype=np.float32) / np.float32(255) - middle) / width
    out = np.empty((3, *rgb.shape[:2]), dtype=np.float32)
    for colour in range(3):
        np.take(table[colour], rgb[..., colour], out=out[colour], mode="clip")  # no index is clipped: this mode alone writes in place
    return out


def sampled(
    image: LoadedImage,
    size: tuple[int, int],
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
    *,
    how: str,
) -> Float[Tensor, "3 h w"]:
    """Resize without smoothing, so that pixels between the places looked at do not count where an image shrinks, and normalise colours.

    Args:
        image: the image; it is stretched to ``size``.
        size: (height, width) in network pixels.
        mean: per colour, in 0…1.
        std: per colour.
        how: ``"bilinear"`` – the four pixels around a place, in floats; ``"nearest"`` – the pixel ⌊i·H/h⌋ of row i, and so for columns.

    Returns:
        float32 on the CPU.
    """
    if how not in SAMPLINGS:
        raise OptionError(f"Got how = {how!r}. Accepted are {', '.join(SAMPLINGS)}. Choose one of them.")
    _positive(height=size[0], width=size[1])
    pixels = torch.from_numpy(np.array(image.pixels)).permute(2, 0, 1).to(torch.float32).div_(255.0)[None]
    if image.size != tuple(size):
        corners = None if how == "nearest" else False
        pixels = F.interpolate(pixels, size=tuple(size), mode=how, align_corners=corners)
    return ((pixels[0] - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).contiguous()


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise OptionError(f"Got {name} = {number}. Accepted is 1 or more. Choose a larger one.")
