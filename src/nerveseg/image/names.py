"""Parse file names (stem and extension) and lists of images as people and data sets write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["ENDINGS", "fields", "lines", "slashed", "stem"]

ENDINGS = frozenset(
    ".png .jpg .jpeg .jpe .jfif .mpo .webp .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .jp2 .j2k .avif .qoi .heic .heif .jxl .tga".split()  # noqa: SIM905
)
"""Endings of image files, in lower case, whether or not they can be read here: what stands before them is an image's name."""

_FIELD = re.compile(r"\"([^\"]*)\"|'([^']*)'(?=\s|$)|(\S+)")


def stem(name: str) -> str:
    """A name without the ending of an image file; any other dot is part of it.

    >>> stem("2024.01.05"), stem("a/2024.01.05.JPG"), stem(".png")
    ('2024.01.05', 'a/2024.01.05', '.png')
    """
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in ENDINGS else name


def slashed(path: str) -> str:
    r"""A path as Windows writes it with ``/``; a name that has ``/`` as well, or that is there as it is written, stays.

    >>> slashed("photos\\a.jpg")
    'photos/a.jpg'
    """
    return path.replace("\\", "/") if "\\" in path and "/" not in path and not _there(path) else path


def lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines of a list that say something, with their numbers from 1: not blank ones, nor those that begin with ``#``."""
    for number, line in enumerate(text, start=1):
        kept = line.strip().removeprefix("\ufeff")
        if kept and not kept.startswith("#"):
            yield number, kept


def fields(line: str) -> list[str]:
    """The fields of a line, parted at tabs, or else at spaces outside quotes; quotes come off.

    >>> fields("/JPEGImages/x.jpg  /SegmentationClass/x.png"), fields('"my photo.jpg" 1')
    (['/JPEGImages/x.jpg', '/SegmentationClass/x.png'], ['my photo.jpg', '1'])
    """
    if "\t" in line:
        return [part.strip().strip("\"'") for part in line.split("\t") if part.strip()]
    return [double or single or bare for double, single, bare in _FIELD.findall(line)]


def _there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
