"""Silence decoders: libtiff writes its warnings straight to file descriptor 2, a megabyte for a file of 48 KB."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path

import PIL

__all__ = ["quiet"]

_PLACES = ("../pillow.libs/libtiff*", ".dylibs/libtiff*")  # of Pillow's own copy, in its wheels for Linux and macOS


@cache
def quiet() -> bool:
    """Tell Pillow's own copy of libtiff to write nothing, for good: what fails is an error of Pillow's all the same.

    Other copies, as rasterio's, keep their voice. A Pillow that was built upon the system's libtiff is left alone, since other programs
    of this process may share that; service, page and batch read images in a process whose descriptor 2 leads nowhere.

    Returns:
        Whether there was such a copy.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints its errors where nobody has set up logs
    here = Path(PIL.__file__).parent
    found = [path for place in _PLACES for path in here.glob(place)]
    for path in found:
        library = ctypes.CDLL(str(path))  # the same path is the same copy, loaded once
        for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt", "TIFFSetWarningHandler", "TIFFSetWarningHandlerExt"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    return bool(found)
