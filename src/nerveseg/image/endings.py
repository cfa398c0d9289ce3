"""Which files of a folder are images, by their endings, and which look like images and are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import PurePath

__all__ = ["HEIC", "LOOK_ALIKE", "READ", "endings", "left_out", "told"]

READ = frozenset(
    ".png .jpg .jpeg .jpe .jfif .mpo .webp .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .jp2 .j2k .avif .qoi".split()  # noqa: SIM905
)
"""Endings of image files that are read, in lower case."""

HEIC = frozenset({".heic", ".heif", ".hif"})
"""Read where the extra ``heic`` is installed."""

_CAMERA_RAW = ".dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr .iiq .erf .kdc .dcr .mrw .raw"
_NEW = ".jxl .jxr .jpx .jpf .j2c .jpc .jls .apng"
_DRAWN = ".tga .psd .psb .xcf .svg .svgz .ico .dds .exr .hdr .pfm .pcx .sgi .ras .xbm .xpm .djvu"
_SCIENCE = ".dcm .fits .nii .mrc .img .ecw .sid .vrt"
LOOK_ALIKE = HEIC | frozenset(f"{_CAMERA_RAW} {_NEW} {_DRAWN} {_SCIENCE}".split())
"""Endings of images that are not read."""


def endings() -> frozenset[str]:
    """Endings of the files that are read here."""
    return READ | HEIC if find_spec("pillow_heif") else READ


def left_out(names: Iterable[str], taken: Iterable[str] = ()) -> Counter[str]:
    """How many files look like images and are not taken, by ending; hidden files are none.

    Args:
        names: of files.
        taken: endings that are taken.

    >>> sorted(left_out(["a.jpg", "b.HEIC", "c.tga", "._d.tga", "notes.txt"], READ).items())
    [('.heic', 1), ('.tga', 1)]
    """
    found = (PurePath(name).suffix.lower() for name in names if not PurePath(name).name.startswith("."))
    return Counter(ending for ending in found if ending in READ | LOOK_ALIKE and ending not in taken)


def told(counts: Counter[str]) -> str:
    """One sentence on them; empty where there are none.

    >>> told(Counter({".bmp": 1, ".tga": 2}))
    '3 files that look like images were left out: 2 .tga, 1 .bmp. Save them as PNG or JPEG.'
    """
    if not counts:
        return ""
    total = counts.total()
    listed = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    heic = " Or read HEIC with: pip install 'nerveseg[heic]'." if HEIC & counts.keys() and not find_spec("pillow_heif") else ""
    files, were, them = ("file", "was", "it") if total == 1 else ("files", "were", "them")
    looks = "that looks like an image" if total == 1 else "that look like images"
    return f"{total} {files} {looks} {were} left out: {listed}. Save {them} as PNG or JPEG.{heic}"
