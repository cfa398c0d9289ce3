"""Colours of labels: Pascal VOC's for files, a set far apart for looking at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

__all__ = ["moved", "voc_palette", "wheel"]

_GREY, _GREY_LIGHTNESS = 96, 0.49  # of the background, in OKLab, too
_APART = 256  # colours that are chosen far from each other; past them they come again: nobody tells so many apart
_LIGHTNESS = (0.54, 0.60, 0.66, 0.72, 0.78, 0.84)  # of 0…1 in OKLab: lighter than a dark line, darker than a light one
_CHROMA = (0.08, 0.11, 0.14, 0.17, 0.20)  # none is grey: that is the background's
_HUES = 90
_FIRST = (0.66, 0.17, 4.6)  # lightness, chroma and hue of the first one, a blue


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
    """Colours for looking at: each as far from all before it as can be (in OKLab), none black, white or grey; the background grey.

    The colour of an id does not depend on ``count``.
    """
    colours = np.resize(_apart(), (count, 3))
    if background is not None:
        colours[background] = _GREY
    return colours


@cache
def _apart() -> UInt8[np.ndarray, "c 3"]:
    """Farthest-point sampling of the colours that a screen shows, within the bounds above."""
    lightness, chroma, hue = (
        axis.ravel() for axis in np.meshgrid(_LIGHTNESS, _CHROMA, np.arange(_HUES) * (2 * np.pi / _HUES), indexing="ij")
    )
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    rgb = _linear_rgb(lab)
    inside = ((rgb >= 0.0) & (rgb <= 1.0)).all(axis=1)
    lab, rgb = lab[inside], rgb[inside]
    first = np.array([_FIRST[0], _FIRST[1] * np.cos(_FIRST[2]), _FIRST[1] * np.sin(_FIRST[2])])
    chosen = [int(np.linalg.norm(lab - first, axis=1).argmin())]
    nearest = np.linalg.norm(lab - np.array([_GREY_LIGHTNESS, 0.0, 0.0]), axis=1)
    while len(chosen) < _APART:
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    light = rgb[chosen]
    seen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * seen).astype(np.uint8)


def _linear_rgb(lab: Float[np.ndarray, "c 3"]) -> Float[np.ndarray, "c 3"]:
    """OKLab → linear sRGB (Ottosson, "A perceptual color space for image processing", 2020)."""
    lightness, a, b = lab.T
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    mixed = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return (mixed @ cones**3).T
