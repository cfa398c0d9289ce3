"""How things look in the second world: their own colour or another, patterns, shading, the shadow they cast, the light on all of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nerveseg.synthetic import sheet, textures

__all__ = ["COLOURS", "Light", "Look", "cast", "glyph", "light", "lit", "look"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 38, 38), "orange": (240, 136, 26), "yellow": (238, 208, 40), "green": (54, 148, 62), "blue": (44, 92, 204),
    "purple": (132, 62, 172), "pink": (240, 130, 176), "brown": (122, 78, 44), "black": (34, 34, 38), "white": (240, 240, 240),
    "grey": (128, 130, 134),
}  # fmt: skip
_PATTERNS = ("striped", "spotted", "checked")
_LIGHTS: dict[str, tuple[str, float]] = {
    "day": ("", 0.7),
    "night": ("at night", 0.1),
    "sunset": ("at sunset", 0.1),
    "fog": ("in the fog", 0.1),
}


@dataclass(frozen=True)
class Light:
    """The light of a scene.

    Attributes:
        kind: day, night, sunset or fog.
        word: what a caption says of it; nothing by day.
        towards: (y, x) unit vector along which the light falls.
        hardness: of shading and shadows, 0 … 1.
    """

    kind: str
    word: str
    towards: tuple[float, float]
    hardness: float


@dataclass(frozen=True)
class Look:
    """What is special about the things of one group.

    Attributes:
        colour: of `COLOURS`; empty: their own.
        pattern: striped, spotted, checked; ringed is drawn, but never in training and never spoken of. Empty: none.
    """

    colour: str
    pattern: str

    @property
    def word(self) -> str:
        """What a caption says before the noun."""
        return " ".join(part for part in (self.pattern if self.pattern in _PATTERNS else "", self.colour) if part)


def light(rng: np.random.Generator, *, training: bool) -> Light:
    """Draw a light, from above; by fog it is soft, outside training softer than in it."""
    kind = str(rng.choice(list(_LIGHTS), p=[chance for _, chance in _LIGHTS.values()]))
    angle = rng.uniform(np.pi * 0.1, np.pi * 0.9)
    hardness = rng.uniform(0.2 if training else 0.0, 0.4) if kind == "fog" else rng.uniform(0.3, 1.0)
    return Light(kind, _LIGHTS[kind][0], (float(np.sin(angle)), float(np.cos(angle))), float(hardness))


def look(rng: np.random.Generator, *, training: bool) -> Look:
    """Draw a look: most things look as they are."""
    colour = str(rng.choice(list(COLOURS))) if rng.random() < 0.22 else ""
    patterns = _PATTERNS if training else (*_PATTERNS, "ringed")
    return Look(colour, str(rng.choice(patterns)) if rng.random() < 0.14 else "")


def glyph(rng: np.random.Generator, name: int, side: int, chosen: Look, shining: Light, *, training: bool) -> NDArray[np.float32]:
    """Draw a thing ``side`` pixels on its longer side: (h, w, 4) float32, colours in [0, 255], alpha in [0, 1]."""
    turned = _turned(rng, name, side, training=training)
    alpha = turned[..., 3:]
    colours = turned[..., :3] * np.float32(rng.uniform(0.85, 1.1)) * (1 + rng.normal(0, 0.03, 3).astype(np.float32))
    if chosen.colour:
        grey = colours @ np.array([0.3, 0.59, 0.11], np.float32) / 255
        tint = np.asarray(COLOURS[chosen.colour], np.float32) * (0.35 + 0.85 * grey)[..., None]
        colours = 0.82 * tint + 0.18 * colours
    if chosen.pattern:
        colours = colours * (1 - 0.5 * _pattern(rng, chosen.pattern, colours.shape[:2])[..., None])
    shade = _shading(alpha[..., 0], shining) + 0.05 * textures.noise(rng, colours.shape[:2], max(2.0, side / 12))
    return np.concatenate([np.clip(colours * shade[..., None], 0, 255), alpha], -1).astype(np.float32)


def _turned(rng: np.random.Generator, name: int, side: int, *, training: bool) -> NDArray[np.float32]:
    cell = sheet.load()[name]
    if rng.random() < 0.5:
        cell = cell.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    most = 25 if training else 38
    turned = cell.rotate(float(rng.uniform(-most, most)), Image.Resampling.BILINEAR, expand=True)
    tight = turned.crop(turned.getchannel("A").getbbox())
    scale = side / max(tight.size)
    squeeze = 1.0 if training else float(rng.uniform(0.8, 1.0))
    size = max(4, round(tight.width * scale * squeeze)), max(4, round(tight.height * scale))
    pixels = np.asarray(tight.resize(size, Image.Resampling.BICUBIC), np.float32).copy()
    pixels[..., 3] /= 255
    return pixels


def _pattern(rng: np.random.Generator, kind: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask in [0, 1] of one of the patterns, six to ten periods across."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), max(size) / rng.uniform(4, 8)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    u, v = np.float32(2 * np.pi / period) * u, np.float32(2 * np.pi / period) * v
    if kind == "ringed":
        u = np.hypot(u - u.mean(), v - v.mean())
    waves = {"spotted": np.cos(u) + np.cos(v) - 0.6, "checked": 4 * np.cos(u) * np.cos(v)}.get(kind, 3 * np.cos(u))
    return np.clip(waves * 1.5, 0, 1).astype(np.float32)


def _shading(alpha: NDArray[np.float32], shining: Light) -> NDArray[np.float32]:
    """Lit as if the outline were that of something round."""
    side = max(alpha.shape)
    bulk = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(max(1.0, side / 9)))
    down, right = np.gradient(np.asarray(bulk, np.float32) / 255)
    facing = (down * shining.towards[0] + right * shining.towards[1]) * side / 4
    return (1 + 0.55 * shining.hardness * np.clip(facing, -1, 0.6)).astype(np.float32)


def cast(image: NDArray[np.float32], alpha: NDArray[np.float32], corner: tuple[int, int], shining: Light) -> None:
    """Darken ``image`` where a thing of this ``alpha``, placed at ``corner`` = (top, left), takes the light away."""
    tall, wide = alpha.shape
    low = max(3, tall // 3)
    soft = max(1.0, tall / 14)
    margin = round(3 * soft)
    flat = Image.fromarray((alpha * 255).astype(np.uint8)).resize((wide, low))
    canvas = Image.new("L", (wide + 2 * margin, low + 2 * margin))
    canvas.paste(flat, (margin, margin))
    shade = np.asarray(canvas.filter(ImageFilter.GaussianBlur(soft)), np.float32) / 255 * (0.55 * shining.hardness)
    top = corner[0] + tall - round(low * 0.75) - margin
    left = corner[1] + round(shining.towards[1] * wide * 0.35) - margin
    y, x = (
        slice(max(top, 0), min(top + shade.shape[0], image.shape[0])),
        slice(max(left, 0), min(left + shade.shape[1], image.shape[1])),
    )
    if y.start < y.stop and x.start < x.stop:
        image[y, x] *= 1 - shade[y.start - top : y.stop - top, x.start - left : x.stop - left, None]


def lit(rng: np.random.Generator, image: NDArray[np.float32], shining: Light) -> NDArray[np.float32]:
    """Put the light of the day, the night, the evening or the fog over a whole image."""
    down, across = _ramps(image.shape[0], image.shape[1])
    fall = 1 + 0.12 * shining.hardness * (down * shining.towards[0] + across * shining.towards[1])
    image = (image * fall[..., None] * np.float32(rng.uniform(0.88, 1.1))).astype(np.float32)
    if shining.kind == "night":
        image = (image * np.array([0.36, 0.42, 0.62], np.float32) * np.float32(rng.uniform(0.8, 1.3))).astype(np.float32)
    if shining.kind == "sunset":
        image = (image * np.array([1.08, 0.8, 0.6], np.float32) + np.array([22, 8, 0], np.float32)).astype(np.float32)
    if shining.kind == "fog":
        thick = np.float32(rng.uniform(0.3, 0.6)) * (1 - 0.3 * down)[..., None]
        image = (image + thick * (np.array([206, 210, 214], np.float32) - image)).astype(np.float32)
    return image


@lru_cache(32)
def _ramps(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    down, across = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return np.broadcast_to(down[:, None], (height, width)), np.broadcast_to(across[None], (height, width))
