"""The first world, the scenes of 2026: one to four things over one or two stuffs, little overlap, flat light.

Its bytes are kept for ever, so that old numbers can be checked: nothing here may change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from nerveseg.synthetic import sheet, textures
from nerveseg.synthetic.names import NAMES, STUFF, THINGS
from nerveseg.synthetic.scene import Scene

__all__ = ["COUNT", "SIZES", "draw"]

SIZES: tuple[tuple[int, int], ...] = ((128, 128), (128, 160), (160, 128), (128, 192), (144, 144), (160, 160))
COUNT = (1, 4)
_SMALLEST, _LARGEST = 34, 76  # pixels on the longer side of a thing
_OPAQUE = 128  # alpha from which a pixel belongs to the thing


def draw(rng: np.random.Generator, size: tuple[int, int], things: tuple[int, int], *, training: bool) -> Scene:
    """Draw one scene; see `nerveseg.synthetic.scenes.render`. All splits are drawn alike in this world."""
    del training
    image, mask = _background(rng, size)
    canvas = Image.fromarray(image.astype(np.uint8))
    for name in rng.choice(len(THINGS), size=int(rng.integers(things[0], things[1] + 1)), replace=False):
        _place(rng, canvas, mask, int(name))
    light = ImageEnhance.Brightness(canvas).enhance(float(rng.uniform(0.85, 1.12)))
    pixels = np.asarray(ImageEnhance.Contrast(light).enhance(float(rng.uniform(0.9, 1.1))), np.float32)
    pixels = np.clip(pixels + rng.normal(0, 1.5, pixels.shape), 0, 255).astype(np.uint8)
    present = tuple(NAMES[i] for i in np.unique(mask))
    return Scene(pixels, mask, present, _caption(rng, present), present)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    height, width = size
    first, second = rng.choice(len(STUFF), size=2, replace=False)
    image = textures.draw(STUFF[first], rng, size)
    mask = np.full(size, len(THINGS) + first, np.uint8)
    if rng.random() < 0.5:
        along, across = (width, height) if rng.random() < 0.75 else (height, width)
        wave = np.sin(np.arange(along) / along * rng.uniform(3, 12) + rng.uniform(0, 6.3)) * rng.uniform(0, 0.08) * across
        edge = across * rng.uniform(0.3, 0.7) + wave
        below = np.arange(across)[:, None] >= edge[None, :]
        below = below if below.shape == size else below.T
        other = textures.draw(STUFF[second], rng, size)
        image = np.where(below[..., None], other, image)
        mask[below] = len(THINGS) + second
    return image, mask


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
