"""The glyph sheet: every thing drawn once, so that scenes never depend on the fonts of a machine.

``cut`` made ``glyphs.png`` from the font; ``load`` is all that anybody else needs. The digest of the sheet stands in every result that is
measured on the world.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nerveseg.errors import OutputError
from nerveseg.synthetic.names import GLYPHS, THINGS

__all__ = ["CELL", "COLUMNS", "cut", "digest", "load"]

CELL = 96
"""Pixels on a side of one glyph's cell; the longer side of the glyph fills it."""
COLUMNS = 13
_BITMAP_SIZE = 109  # the only size at which this bitmap font exists


def load() -> tuple[Image.Image, ...]:
    """Every glyph as an RGBA image of CELL × CELL pixels, in the order of `THINGS`."""
    return _cells()


@cache
def digest() -> str:
    """sha256 of the sheet's file."""
    return hashlib.sha256(_sheet().read_bytes()).hexdigest()


def cut(font: Path, out: Path) -> Path:
    """Cut the sheet from a Noto Color Emoji font file, and save it as ``out``."""
    face = ImageFont.truetype(str(font), _BITMAP_SIZE)
    rows = -(-len(THINGS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for place, character in enumerate(GLYPHS.values()):
        glyph = _draw(face, character)
        if glyph is None:
            raise OutputError(
                f"Got no glyph for {character!r} in {font}. Accepted is a Noto Color Emoji font. "
                "Install the Debian package fonts-noto-color-emoji."
            )
        left, top = (place % COLUMNS) * CELL, (place // COLUMNS) * CELL
        sheet.paste(glyph, (left + (CELL - glyph.width) // 2, top + (CELL - glyph.height) // 2))
    sheet.quantize(256, method=Image.Quantize.FASTOCTREE).save(out, optimize=True)
    return out


def _draw(face: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((8, 8), character, font=face, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        return None
    tight = canvas.crop(box)
    scale = CELL / max(tight.size)
    return tight.resize((max(1, round(tight.width * scale)), max(1, round(tight.height * scale))), Image.Resampling.LANCZOS)


def _sheet() -> Path:
    return Path(str(files("nerveseg.synthetic"))) / "glyphs.png"


@cache
def _cells() -> tuple[Image.Image, ...]:
    sheet = Image.open(_sheet()).convert("RGBA")
    boxes = ((i % COLUMNS * CELL, i // COLUMNS * CELL) for i in range(len(THINGS)))
    cells = tuple(sheet.crop((left, top, left + CELL, top + CELL)) for left, top in boxes)
    # A cut with hard alpha below a tenth keeps the halo of the palette out of the masks.
    return tuple(_clean(cell) for cell in cells)


def _clean(cell: Image.Image) -> Image.Image:
    pixels = np.array(cell)
    pixels[pixels[..., 3] < 25] = 0
    return Image.fromarray(pixels, "RGBA")
