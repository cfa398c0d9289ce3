"""A label map over its picture, with border lines and a legend, for people to look at."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nerveseg.errors import OptionError
from nerveseg.masks.palette import wheel

__all__ = ["paint", "with_legend"]

_LONGEST = 32  # letters of a label in the legend
_ENTRIES = 30  # labels in the legend; the rest is counted
_BRIGHT = 70.0  # mean of the three colours, 0…255, from which a dark line stands out
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Entry:
    text: str
    colour: tuple[int, int, int] | None


def paint(
    pixels: UInt8[np.ndarray, "H W 3"],
    ids: Int64[np.ndarray, "H W"],
    count: int,
    *,
    alpha: float = 0.55,
    background: int | None = None,
) -> Image.Image:
    """Lay each label's colour over the picture and draw the borders, dark where it is bright and light where it is dark.

    Args:
        pixels: the picture, uint8 RGB.
        ids: label ids of the same size; ids ≥ ``count`` (ignored pixels) keep the picture's own colour.
        count: number of labels.
        alpha: 0 shows the picture, 1 the colours alone.
        background: id that is painted grey.
    """
    if not 0.0 <= alpha <= 1.0:
        raise OptionError(f"Got alpha = {alpha}. Accepted is 0 to 1. 0 shows the picture, 1 the colours.")
    table = wheel(count, background=background).astype(np.float32)
    named = ids < count
    colour = table[np.where(named, ids, 0)]
    strength = np.where(named, np.float32(alpha), np.float32(0.0))[:, :, None]
    mixed = pixels.astype(np.float32) * (1.0 - strength) + colour * strength
    line = _borders(ids, max(1, round(min(ids.shape) / 500)))
    bright = mixed[line].mean(axis=1, keepdims=True) >= _BRIGHT
    mixed[line] = np.where(bright, mixed[line] * 0.25, 255.0 - (255.0 - mixed[line]) * 0.25)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def with_legend(image: Image.Image, names: Sequence[str], shares: Sequence[float], *, background: int | None = None) -> Image.Image:
    """Put a legend under an overlay: the labels that are there, largest first, with their share of the picture.

    Long names are shortened, control characters shown by their codes; a name with letters that the font lacks shows its id instead.
    """
    size = min(max(12, max(image.size) // 40), 40)
    font = _font(size)
    entries = _entries(names, shares, font, background)
    pad, line = size // 2, int(size * 1.5)
    widths = [int(font.getlength(entry.text)) + (line if entry.colour else 0) + 2 * pad for entry in entries]
    width = max(image.width, *widths)
    rows = _rows(widths, width)
    canvas = Image.new("RGB", (width, image.height + len(rows) * line + 2 * pad), "white")
    canvas.paste(image, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        left, top = pad, image.height + pad + number * line
        for at in row:
            _entry(draw, entries[at], (left, top), size, font)
            left += widths[at]
    return canvas


def _borders(ids: NDArray[Any], thickness: int) -> NDArray[Any]:
    border = np.zeros(ids.shape, dtype=bool)
    for step in range(1, thickness + 1):
        border[:-step] |= ids[:-step] != ids[step:]
        border[:, :-step] |= ids[:, :-step] != ids[:, step:]
    return border


def _entries(names: Sequence[str], shares: Sequence[float], font: _Font, background: int | None) -> list[_Entry]:
    colours = wheel(len(names), background=background).tolist()
    order = sorted((at for at in range(len(names)) if shares[at] > 0.0), key=lambda at: (-shares[at], at))
    shown = [_Entry(f"{_plain(names[at], at, font)}  {_percent(shares[at])}", tuple(colours[at])) for at in order[:_ENTRIES]]
    if len(order) > _ENTRIES:
        shown.append(_Entry(f"and {len(order) - _ENTRIES} more", None))
    return shown or [_Entry("no label", None)]


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")


def _plain(name: str, at: int, font: _Font) -> str:
    # A line break would draw a second line, an override of the direction another label: their codes are shown instead.
    plain = "".join(_shown(letter) for letter in name)
    short = plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1].rstrip()}…"
    missing = _drawn("\U0010fffd", font)  # a code point that no font has: its picture stands for all missing ones
    drawn = all(letter.isspace() or _drawn(letter, font) != missing for letter in short)
    return short if drawn else f"label {at}"


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if unicodedata.category(letter) == "Zs" else letter.encode("unicode_escape").decode("ascii")


def _drawn(letter: str, font: _Font) -> bytes:
    sheet = Image.new("L", (64, 64))
    ImageDraw.Draw(sheet).text((4, 4), letter, fill=255, font=font)
    return sheet.tobytes()


def _font(size: int) -> _Font:
    """DejaVu Sans from matplotlib's data (Latin, Greek, Cyrillic, Arabic …) without importing matplotlib; else PIL's own."""
    package = find_spec("matplotlib")
    for folder in (package.submodule_search_locations if package else None) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def _rows(widths: Sequence[int], width: int) -> list[list[int]]:
    rows: list[list[int]] = [[]]
    used = 0
    for at, wide in enumerate(widths):
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0
        rows[-1].append(at)
        used += wide
    return rows


def _entry(draw: ImageDraw.ImageDraw, entry: _Entry, corner: tuple[int, int], size: int, font: _Font) -> None:
    left, top = corner
    if entry.colour:
        draw.rectangle((left, top, left + size, top + size), fill=entry.colour, outline="black")
        left += int(size * 1.5)
    draw.text((left, top + size // 2), entry.text, fill="black", font=font, anchor="lm")
