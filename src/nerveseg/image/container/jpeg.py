"""JPEG (ITU-T T.81, annex B): segments, and scans, each of which is a pass over all pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

from nerveseg.image.container import tiff
from nerveseg.image.container.claims import File

__all__ = ["MOST_SCANS", "accepts", "check"]

MOST_SCANS = 200
"""Programs write about ten, the most eager ones some sixty."""

_MOST_SEGMENTS = 10_000  # 64 KB each at most: an extended XMP of 600 MB
_MOST_EXIF = 64  # segments of EXIF, which readers join one by one
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ONE_PASS = frozenset({0xC0, 0xC1, 0xC9})  # no image of several passes, where the first scan holds all components
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_BLOCK = 1 << 18
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return start.startswith(b"\xff\xd8\xff")


def check(held: File) -> None:
    """Count segments and scans, and look into EXIF."""
    scans = frame = components = 0
    exif = list[bytes]()
    for segments, (marker, at) in enumerate(_segments(held), 1):
        if segments > _MOST_SEGMENTS:
            held.refuse(f"a JPEG of more than {_MOST_SEGMENTS:,} segments", f"are up to {_MOST_SEGMENTS:,}")
        if marker in _SOF:
            frame, components = marker, held.number(at + 7, 1)
        elif marker == _APP1 and held.read(at + 2, 6) == b"Exif\0\0":
            exif.append(held.read(at + 8, held.number(at, 2) - 8))
        elif marker == _SOS:
            scans += 1
            if frame in _ONE_PASS and held.number(at + 2, 1) >= components:
                break
        if len(exif) > _MOST_EXIF:
            held.refuse(f"a JPEG with more than {_MOST_EXIF} segments of EXIF", f"are up to {_MOST_EXIF}", "Save it without EXIF.")
        if scans > MOST_SCANS:
            held.refuse(
                f"a JPEG of more than {MOST_SCANS} scans, each of which is a pass over all pixels",
                f"are up to {MOST_SCANS}",
                "Save it again as a baseline JPEG or as PNG.",
            )
    if exif:
        tiff.check_metadata(File.of(BytesIO(b"".join(exif)), held.where, held.max_pixels))


def _segments(held: File) -> Iterator[tuple[int, int]]:
    """Each marker up to the image's end, and the place after it."""
    at = 2
    while (found := _next(held, at)) is not None and found[0] != _EOI:
        yield found
        at = found[1] + (0 if found[0] in _BARE else max(2, held.number(found[1], 2)))


def _next(held: File, at: int) -> tuple[int, int] | None:
    """The next marker from ``at``, and the place after it; coded data, and what belongs to no segment, is passed over."""
    head = held.read(at, 2)
    if len(head) == 2 and head[0] == 0xFF and head[1] not in (0x00, 0xFF):
        return head[1], at + 2
    while block := held.read(at, _BLOCK):
        if found := _MARKER.search(block):
            return found.group(1)[0], at + found.end()
        at += len(block) - 1 if len(block) > 1 and block.endswith(b"\xff") else len(block)
    return None
