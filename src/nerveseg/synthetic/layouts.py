"""The ground of a scene in the second world: one to three stuffs, and where each lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerveseg.synthetic import textures
from nerveseg.synthetic.names import STUFF, THINGS

__all__ = ["ground"]

_STUFFS = (0.3, 0.45, 0.25)  # chances of one, two, three
_SHAPES = {"horizon": 0.5, "side": 0.15, "slant": 0.15, "pond": 0.2}
_ABOVE = ("sky",)  # lies above a horizon where there is one


def ground(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw stuffs over an image of ``size`` = (height, width): float RGB in [0, 255], and ids of `NAMES`."""
    count = 1 + int(rng.choice(len(_STUFFS), p=_STUFFS))
    chosen = sorted(rng.choice(len(STUFF), size=count, replace=False).tolist(), key=lambda i: STUFF[i] not in _ABOVE)
    image = _texture(rng, STUFF[chosen[0]], size)
    mask = np.full(size, len(THINGS) + chosen[0], np.uint8)
    for stuff in chosen[1:]:
        shape = str(rng.choice(list(_SHAPES), p=list(_SHAPES.values())))
        where = _region(rng, shape, size)
        image[where] = _texture(rng, STUFF[stuff], size)[where]
        mask[where] = len(THINGS) + stuff
    return image, mask


def _texture(rng: np.random.Generator, stuff: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """A stuff seen from nearer or farther than the first world saw it, a little off in colour, lighter to one side."""
    zoom = float(np.exp(rng.uniform(np.log(0.8), np.log(2.2))))
    small = (max(16, round(size[0] / zoom)), max(16, round(size[1] / zoom)))
    drawn = textures.draw(stuff, rng, small)
    grown = np.asarray(Image.fromarray(drawn.astype(np.uint8)).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32)
    tone = 1 + rng.normal(0, 0.06, 3).astype(np.float32) + np.float32(rng.normal(-0.04, 0.07))
    slope = np.float32(rng.uniform(-0.2, 0.2)) * np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    slope = slope + np.float32(rng.uniform(-0.2, 0.2)) * np.linspace(-1, 1, size[1], dtype=np.float32)[None]
    return np.clip(grown * tone * (1 + slope)[..., None], 0, 255).astype(np.float32)


def _region(rng: np.random.Generator, shape: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rough = textures.noise(rng, size, max(6.0, height / 14)) * rng.uniform(0.5, 3.0)
    if shape == "pond":
        centre = rng.uniform(0.2, 0.8, 2) * size
        radii = rng.uniform(0.18, 0.42, 2) * size
        wobble = textures.noise(rng, size, max(10.0, height / 5)) * 0.25
        return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 + wobble < 1
    angle = {"horizon": rng.normal(0, 0.05), "side": np.pi / 2 + rng.normal(0, 0.05), "slant": rng.uniform(-1, 1)}[shape]
    along = np.cos(angle) * (x - width / 2) + np.sin(angle) * (y - height / 2)
    across = -np.sin(angle) * (x - width / 2) + np.cos(angle) * (y - height / 2)
    reach = height if shape != "side" else width
    wave = np.sin(along / max(size) * rng.uniform(3, 12) + rng.uniform(0, 6.3)) * rng.uniform(0, 0.07) * reach
    return across + rough > rng.uniform(-0.22, 0.22) * reach + wave
