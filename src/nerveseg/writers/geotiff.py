"""The label map as a GeoTIFF: pixel = id, where the image is on the earth kept, colours and names in the file; takes rasterio.

Kept are the reference system, the transform, control points and rational polynomials of the file that the image was read from, a world
file beside it included; where an orientation code turned the image, they are turned along. Ids are 8 bits up to 255 labels and 16
beyond; the ignored id is the file's "no data". An image from memory, or from a file that says no place, gives a TIFF without one.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import __version__
from nerveseg.errors import ImageError, MissingExtra, OutputError
from nerveseg.image.load import LoadedImage
from nerveseg.image.orientation import source_of, stored_size
from nerveseg.masks.palette import wheel
from nerveseg.parse import from_json
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import Reading, check_holds, finite, reading_back, record, replacing

__all__ = ["Options", "holds", "read", "suffix", "write"]

suffix = ".tif"
_LABELS, _RUN, _POINT = "NERVESEG_LABELS", "NERVESEG_RUN", "AREA_OR_POINT"
_DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG", "WEBP", "GIF", "BMP")  # images alone: others may lead to other files


@dataclass(frozen=True)
class Options:
    """How it is stored."""

    compress: str = knob(
        "deflate", "How the pixels are packed, without loss. none: largest, read by all.", choices=("deflate", "lzw", "none"),
        source="deflate is the smaller of the two that every reader knows",
    )  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """Where an image is: what the new file is opened with, and what is set on it afterwards."""

    profile: dict[str, Any] = field(default_factory=dict[str, Any])
    after: dict[str, Any] = field(default_factory=dict[str, Any])
    tags: dict[str, str] = field(default_factory=dict[str, str])


def holds(labels: int) -> bool:
    """Up to 65535 labels: the last 16-bit id is kept for ignored pixels."""
    return labels <= 65535


def write(segmentation: Segmentation, path: Path, options: Options) -> tuple[Path, ...]:
    """Write ids, place, colours and names.

    Raises:
        MissingExtra: rasterio is not installed.
        OutputError: an image whose file is gone or has changed its size since.
    """
    check_holds(sys.modules[__name__], len(segmentation.labels), path)
    with replacing(path) as (draft,):
        draft.write_bytes(_made(segmentation, options))
    return (path,)


def read(path: str | Path) -> Reading:
    """Read ids and labels back.

    Raises:
        MissingExtra: rasterio is not installed. ImageError: no label map that `write` makes.
    """
    library = _library()
    with reading_back(Path(path)):
        with _calm(), library.open(Path(path).absolute(), driver="GTiff") as held:
            ids, tags = held.read(1), held.tags()
        labels: list[Any] = from_json(tags.get(_LABELS, "[]"))
        run: dict[str, Any] = from_json(tags.get(_RUN, "{}"))
        if type(labels) is not list or type(run) is not dict or not all(isinstance(name, str) for name in labels):
            raise ValueError("its tags hold no names")
    if ids.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"Got {path} of {ids.dtype}. Accepted are 8 or 16 bits without sign, one id a pixel. Write it again.")
    return Reading(ids.astype(np.uint16), tuple(labels), run)


def _made(result: Segmentation, options: Options) -> bytes:
    """The file's bytes; made in memory, so that nothing half and no file beside it is ever on the disk."""
    library, memory = _library(), importlib.import_module("rasterio.io").MemoryFile
    place = _place(library, result.image)
    ignored = result.ignore_index
    kind = np.uint8 if ignored == 255 else np.uint16
    ids = np.minimum(result.segmentation.numpy(), ignored).astype(kind)
    height, width = result.size
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": ids.dtype.name, "nodata": ignored}
    stored = {"compress": options.compress, "tiled": True, "blockxsize": 256, "blockysize": 256, "BIGTIFF": "IF_SAFER"}
    colours = {number: (*colour, 255) for number, colour in enumerate(wheel(len(result.labels), background=result.background).tolist())}
    names = [label.name for label in result.labels]
    said = {
        _LABELS: json.dumps(names, ensure_ascii=not "".join(names).isprintable()),
        _RUN: json.dumps(finite(record(result)), sort_keys=True, allow_nan=False),
        "TIFFTAG_SOFTWARE": f"nerveseg {__version__}",
    }
    with _calm(), memory() as held:
        with held.open(**profile, **stored, **place.profile) as out:
            for name, value in place.after.items():
                setattr(out, name, value)
            out.write_colormap(1, {**colours, ignored: (0, 0, 0, 0)})  # a file is one of colours from its first block on
            out.write(ids, 1)
            out.update_tags(**said, **place.tags)
        return bytes(held.getbuffer())


def _place(library: Any, image: LoadedImage) -> _Place:
    """Where the file of an image says that it is."""
    if image.path is None:
        return _Place()
    if not Path(image.path).is_file():
        raise OutputError(f"Got {image.path}, which is gone. Accepted is an image whose place can still be read. Put it back.")
    try:
        with _calm(), library.Env(), importlib.import_module("rasterio.io").DatasetReader(image.path, driver=list(_DRIVERS)) as held:
            size, points, system = (held.height, held.width), *held.gcps
            moved = held.transform != library.Affine.identity()
            seen = stored_size(size, image.orientation)
            profile = {
                **({"crs": held.crs} if held.crs else {}),
                **({"transform": library.Affine(*_turned(held.transform, seen, image.orientation))} if moved else {}),
            }
            after: dict[str, Any] = {"gcps": ([_seen_at(point, size, image.orientation) for point in points], system)} if points else {}
            if held.rpcs:
                after["rpcs"] = _seen_by(held.rpcs, size, image.orientation)
            tags = {name: value for name, value in held.tags().items() if name == _POINT}
    except library.errors.RasterioError:  # an image that its library does not know says no place that it could read
        return _Place()
    if not (profile or after):
        return _Place()
    if seen != image.size:
        raise OutputError(
            f"Got {image.path} of {size[0]}×{size[1]} with orientation {image.orientation} for a label map of {image.size[0]}×"
            f"{image.size[1]}. Accepted is the file as it was read. Put it back, or choose another format."
        )
    return _Place(profile, after, tags)


def _turned(transform: Any, seen: tuple[int, int], code: int) -> tuple[float, ...]:
    """From a pixel of the image as it is seen, by its place in the file, to the earth."""
    a, b, c, d, e, f = tuple(transform)[:6]
    p, q, r, s, t, u = source_of(seen, code)
    return a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f


def _seen_at(point: Any, size: tuple[int, int], code: int) -> Any:
    """A control point of the file, of (height, width) as stored, on the image as it is seen."""
    a, b, c, d, e, f = source_of(size, {6: 8, 8: 6}.get(code, code))
    column, row = a * point.col + b * point.row + c, d * point.col + e * point.row + f
    return type(point)(row=row, col=column, x=point.x, y=point.y, z=point.z, id=point.id, info=point.info)


def _seen_by(given: Any, size: tuple[int, int], code: int) -> Any:
    """Rational polynomials of the file for the image as it is seen: lines and samples run backwards, or change places.

    Args:
        given: rasterio's RPC; lines and samples are counted from the middle of the first pixel.
        size: (height, width) as stored.
        code: orientation.
    """
    made = copy.copy(given)
    a, b, _, d, e, _ = source_of(stored_size(size, code), code)
    for name, length, step in (("line", size[0], d + e), ("samp", size[1], a + b)):
        if step < 0:
            setattr(made, f"{name}_off", length - 1 - getattr(given, f"{name}_off"))
            setattr(made, f"{name}_num_coeff", [-value for value in getattr(given, f"{name}_num_coeff")])
    if b:  # rows are the stored columns
        parts = ("off", "scale", "num_coeff", "den_coeff")
        line, sample = ({part: getattr(made, f"{name}_{part}") for part in parts} for name in ("line", "samp"))
        for part in parts:
            setattr(made, f"line_{part}", sample[part])
            setattr(made, f"samp_{part}", line[part])
    return made


@contextmanager
def _calm() -> Generator[None]:
    """Without the library's warning that a file says no place: that is no fault here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", importlib.import_module("rasterio.errors").NotGeoreferencedWarning)
        yield


def _library() -> Any:
    try:
        return importlib.import_module("rasterio")
    except ImportError as error:
        raise MissingExtra(
            "Got the format 'geotiff', whose library rasterio is not installed. Accepted is version 1.4 or newer. "
            "Install it with: pip install 'nerveseg[geotiff]'."
        ) from error
