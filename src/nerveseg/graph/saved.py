"""A graph that another program computed: queries and keys from an .npz or .safetensors file an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import ShapeError
from nerveseg.image import arrays, names
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob
from nerveseg.transition import Heads

__all__ = ["Options", "heads", "needs"]

needs = ()


@dataclass(frozen=True)
class Options:
    """Knobs of saved heads."""

    path: str = knob(".", "a folder with one file an image, named by the image's stem (a.jpg → a.npz), or one file.")
    queries: str = knob("queries", "name of the queries, (H, n, d).")
    keys: str = knob("keys", "name of the keys, (H, n, d). The queries' own name: keys and queries are one.")
    grid: str = knob("grid", "name of the two numbers (h, w), h·w = n; tokens go along the rows of a grid over the whole image.")


def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Float[Tensor, "1 c h w"] | None = None) -> Heads:
    """Read the heads of one image; no network, no noise.

    Args:
        image: its name says which file.
        networks: not read.
        options: see `Options`.
        noise: not read.

    Returns:
        Heads, float32, H·n·d floats twice.

    Raises:
        SavedError: no such file or array. ShapeError: axes that do not fit, with path and shapes.
    """
    wanted = (options.queries, options.keys, options.grid)
    saved = arrays.read(arrays.beside(options.path, names.stem(image.name)), *wanted)
    lacking = [name for name in wanted if name not in saved.arrays]
    if lacking:
        raise ShapeError(
            f"Got {saved.path} with the arrays {', '.join(sorted(saved.names)) or 'none'}. Accepted is a file that also holds "
            f"{', '.join(map(repr, lacking))}. Save queries and keys (H, n, d) and the grid (h, w)."
        )
    queries, keys = (saved.floats(name, "H, n, d") for name in (options.queries, options.keys))
    sides = [float(side) for side in saved.arrays[options.grid].flatten()[:3]]
    if len(sides) != 2 or not all(math.isfinite(side) and side == int(side) for side in sides):
        raise ShapeError(f"Got {saved.path} with the grid {sides}. Accepted are two whole numbers, (h, w). Save them so.")
    try:
        return Heads(queries, keys, (int(sides[0]), int(sides[1])))
    except ShapeError as error:
        raise ShapeError(f"{saved.path}: {error}") from error
