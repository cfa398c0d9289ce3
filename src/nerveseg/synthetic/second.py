"""The second world, nearer to images: several stuffs, light and shadow, crowds, colours and patterns, blur and compression.

What the test and validation splits have and training never draws: steeper turns, squeezed glyphs, patterns of rings, softer fog.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nerveseg.synthetic import captions, layouts, looks
from nerveseg.synthetic.names import NAMES, THINGS
from nerveseg.synthetic.scene import Scene

__all__ = ["COUNT", "SIZES", "draw"]

SIZES: tuple[tuple[int, int], ...] = (
    (160, 192), (192, 160), (192, 192), (192, 256), (256, 192), (224, 224), (256, 256), (256, 320), (320, 256),
)  # fmt: skip
COUNT = (1, 5)
_SMALLEST, _LARGEST = 20, 200  # pixels on the longer side of a thing
_ALIKE = (0.7, 1.0)  # sizes of several of one kind, as shares of the largest of them
_HOW_MANY = (0.76, 0.13, 0.07, 0.04)  # chances of one, two, three, four of a kind
_MOST = 9  # things in a scene
_TRIES = 10
_CROWDED, _APART = 0.6, 0.08  # share of a thing that others may hide
_TOLD = 0.004  # share of the image from which a thing is spoken of
_HEARD = 0.9  # chance that a stuff is spoken of


@dataclass
class _Stage:
    """A scene while it is drawn: float RGB, ids, and for each thing its place in ``areas``."""

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    owner: NDArray[np.int16]
    areas: list[int]


def draw(rng: np.random.Generator, size: tuple[int, int], things: tuple[int, int], *, training: bool) -> Scene:
    """Draw one scene; see `nerveseg.synthetic.scenes.render`.

    Args:
        rng: where all chance comes from.
        size: (height, width) in pixels.
        things: fewest and most kinds of thing.
        training: leave out what only the other splits have.
    """
    light = looks.light(rng, training=training)
    image, mask = layouts.ground(rng, size)
    if rng.random() < 0.2:  # out of focus behind the things
        image = _blurred(image, rng.uniform(0.8, 2.2))
    stage = _Stage(image, mask, np.full(size, -1, np.int16), [])
    groups = _things(rng, stage, light, things, training=training)
    pixels = _photographed(rng, looks.lit(rng, stage.image, light))
    said = [group for group in groups if (stage.mask == group.name).sum() >= _TOLD * mask.size]
    stuffs = [int(i) for i in np.unique(stage.mask) if i >= len(THINGS)]
    heard = [stuff for stuff in stuffs if rng.random() < _HEARD and (stage.mask == stuff).sum() >= _TOLD * mask.size]
    if stuffs and not (said or heard):
        heard = [max(stuffs, key=lambda stuff: int((stage.mask == stuff).sum()))]
    caption = captions.write(rng, said, heard, light.word)
    foil = captions.write(rng, *captions.foil(rng, said, heard), light.word)
    told = tuple(NAMES[i] for i in sorted({*(group.name for group in said), *heard}))
    return Scene(pixels, stage.mask, tuple(NAMES[i] for i in np.unique(stage.mask)), caption, told, foil)


def _things(
    rng: np.random.Generator, stage: _Stage, light: looks.Light, things: tuple[int, int], *, training: bool
) -> list[captions.Group]:
    height, width = stage.mask.shape
    largest = max(4, min(_LARGEST, round(0.85 * min(height, width))))
    smallest = min(_SMALLEST, largest)
    kinds = rng.choice(len(THINGS), size=int(rng.integers(things[0], things[1] + 1)), replace=False)
    # Large ones first, so that small ones stand before them.
    sides = np.sort(np.exp(rng.uniform(np.log(smallest), np.log(largest + 1), len(kinds))))[::-1]
    hidden = _CROWDED if rng.random() < 0.5 else _APART
    groups: list[captions.Group] = []
    for kind, side in zip(kinds, sides, strict=True):
        look = looks.look(rng, training=training)
        wanted = min(1 + int(rng.choice(len(_HOW_MANY), p=_HOW_MANY)), _MOST - len(stage.areas))
        if wanted > 1:
            side *= 0.75
        placed = 0
        for _ in range(wanted):
            own = max(smallest, round(side * rng.uniform(*_ALIKE)))
            glyph = looks.glyph(rng, int(kind), own, look, light, training=training)
            placed += _place(rng, stage, glyph, int(kind), light, hidden)
        if placed:
            groups.append(captions.Group(int(kind), placed, look.word, _size_word(rng, side / min(height, width))))
    return groups


def _size_word(rng: np.random.Generator, share: float) -> str:
    if rng.random() > 0.35 or 0.2 < share < 0.5:
        return ""
    return str(rng.choice(("big", "large", "huge") if share >= 0.5 else ("small", "little", "tiny")))


def _place(rng: np.random.Generator, stage: _Stage, glyph: NDArray[np.float32], name: int, light: looks.Light, hidden: float) -> bool:
    height, width = stage.mask.shape
    tall, wide = glyph.shape[:2]
    solid = glyph[..., 3] >= 0.5
    for _ in range(_TRIES):
        top = int(rng.integers(-tall // 6, max(1, height - tall + tall // 6 + 1)))
        left = int(rng.integers(-wide // 6, max(1, width - wide + wide // 6 + 1)))
        y, x = slice(max(top, 0), min(top + tall, height)), slice(max(left, 0), min(left + wide, width))
        part = glyph[y.start - top : y.stop - top, x.start - left : x.stop - left]
        inside = solid[y.start - top : y.stop - top, x.start - left : x.stop - left]
        if not inside.any() or not _leaves_enough(stage, stage.owner[y, x][inside], hidden):
            continue
        looks.cast(stage.image, glyph[..., 3], (top, left), light)
        alpha = part[..., 3:]
        stage.image[y, x] += alpha * (part[..., :3] - stage.image[y, x])
        stage.owner[y, x][inside] = len(stage.areas)
        stage.mask[y, x][inside] = name
        stage.areas.append(int(inside.sum()))
        return True
    return False


def _leaves_enough(stage: _Stage, covered: NDArray[np.int16], hidden: float) -> bool:
    """Whether each thing that is covered keeps its share of itself, what was covered before counted in."""
    for thing in np.unique(covered[covered >= 0]):
        left = (stage.owner == thing).sum() - (covered == thing).sum()
        if left < (1 - hidden) * stage.areas[thing]:
            return False
    return True


def _photographed(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What a camera and a file add: blur, grain, compression."""
    if rng.random() < 0.4:
        image = _blurred(image, rng.uniform(0.3, 0.9))
    image = image + rng.normal(0, rng.uniform(0.5, 4.0), image.shape).astype(np.float32)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(40, 93)))
        pixels = np.asarray(Image.open(file).convert("RGB"))
    return pixels


def _blurred(image: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    pil_image = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.array(pil_image.filter(ImageFilter.GaussianBlur(radius)), np.float32)
