"""Colours of labels: Pascal VOC's for files, an evenly spread set for looking at."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

__all__ = ["moved", "voc_palette", "wheel"]

_GOLDEN = 0.6180339887498949  # steps of the golden ratio spread any number of hues evenly


def voc_palette(count: int = 256) -> UInt8[np.ndarray, "c 3"]:
    """Pascal VOC's colours: the bits of an id are dealt in turn to red, green and blue, from the highest bit of each down.

    >>> voc_palette(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    ids = np.arange(count, dtype=np.uint32)
    colours = np.zeros((count, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


def moved(values: UInt8[np.ndarray, "H W"], colours: Sequence[int]) -> int | None:
    """A value that occurs and has neither its colour in Pascal VOC nor its grey: somebody numbered the ids anew. None: there is none.

    Args:
        values: places in a palette.
        colours: the palette: red, green, blue of each place in turn.
    """
    held = np.asarray(colours, dtype=np.int64).reshape(-1, 3)
    used = np.unique(values).astype(np.int64)
    used = used[used < len(held)]
    own = (held[used] == voc_palette()[used]).all(1) | (held[used] == used[:, None]).all(1)
    return None if own.all() else int(used[~own][0])


def wheel(count: int, *, background: int | None = None) -> UInt8[np.ndarray, "c 3"]:
    """Colours for looking at: neighbouring ids far apart in hue, three lightnesses in turn, the background grey."""
    colours = np.empty((count, 3), dtype=np.uint8)
    for index in range(count):
        hue = (0.02 + index * _GOLDEN) % 1.0
        value = (1.0, 0.8, 0.9)[index % 3]
        saturation = (0.85, 0.95, 0.6)[index % 3]
        colours[index] = [round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value)]
    if background is not None:
        colours[background] = 96
    return colours
