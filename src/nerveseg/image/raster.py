"""TIFF files that Pillow does not read, and bands by choice: by rasterio, where it is installed."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from nerveseg.errors import ImageError, MissingExtra
from nerveseg.image.samples import Choice, pick, scaled

__all__ = ["ADVICE", "read"]

ADVICE = "pip install 'nerveseg[geotiff]'"


@dataclass(frozen=True)
class _Bands:
    """What a file has.

    Attributes:
        colours: places from 1 of red, green and blue, or of grey.
        alpha: place of the transparency; None: none is said.
        guessed: the file does not say which bands are which.
    """

    colours: tuple[int, ...]
    alpha: int | None
    guessed: bool


def read(data: bytes, choice: Choice, where: str) -> tuple[UInt8[np.ndarray, "H W 3"], list[str]]:
    """Read bands of a TIFF file as RGB; rows as they are stored.

    Args:
        data: the file. Its size must have been checked.
        choice: bands and range. Without bands: those that the file calls red, green and blue, else the first three, or the first of two.
        where: what to call it.

    Returns:
        Pixels and notes.

    Raises:
        MissingExtra: rasterio is not installed. ImageError: damaged, of another kind, or without these bands.
    """
    library = _library(where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", importlib.import_module("rasterio.errors").NotGeoreferencedWarning)
            with importlib.import_module("rasterio.io").MemoryFile(data) as held, held.open(driver="GTiff") as file:
                return _rgb(file, choice, where)
    except (library.errors.RasterioError, OSError, ValueError, IndexError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"Got {where}, which rasterio cannot read ({error}). Accepted is a whole TIFF file. Copy or save it again."
        ) from error


def _rgb(file: Any, choice: Choice, where: str) -> tuple[NDArray[np.uint8], list[str]]:
    if any(np.dtype(kind).kind not in "iuf" for kind in file.dtypes):
        raise ImageError(
            f"Got {where} with bands of {', '.join(sorted(set(file.dtypes)))}. Accepted are whole numbers and floats. "
            "Save magnitude or phase as an image."
        )
    chosen = pick(file.count, choice, where)
    own = _said(file)
    colours = tuple(place + 1 for place in chosen) if chosen else own.colours
    alpha = None if chosen else own.alpha
    values = np.moveaxis(file.read(list(colours)), 0, -1)
    notes = []
    if not chosen and own.guessed:
        names = "red, green and blue" if len(colours) == 3 else "grey"
        listed = ", ".join(map(str, colours))
        notes.append(f"Bands {listed} of {file.count} were taken as {names}, which the file does not say; --bands chooses others.")
    elif chosen:
        notes.append(f"Bands {', '.join(map(str, colours))} of {file.count} were taken, as asked for.")
    nodata = file.nodatavals[colours[0] - 1]
    if values.dtype == np.uint8 and choice.value_range is None:
        rgb = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
    else:
        what = f"{'Grey' if len(colours) == 1 else 'Colours'} of {values.dtype}"
        rgb, note = scaled(values, choice, what=what, nodata=nodata)
        notes.append(note)
    if alpha is not None:
        rgb = _over_white(rgb, file.read(alpha), notes)
    return np.ascontiguousarray(rgb), notes


def _said(file: Any) -> _Bands:
    """What the file calls its bands."""
    named = [colour.name for colour in file.colorinterp]
    alpha = named.index("alpha") + 1 if "alpha" in named else None
    if {"red", "green", "blue"} <= set(named):
        return _Bands(tuple(named.index(name) + 1 for name in ("red", "green", "blue")), alpha, guessed=False)
    others = [place for place in range(1, file.count + 1) if place != alpha]
    return _Bands(tuple(others[: 3 if len(others) > 2 else 1]), alpha, guessed=len(others) > 1)


def _over_white(rgb: NDArray[np.uint8], alpha: NDArray[Any], notes: list[str]) -> NDArray[np.uint8]:
    whole = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    share = np.clip(alpha.astype(np.float32) / whole, 0.0, 1.0)[:, :, None]
    if float(share.min()) == 1.0:
        return rgb
    notes.append("Transparency was laid over white.")
    return np.rint(rgb * share + 255.0 * (1.0 - share)).astype(np.uint8)


def _library(where: str) -> Any:
    try:
        return importlib.import_module("rasterio")
    except ImportError as error:
        raise MissingExtra(
            f"Got {where}, which takes rasterio to read. Accepted without it are TIFF files of 8 bits in grey, RGB or a palette, of 16 "
            f"bits in grey or RGB, and of 32 bits in grey. Install it with: {ADVICE}; or save the file as one of these."
        ) from error
