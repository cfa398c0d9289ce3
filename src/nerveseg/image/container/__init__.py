"""What an image's file claims, read from its structure before any decoder sees it.

Decoders believe files: a JPEG of 2.6 MB may ask for 60,000 passes over its pixels, a TIFF of 1 × 1 for a tile of 2 GB. Each module here
walks one container – segments, chunks, directories, boxes – and refuses what would cost far more than its file and image are worth.
The limits lie an order of magnitude beyond what programs write. What is cut short or odd, and cheap, passes: its decoder says what is
wrong.
"""

from __future__ import annotations

from io import BufferedIOBase, BytesIO

from nerveseg.image.container import bitmaps, boxes, chunks, gif, jpeg, tiff
from nerveseg.image.container.claims import File

__all__ = ["check", "check_exif"]

_MODULES = (jpeg, chunks, tiff, gif, bitmaps, boxes)


def check(file: BufferedIOBase, where: str, max_pixels: int) -> None:
    """Refuse a file whose decoding would take time or memory out of all proportion.

    Takes a few milliseconds; memory of a few blocks. The file's position is as before.

    Args:
        file: seekable, a whole image file.
        where: what to call it in messages.
        max_pixels: cap on height × width, for formats whose readers reserve memory for the stated size when they are opened.

    Raises:
        ImageError: it says what was found. ImageTooLarge: it states more pixels or bytes than are accepted.
    """
    held = File.of(file, where, max_pixels)
    before = file.tell()
    try:
        start = held.read(0, 16)
        for module in _MODULES:
            if module.accepts(start):
                module.check(held)
                return
    finally:
        file.seek(before)


def check_exif(blob: object, where: str) -> None:
    """Refuse EXIF, as an opened image brings it, whose tags claim far more bytes than there are; see `check`."""
    if isinstance(blob, bytes) and blob:
        content = blob.removeprefix(b"Exif\0\0")
        tiff.check_metadata(File.of(BytesIO(content), where, 0))
