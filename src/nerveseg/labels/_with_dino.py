"""What ProxyCLIP and LPOSS share: the windows of an image, each passed through CLIP and through DINO."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.dino import MEAN, POSITIONS, STD, Dino
from nerveseg.errors import ShapeError
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD
from nerveseg.image.load import LoadedImage
from nerveseg.labels import _windows, base
from nerveseg.labels._windows import Box
from nerveseg.registry import knob
from nerveseg.reprs import brief

__all__ = ["Seen", "dino_positions_knob", "listed", "look"]


@dataclass(frozen=True)
class Seen:
    """One window as both networks see it.

    Attributes:
        view: CLIP's pass.
        box: where the window lies; DINO sees it with the same zeros around it, cut to its own patches.
        tokens: what DINO says, a row a token; heads side by side.
        grid: (h, w) of DINO's tokens.
    """

    view: base.View
    box: Box
    tokens: Float[Tensor, "m d"]
    grid: tuple[int, int]

    __repr__ = brief


def dino_positions_knob() -> Any:
    """The knob ``dino_positions``."""
    doc = "how DINO's position embeddings reach another grid; empty: as transformers does for the model."
    return knob("bicubic-offset", doc, choices=("", *POSITIONS), source="DINO's published program, which ProxyCLIP and LPOSS load")


@torch.no_grad()
def look(image: LoadedImage, networks: base.Networks, options: Any) -> Iterator[Seen]:
    """Pass the windows of an image through both networks, one at a time.

    Args:
        image: any size; both see its short side at ``options.short_side``, the long one at most 2048.
        networks: their ``clip`` and ``dino``.
        options: a source's own, with those of `base.look`, joined by pixels, and ``what``, ``layer`` and ``dino_positions``.
    """
    clip, dino = networks["clip"], networks["dino"]
    size = _windows.kept_ratio(image.size, options.short_side or clip.side)
    pixels = _windows.resized(image, size)
    # Zeros around a window are zeros of the image in CLIP's colours, which DINO sees in its own; one window at a time, as the mean over
    # pairs has it.
    for box in _windows.boxes(size, clip.patch, options):
        activations = clip.vision(_windows.crop(pixels, box), positions=options.positions)
        view = base.View(activations, 0, 0, size, whole=(box.height, box.width) == size, box=box)
        tokens, grid = _read(dino, pixels, box, options)
        yield Seen(view, box, tokens, grid)


def listed(views: Iterable[Seen]) -> Iterator[Seen]:
    """The views, refusing none at all."""
    stream = iter(views)
    first = next(stream, None)
    if first is None:
        raise ShapeError("Got no view. Accepted is one or more. Pass what look() yields.")
    yield first
    yield from stream


def _read(dino: Dino, pixels: Tensor, box: Box, options: Any) -> tuple[Float[Tensor, "m d"], tuple[int, int]]:
    p = dino.patch
    padded = (max(p, box.padded[0]), max(p, box.padded[1]))
    grid = (padded[0] // p, padded[1] // p)
    own = dataclasses.replace(box, padded=padded, seen=(grid[0] * p, grid[1] * p))
    found = dino.tokens(_imagenet(_windows.crop(pixels, own)), layer=options.layer, kind=options.what, positions=options.dino_positions)
    return found.transpose(0, 1).flatten(1) if found.ndim == 3 else found, grid


def _imagenet(pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    """From CLIP's normalised colours to those of ImageNet."""
    before, after = (
        (torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)) for mean, std in ((CLIP_MEAN, CLIP_STD), (MEAN, STD))
    )
    return (pixels * before[1] + before[0] - after[0]) / after[1]
