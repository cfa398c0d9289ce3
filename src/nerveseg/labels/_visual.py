"""Patch embeddings that can be compared with word embeddings, for visual words."""

from __future__ import annotations

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.labels._tiles import pasted
from nerveseg.labels._windows import Part
from nerveseg.labels.base import Features

__all__ = ["token_vectors"]


def token_vectors(source: ModuleType, features: Features, width: int) -> Float[Tensor, "n E"] | None:
    """Vectors of a source's tokens in the space of its words, on ``features.grid``, unit length.

    A source can where it names a text tower and keeps one vector of that tower's width a token: those of its last layer, or those of
    windows, of which a token takes the mean of the patches that its centre lies in; those of tiles are joined. Others get None.

    Args:
        source: the label source's module.
        features: what it keeps of the image.
        width: E, of the words' vectors.

    Cost O(windows·n·E).
    """
    n = features.grid[0] * features.grid[1]
    if source.embeds != "clip" or source.text_conditioned:
        return None
    if features.tiles and features.plan is not None:
        own = [token_vectors(source, tile, width) for tile in features.tiles]
        found = [part for part in own if part is not None]
        return F.normalize(pasted(found, features.tiles[0].grid, features.plan)[0], dim=-1) if len(found) == len(own) else None
    if features.parts and features.pixels is not None:
        return _joined(features.parts, features.grid, features.pixels) if features.parts[0].embeddings.shape[1] == width else None
    if features.embeddings.ndim != 3 or len(features.embeddings) == 0 or features.embeddings.shape[1:] != (n, width):
        return None
    return F.normalize(features.embeddings[-1].float(), dim=-1)


def _joined(parts: tuple[Part, ...], grid: tuple[int, int], pixels: tuple[int, int]) -> Float[Tensor, "n E"]:
    first = parts[0].embeddings
    total = torch.zeros(*grid, first.shape[1], device=first.device)
    y, x = ((torch.arange(cells, device=first.device) + 0.5) * (side / cells) for cells, side in zip(grid, pixels, strict=True))
    for part in parts:
        box = part.box
        over = (box.height, box.width) if box.stretched else box.padded
        rows, down = _within(y, box.top, box.height, 0 if box.stretched else box.before[0], over[0], part.grid[0])
        columns, across = _within(x, box.left, box.width, 0 if box.stretched else box.before[1], over[1], part.grid[1])
        own = part.embeddings.float().unflatten(0, part.grid)
        total[rows[:, None], columns] += own[down[:, None], across]
    return F.normalize(total.flatten(0, 1), dim=-1)


def _within(places: Tensor, start: int, length: int, before: int, over: int, cells: int) -> tuple[Tensor, Tensor]:
    """Which places lie in a window along one side, and in which of its patches."""
    inside = ((places >= start) & (places < start + length)).nonzero()[:, 0]
    return inside, ((places[inside] - start + before) * (cells / over)).floor().long().clamp(0, cells - 1)
