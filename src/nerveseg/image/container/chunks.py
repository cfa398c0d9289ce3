"""PNG and WebP: chunks, each with a name and a length, and EXIF inside them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from io import BytesIO

from nerveseg.image.container import tiff
from nerveseg.image.container.claims import File

__all__ = ["accepts", "check"]

_MOST = 10_000  # chunks, beside those with pixels
_SMALLEST = 256  # bytes of a chunk with pixels, on the average, beyond the first 10,000
_MOST_EXIF = 1 << 24  # bytes of EXIF
_PNG = b"\x89PNG\r\n\x1a\n"
_RAW_EXIF = re.compile(rb"Raw profile type (?:exif|APP1)\0", re.IGNORECASE)


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return start.startswith(_PNG) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def check(held: File) -> None:
    """Count chunks, and look into EXIF and the stated size of WebP, whose reader reserves memory for it when it is opened."""
    png = held.read(0, 8) == _PNG
    others = filled = 0
    for name, at, length in _chunks(held, png=png):
        pixels = name in (b"IDAT", b"fdAT", b"ANMF", b"VP8 ", b"VP8L", b"ALPH")
        others, filled = others + (not pixels), filled + pixels
        if others > _MOST or filled > _MOST + held.size // _SMALLEST:
            held.refuse(
                f"a {'PNG' if png else 'WebP'} of more than {others + filled - 1:,} chunks", f"are up to {_MOST:,} beside its pixels"
            )
        if name in (b"VP8X", b"VP8 ", b"VP8L"):
            _check_canvas(held, name, at)
        elif (found := _exif(held, name, at, length)) is not None:
            if len(found) > _MOST_EXIF:
                held.refuse(f"with {length:,} bytes of EXIF", f"are up to {_MOST_EXIF:,}", "Save it without EXIF.")
            tiff.check_metadata(File.of(BytesIO(found.removeprefix(b"Exif\0\0")), held.where, held.max_pixels))


def _chunks(held: File, *, png: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of each."""
    at = 8 if png else 12
    while len(head := held.read(at, 8)) == 8:
        name, length = (head[4:], int.from_bytes(head[:4], "big")) if png else (head[:4], int.from_bytes(head[4:], "little"))
        yield name, at + 8, length
        at += 8 + length + (4 if png else length % 2)


def _check_canvas(held: File, name: bytes, at: int) -> None:
    if name == b"VP8X":
        width, height = held.number(at + 4, 3, little=True) + 1, held.number(at + 7, 3, little=True) + 1
    elif name == b"VP8L":
        bits = held.number(at + 1, 4, little=True)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = held.number(at + 6, 2, little=True) & 0x3FFF, held.number(at + 8, 2, little=True) & 0x3FFF
    held.check_size(height, width, "a WebP")


def _exif(held: File, name: bytes, at: int, length: int) -> bytes | None:
    """EXIF of a chunk, as a TIFF; also as ImageMagick writes it, in hexadecimal text."""
    if name in (b"eXIf", b"EXIF"):
        return held.read(at, min(length, _MOST_EXIF + 1))
    if name not in (b"tEXt", b"zTXt", b"iTXt") or not _RAW_EXIF.match(held.read(at, 32)):
        return None
    content = held.read(at, min(length, 2 * _MOST_EXIF + 64)).partition(b"\0")[2]
    if name == b"zTXt":
        try:
            content = zlib.decompressobj().decompress(content[1:], 2 * _MOST_EXIF + 64)
        except zlib.error:
            return None
    digits = re.sub(rb"[^0-9a-fA-F]", b"", content.split(b"\n", 3)[-1])
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
