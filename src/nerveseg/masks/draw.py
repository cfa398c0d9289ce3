"""A label map over its image, with border lines and a legend, for people to look at."""

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
_ENTRIES = 60  # labels in the legend; the rest is counted
_DEPTH = 0.5  # how far light and dark of the image move a colour, at alpha 0; less as alpha grows
_WIDTH = 350  # times that a border goes into the shorter side
_DARK, _LIGHT = 24, 255
_PROBED = 24  # pixels of the font in which letters are looked for
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
    """Lay each label's colour over the image and draw the borders, as wide as the image's size asks for.

    From ``alpha`` 0.5 on only light and dark are left of the image under a label, so that a label has one hue, the legend's, whatever it
    lies on; below that the image's own colours come through.

    Args:
        pixels: the image, uint8 RGB.
        ids: label ids of the same size; ids ≥ ``count`` (ignored pixels) keep the image's own colour.
        count: number of labels.
        alpha: 0 shows the image, 1 the colours alone.
        background: id that is painted grey.
    """
    if not 0.0 <= alpha <= 1.0:
        raise OptionError(f"Got alpha = {alpha}. Accepted is 0 to 1. 0 shows the image, 1 the colours.")
    small = np.minimum(ids, count).astype(np.uint16 if count <= 0xFFFF else np.uint32)
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L"))
    painted = np.take(_shades(wheel(count, background=background), alpha), small.astype(np.intp) * 256 + grey, axis=0)
    named = small < count
    if not named.all():
        painted[~named] = pixels[~named]
    if alpha < 0.5:
        painted = np.array(Image.blend(image, Image.fromarray(painted), 2 * alpha))
    _draw_borders(painted, small)
    return Image.fromarray(painted)


def with_legend(image: Image.Image, names: Sequence[str], shares: Sequence[float], *, background: int | None = None) -> Image.Image:
    """Put a legend under an overlay: the labels that are there, largest first, with their share of the image.

    Long names are shortened, control characters shown by their codes; a name with letters that the font lacks shows its id instead.
    """
    size = min(max(12, max(image.size) // 48), 80)
    font = _font(size)
    entries = _entries(names, shares, background)
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


def _shades(colours: UInt8[np.ndarray, "c 3"], alpha: float) -> UInt8[np.ndarray, "n 3"]:
    """What a pixel becomes, by 256 · label + its grey: the label's colour, darker under what is dark and lighter under what is light."""
    depth = _DEPTH * (1.0 - alpha)
    light = (np.arange(256, dtype=np.float32) - 128.0)[None, :, None] / 128.0 * depth
    colour = colours.astype(np.float32)[:, None, :]
    shades = np.where(light < 0, colour * (1.0 + light), colour + (255.0 - colour) * light)
    blank = np.zeros((1, 256, 3), dtype=np.float32)  # of what has no label
    return np.rint(np.concatenate([shades, blank])).astype(np.uint8).reshape(-1, 3)


def _draw_borders(painted: UInt8[np.ndarray, "H W 3"], ids: NDArray[Any]) -> None:
    """Draw between labels, in place: light and dark beside each other, so that it is seen on every colour."""
    height, width = ids.shape
    edge = np.zeros((height, width), dtype=bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    wide = max(2, round(min(height, width) / _WIDTH))
    painted[_grown(edge, wide)] = _DARK
    painted[_grown(edge, max(1, wide - 2 * max(1, wide // 4)))] = _LIGHT


def _grown(mask: NDArray[Any], wide: int) -> NDArray[Any]:
    """The mask, each of its pixels made a square of so many pixels around it."""
    grown = mask.copy()
    for rows in (grown, grown.T):
        reach = 1
        while reach < wide:
            step = min(reach, wide - reach)
            rows[step:] |= rows[:-step].copy()
            reach += step
        back = (wide - 1) // 2
        if back:
            rows[:-back] = rows[back:].copy()
    return grown


def _entries(names: Sequence[str], shares: Sequence[float], background: int | None) -> list[_Entry]:
    font = _font(_PROBED)
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
    missing = _drawn("\U0010fffd", font)  # a code point that no font has: its image stands for all missing ones
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
