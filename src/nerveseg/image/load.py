"""Path, bytes, PIL image, array or tensor → one upright RGB image. Whatever could be read in two ways is refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerveseg import text_files
from nerveseg.errors import ImageError, NerveSegError
from nerveseg.image.decode import check_pixels, decode, read
from nerveseg.image.layouts import ACCEPTED, from_array, from_tensor
from nerveseg.image.samples import Choice
from nerveseg.reprs import brief

__all__ = ["MAX_PIXELS", "LoadedImage", "load_image", "png"]

MAX_PIXELS = 200_000_000
"""Default cap on height × width, checked before anything is decoded."""

_SHOWN = 1024


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One upright RGB image.

    Attributes:
        pixels: H×W×3, uint8, read-only, RGB, row 0 at the top.
        sha256: digest of the shape and the pixels, the same however the image came in.
        name: the file's name, or ``image``.
        orientation: the EXIF code it was stored with (1: as shown); already applied.
        notes: what was changed on the way in, one sentence each.
        path: the file that it was read from, absolute; None for one from memory.
        made: what networks were given of it, by size and scale; None: nothing is kept (see `keeping`).
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    sha256: str
    name: str = "picture"
    orientation: int = 1
    notes: tuple[str, ...] = ()
    path: str | None = None
    made: dict[Any, Any] | None = field(default=None, repr=False)

    __repr__ = brief

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return png(self.to_pil())

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def keeping(self) -> LoadedImage:
        """The same image, which is resized once a size: for as long as it is encoded, since what it keeps takes more room than itself."""
        return replace(self, made={})

    def to_pil(self) -> Image.Image:
        """The image as an RGB PIL image (a copy)."""
        return Image.fromarray(self.pixels)


def png(image: Image.Image) -> bytes:
    """An image as a notebook shows it: PNG, sides of at most 1024 pixels."""
    small = image.copy()
    small.thumbnail((_SHOWN, _SHOWN))
    held = BytesIO()
    small.save(held, "PNG")
    return held.getvalue()


def load_image(
    source: Any,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
) -> LoadedImage:
    """Read one image.

    Args:
        source: a path (str, Path or ``file://…``), the bytes of an image file, a binary file that is open (read from its start), a PIL
            image, an array or tensor (H×W, H×W×C or C×H×W, C = 1, 3 or 4; see `nerveseg.image.layouts`), or a `LoadedImage`.
        max_pixels: cap on height × width. Larger: bigger images pass; memory is about 3 bytes a pixel here and more later.
        name: how to call it; None takes the file's name.
        bands: numbers, from 1, of the bands of a file or PIL image that become red, green and blue, as (4, 3, 2); or of one, for grey.
            None: those that the file calls so. Choosing bands of a TIFF takes rasterio.
        value_range: (low, high): values that become 0 and 255; what is beyond is cut. None: 8 bits stay, others are scaled from the
            smallest to the largest value of the image that is data.

    Returns:
        EXIF orientation applied; palette, grey, CMYK and 16-bit images turned into 8-bit RGB, transparency laid over
        white, the first image of several taken. `Image.notes` says which of these happened.

    Raises:
        ImageError: not an image, damaged, too large, or a layout that can be read in two ways. OptionError: bands or a range that
            are none. MissingExtra: a TIFF that takes rasterio, which is not installed.
    """
    choice = Choice(None if bands is None else tuple(bands), None if value_range is None else (value_range[0], value_range[1]))
    if isinstance(source, LoadedImage):
        check_pixels(source.size, max_pixels, source.name)
        return source
    if isinstance(source, (str, Path)):
        return _from_path(source, max_pixels, name, choice)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), max_pixels, name or "picture", choice)
    if isinstance(source, Image.Image):
        called = name or Path(str(getattr(source, "filename", "") or "picture")).name
        return _image(*decode(source, max_pixels, called, choice), name=called)
    if isinstance(source, np.ndarray):
        pixels, notes = from_array(source, max_pixels, name or "picture")
        return _image(pixels, 1, notes, name=name or "picture")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        pixels, notes = from_tensor(source, max_pixels, name or "picture")
        return _image(pixels, 1, notes, name=name or "picture")
    if callable(getattr(source, "read", None)):
        return _from_open(source, max_pixels, name, choice)
    raise ImageError(f"Got {type(source).__name__} for an image. {ACCEPTED} {_advice(source)}.")


def _advice(source: Any) -> str:
    if isinstance(source, (list, tuple, set, frozenset, dict)) or hasattr(source, "__next__"):
        return "Give one image at a time, or a list of images to a Segmenter"
    if callable(getattr(source, "__array__", None)):
        return "Turn it into an array with numpy.asarray(image)"
    return "Turn it into one of these"


def _from_open(source: Any, max_pixels: int, name: str | None, choice: Choice) -> LoadedImage:
    """A binary file, from its start wherever it stands, as PIL reads it; a stream that cannot go back from where it is."""
    kind, called = type(source).__name__, getattr(source, "name", None)
    try:
        if callable(getattr(source, "seekable", None)) and source.seekable():
            source.seek(0)
        data = source.read()
    except (OSError, ValueError) as error:  # closed, opened for writing, or text that is no UTF-8
        raise ImageError(f"Got a file ({kind}) that cannot be read ({error}). {ACCEPTED} Open it with open(path, 'rb').") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ImageError(f"Got a file ({kind}) that gives {type(data).__name__}. {ACCEPTED} Open it with open(path, 'rb').")
    return _from_bytes(bytes(data), max_pixels, name or (Path(called).name if isinstance(called, str) and called else "picture"), choice)


def _image(pixels: np.ndarray, orientation: int, notes: tuple[str, ...], *, name: str, path: str | None = None) -> LoadedImage:
    """Own copy, contiguous and read-only, so that the digest stays true."""
    owned = np.array(pixels, dtype=np.uint8, order="C", copy=True)
    owned.setflags(write=False)
    digest = hashlib.sha256(f"{owned.shape[0]}x{owned.shape[1]}x3:".encode())
    digest.update(owned.data)
    return LoadedImage(owned, digest.hexdigest(), name, orientation, notes, path)


def _from_path(source: str | Path, max_pixels: int, name: str | None, choice: Choice) -> LoadedImage:
    text = str(source)
    if (url := text_files.address(text)) is not None:
        raise ImageError(f"Got the address {url[:200]!r}. {ACCEPTED} Download it first and give the file.")
    if text.startswith("data:"):
        raise ImageError(f"Got the address {text[:60]!r}…. {ACCEPTED} Decode it with base64.b64decode and give the bytes.")
    path, shown = Path(text_files.local(text)), repr(text[:200])
    try:
        if path.is_dir():
            raise ImageError(f"Got the folder {shown}. {ACCEPTED} Name one file in it, or use `nerveseg batch` for all.")
        if not path.exists():
            raise ImageError(f"Got {shown}, which does not exist (looked in {Path.cwd()}). {ACCEPTED} Check the path.")
        if not path.is_file():
            raise ImageError(f"Got {shown}, which is not a regular file. {ACCEPTED} Read it and give the bytes.")
        if path.stat().st_size == 0:
            raise ImageError(f"Got {shown}, which is empty (0 bytes). {ACCEPTED} Copy or download it again.")
        with path.open("rb") as file:
            return _image(*read(file.read(), max_pixels, shown, choice), name=name or path.name, path=str(path.absolute()))
    except NerveSegError:
        raise
    except (OSError, ValueError) as error:  # no permission, a name too long, a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"Got {shown}, which cannot be read ({reason}). {ACCEPTED} Check the path and its permissions.") from error


def _from_bytes(data: bytes, max_pixels: int, name: str, choice: Choice) -> LoadedImage:
    if not data:
        raise ImageError(f"Got no bytes for an image. {ACCEPTED} Give the whole content of an image file.")
    return _image(*read(data, max_pixels, f"{len(data)} bytes", choice), name=name)
