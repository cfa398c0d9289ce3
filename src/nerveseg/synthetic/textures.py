"""The eight stuffs of the world, drawn from numbers: ``draw(stuff, rng, (h, w)) -> (h, w, 3) float in [0, 255]``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["draw"]

Field = NDArray[np.floating]
Size = tuple[int, int]


def draw(stuff: str, rng: np.random.Generator, size: Size) -> Field:
    """Draw one stuff over an image of ``size`` = (height, width) pixels; every draw differs in colour, scale and layout."""
    return np.clip(_DRAW[stuff](rng, size), 0, 255).astype(np.float32)


def noise(rng: np.random.Generator, size: Size, cell: float, stretch: float = 1.0) -> Field:
    """Smooth noise in about [-1, 1] whose blobs are ``cell`` pixels high and ``cell * stretch`` wide."""
    height, width = size
    rows, columns = max(2, round(height / cell) + 1), max(2, round(width / (cell * stretch)) + 1)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _tint(rng: np.random.Generator, colour: tuple[int, int, int], spread: float) -> Field:
    return np.asarray(colour, np.float32) + rng.normal(0, spread, 3).astype(np.float32) + np.float32(rng.normal(0, spread))


def _shade(colour: Field, light: Field, strength: float) -> Field:
    return colour + strength * light[..., None] * np.array([1.0, 0.95, 0.9], np.float32)


def _grass(rng: np.random.Generator, size: Size) -> Field:
    blades = noise(rng, size, 5.0, 0.35) + 0.6 * noise(rng, size, 2.0, 0.6)
    ground = _tint(rng, (86, 146, 56), 9) + 14 * noise(rng, size, 26)[..., None]
    return _shade(ground, blades, rng.uniform(13, 22))


def _sky(rng: np.random.Generator, size: Size) -> Field:
    down = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    blue = _tint(rng, (112, 172, 232), 9) + down[..., None] * np.array([22, 14, 6], np.float32)
    puff = np.clip(noise(rng, size, rng.uniform(16, 34), 1.9) + 0.4 * noise(rng, size, 8, 1.5) - rng.uniform(0.0, 0.9), 0, 1)
    return blue + puff[..., None] * (np.array([248, 249, 252], np.float32) - blue) * 0.85


def _water(rng: np.random.Generator, size: Size) -> Field:
    rows = np.arange(size[0], dtype=np.float32)[:, None]
    waves = np.sin(rows / rng.uniform(1.2, 2.4) + 2.2 * noise(rng, size, 14, 2.5))
    deep = _tint(rng, (32, 96, 150), 10) + 10 * noise(rng, size, 20, 2.5)[..., None]
    return _shade(deep, np.asarray(waves + 0.6 * noise(rng, size, 2.5, 4.0), np.float32), rng.uniform(9, 16))


def _sand(rng: np.random.Generator, size: Size) -> Field:
    grains = rng.standard_normal(size).astype(np.float32) * 0.9 + 0.8 * noise(rng, size, 9, 2.0)
    return _shade(_tint(rng, (222, 190, 130), 8), np.asarray(grains, np.float32), rng.uniform(5, 9))


def _brick(rng: np.random.Generator, size: Size) -> Field:
    high, wide = int(rng.integers(7, 11)), int(rng.integers(16, 25))
    y, x = np.mgrid[: size[0], : size[1]] + rng.integers(0, 50, 2)[:, None, None]
    row = y // high
    across = x + (row % 2) * (wide // 2)
    mortar = (y % high < 1.5) | (across % wide < 1.5)
    shade = rng.standard_normal((64, 64)).astype(np.float32)[row % 64, (across // wide) % 64]
    wall = _shade(_tint(rng, (168, 78, 60), 9), np.asarray(shade + 0.5 * noise(rng, size, 3), np.float32), 11)
    wall[mortar] = _tint(rng, (196, 186, 174), 6)
    return wall


def _snow(rng: np.random.Generator, size: Size) -> Field:
    drifts = noise(rng, size, 20, 2.0) + 0.25 * rng.standard_normal(size).astype(np.float32)
    return _shade(_tint(rng, (232, 238, 246), 4), np.asarray(drifts, np.float32), rng.uniform(5, 10))


def _wood(rng: np.random.Generator, size: Size) -> Field:
    board = int(rng.integers(9, 16))
    y = np.arange(size[0])[:, None] + int(rng.integers(0, 50)) + np.zeros((1, size[1]), int)
    tone = rng.standard_normal(64).astype(np.float32)[(y // board) % 64]
    grain = noise(rng, size, 1.6, 12.0)
    floor = _shade(_tint(rng, (172, 122, 74), 9), np.asarray(tone + 0.8 * grain, np.float32), rng.uniform(9, 14))
    floor[y % board == 0] *= 0.62
    return floor


def _road(rng: np.random.Generator, size: Size) -> Field:
    grit = rng.standard_normal(size).astype(np.float32) + 0.8 * noise(rng, size, 14)
    tar = _shade(_tint(rng, (96, 97, 102), 8), np.asarray(grit, np.float32), rng.uniform(7, 12))
    y, x = np.mgrid[: size[0], : size[1]]
    line = int(size[0] * rng.uniform(0.25, 0.75))
    dashes = (np.abs(y - line) < rng.uniform(1.5, 3)) & ((x + int(rng.integers(0, 40))) % 40 < 24)
    tar[dashes] = _tint(rng, (226, 214, 170), 8)
    return tar


_DRAW: dict[str, Callable[[np.random.Generator, Size], Field]] = {
    "grass": _grass,
    "sky": _sky,
    "water": _water,
    "sand": _sand,
    "brick wall": _brick,
    "snow": _snow,
    "wooden floor": _wood,
    "road": _road,
}
