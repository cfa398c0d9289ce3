"""Scenes of the embedded world: one to four things over one or two stuffs, with an exact mask and a caption.

``render(split, index)`` is a pure function: the same arguments give the same bytes on every machine with the same NumPy and Pillow. The
three splits share no random stream, because the split is part of the seed's spawn key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from nerveseg.errors import OptionError
from nerveseg.showing import brief
from nerveseg.world import sheet, textures
from nerveseg.world.names import NAMES, STUFF, THINGS

__all__ = ["SIZES", "SPLITS", "Scene", "render"]

SPLITS: tuple[str, ...] = ("train", "val", "test")
SIZES: tuple[tuple[int, int], ...] = ((128, 128), (128, 160), (160, 128), (128, 192), (144, 144), (160, 160))
"""(height, width) in pixels of the pictures of the val and test splits, in turn by chance."""

_SEED = 2511_08248
_SMALLEST, _LARGEST = 34, 76  # pixels on the longer side of a thing
_OPAQUE = 128  # alpha from which a pixel belongs to the thing


@dataclass(frozen=True)
class Scene:
    """One rendered scene.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, ids are places in `NAMES`; every pixel has one.
        names: the names whose pixels are in the mask, things first, each once.
        caption: one sentence that holds those names, and nothing about where they are.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    names: tuple[str, ...]
    caption: str

    __repr__ = brief


def render(split: str, index: int, size: tuple[int, int] | None = None, things: tuple[int, int] = (1, 4)) -> Scene:
    """Render scene ``index`` of a split.

    Args:
        split: "train", "val" or "test".
        index: any number from 0; equal numbers give equal scenes.
        size: (height, width) in pixels; None draws one of `SIZES`.
        things: fewest and most things; fewer are left where there is no room.
    """
    if split not in SPLITS:
        raise OptionError(f"Got the split {split!r}. Accepted are {', '.join(SPLITS)}. Choose one of them.")
    rng = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=(SPLITS.index(split), index)))
    drawn = SIZES[int(rng.integers(len(SIZES)))]
    height, width = size or drawn
    picture, mask = _background(rng, (height, width))
    canvas = Image.fromarray(picture.astype(np.uint8))
    for name in rng.choice(len(THINGS), size=int(rng.integers(things[0], things[1] + 1)), replace=False):
        _place(rng, canvas, mask, int(name))
    light = ImageEnhance.Brightness(canvas).enhance(float(rng.uniform(0.85, 1.12)))
    pixels = np.asarray(ImageEnhance.Contrast(light).enhance(float(rng.uniform(0.9, 1.1))), np.float32)
    pixels = np.clip(pixels + rng.normal(0, 1.5, pixels.shape), 0, 255).astype(np.uint8)
    present = tuple(NAMES[i] for i in np.unique(mask))
    return Scene(pixels, mask, present, _caption(rng, present))


def _background(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    height, width = size
    first, second = rng.choice(len(STUFF), size=2, replace=False)
    picture = textures.draw(STUFF[first], rng, size)
    mask = np.full(size, len(THINGS) + first, np.uint8)
    if rng.random() < 0.5:
        along, across = (width, height) if rng.random() < 0.75 else (height, width)
        wave = np.sin(np.arange(along) / along * rng.uniform(3, 12) + rng.uniform(0, 6.3)) * rng.uniform(0, 0.08) * across
        edge = across * rng.uniform(0.3, 0.7) + wave
        below = np.arange(across)[:, None] >= edge[None, :]
        below = below if below.shape == size else below.T
        other = textures.draw(STUFF[second], rng, size)
        picture = np.where(below[..., None], other, picture)
        mask[below] = len(THINGS) + second
    return picture, mask


def _place(rng: np.random.Generator, canvas: Image.Image, mask: NDArray[np.uint8], name: int) -> None:
    height, width = mask.shape
    glyph = _vary(rng, sheet.load()[name], min(_LARGEST, round(0.9 * min(height, width))))
    solid = np.asarray(glyph.getchannel("A")) >= _OPAQUE
    for _ in range(8):
        top, left = int(rng.integers(-4, max(-3, height - glyph.height + 5))), int(rng.integers(-4, max(-3, width - glyph.width + 5)))
        y, x = slice(max(top, 0), min(top + glyph.height, height)), slice(max(left, 0), min(left + glyph.width, width))
        inside = solid[y.start - top : y.stop - top, x.start - left : x.stop - left]
        if (mask[y, x][inside] < len(THINGS)).mean() < 0.12:  # little overlap with the things that are there already
            canvas.paste(glyph, (left, top), glyph)
            mask[y, x][inside] = name
            return


def _vary(rng: np.random.Generator, glyph: Image.Image, largest: int) -> Image.Image:
    side = int(rng.integers(_SMALLEST, max(_SMALLEST + 1, largest + 1)))
    if rng.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = glyph.getchannel("A")
    toned = ImageEnhance.Color(glyph.convert("RGB")).enhance(float(rng.uniform(0.8, 1.2)))
    toned = ImageEnhance.Brightness(toned).enhance(float(rng.uniform(0.88, 1.1)))
    toned.putalpha(alpha)
    turned = toned.rotate(float(rng.uniform(-25, 25)), Image.Resampling.BILINEAR, expand=True)
    box = turned.getchannel("A").getbbox()
    tight = turned.crop(box)
    scale = side / max(tight.size)
    return tight.resize((max(2, round(tight.width * scale)), max(2, round(tight.height * scale))), Image.Resampling.LANCZOS)


_OPENINGS = ("a photo of", "a picture of", "an image of", "a scene with", "a drawing of", "")
_ARTICLED = frozenset({"grass", "sky", "water", "sand", "snow", "scissors", "grapes", "corn", "bread", "cheese", "broccoli"})


def _caption(rng: np.random.Generator, present: tuple[str, ...]) -> str:
    things = [name for name in present if name in THINGS]
    stuffs = [name for name in present if name in STUFF]
    rng.shuffle(things)
    rng.shuffle(stuffs)
    told = " and ".join(name if name in _ARTICLED else f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in things)
    where = " and ".join(stuffs)
    joint = str(rng.choice(("on", "in front of", "with", "near"))) if things else ""
    opening = str(rng.choice(_OPENINGS))
    return " ".join(part for part in (opening, told, joint, where) if part)
