"""Path, bytes, PIL image, array or tensor → one upright RGB picture. Whatever could be read in two ways is refused."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field, replace
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from nerveseg.errors import PictureError
from nerveseg.picture import container
from nerveseg.picture.decode import check_pixels, decode, open_image

__all__ = ["MAX_PIXELS", "Picture", "load"]

MAX_PIXELS = 200_000_000
"""Default cap on height × width, checked before anything is decoded."""

ACCEPTED = "Accepted are a path, bytes, a PIL image, an H×W×3 uint8 array, or a 3×H×W tensor (uint8, or float in 0…1)."


@dataclass(frozen=True, eq=False)
class Picture:
    """One upright RGB picture.

    Attributes:
        pixels: H×W×3, uint8, read-only, RGB, row 0 at the top.
        sha256: digest of the shape and the pixels, the same however the picture came in.
        name: the file's name, or ``picture``.
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

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def keeping(self) -> Picture:
        """The same picture, which is resized once a size: for as long as it is encoded, since what it keeps takes more room than itself."""
        return replace(self, made={})

    def to_pil(self) -> Image.Image:
        """The picture as an RGB PIL image (a copy)."""
        return Image.fromarray(self.pixels)


def load(source: Any, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Picture:
    """Read one picture.

    Args:
        source: a path (str or Path), the bytes of a picture file, a PIL image, an H×W×3 uint8 array, a 3×H×W tensor
            (uint8, or float in 0…1), or a Picture.
        max_pixels: cap on height × width. Larger: bigger pictures pass; memory is about 3 bytes a pixel here and more later.
        name: how to call it; None takes the file's name.

    Returns:
        EXIF orientation applied; palette, grey, CMYK and 16-bit pictures turned into 8-bit RGB, transparency laid over
        white, the first picture of several taken. `Picture.notes` says which of these happened.

    Raises:
        PictureError: not a picture, damaged, too large, or a layout that can be read in two ways.
    """
    if isinstance(source, Picture):
        check_pixels(source.size, max_pixels, source.name)
        return source
    if isinstance(source, (str, Path)):
        return _from_path(source, max_pixels, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), max_pixels, name or "picture")
    if isinstance(source, Image.Image):
        called = name or Path(str(getattr(source, "filename", "") or "picture")).name
        if isinstance(source, ImageFile.ImageFile) and isinstance(source.fp, BufferedIOBase):  # not read yet
            container.check(source.fp, called, max_pixels)
        return _picture(*decode(source, max_pixels, called), name=called)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, name or "picture")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_tensor(source, max_pixels, name or "picture")
    raise PictureError(f"Got {type(source).__name__} for a picture. {ACCEPTED} Turn it into one of these.")


def _picture(pixels: np.ndarray, orientation: int, notes: tuple[str, ...], *, name: str, path: str | None = None) -> Picture:
    """Own copy, contiguous and read-only, so that the digest stays true."""
    owned = np.array(pixels, dtype=np.uint8, order="C", copy=True)
    owned.setflags(write=False)
    digest = hashlib.sha256(f"{owned.shape[0]}x{owned.shape[1]}x3:".encode())
    digest.update(owned.data)
    return Picture(owned, digest.hexdigest(), name, orientation, notes, path)


def _from_path(source: str | Path, max_pixels: int, name: str | None) -> Picture:
    text = str(source)
    if "://" in text or text.startswith("data:"):
        raise PictureError(f"Got the address {text[:120]!r}. {ACCEPTED} Download it first and give the file.")
    path, shown = Path(source), repr(text[:200])
    try:
        if path.is_dir():
            raise PictureError(f"Got the folder {shown}. {ACCEPTED} Name one file in it, or use `nerveseg batch` for all.")
        if not path.exists():
            raise PictureError(f"Got {shown}, which does not exist (looked in {Path.cwd()}). {ACCEPTED} Check the path.")
        if not path.is_file():
            raise PictureError(f"Got {shown}, which is not a regular file. {ACCEPTED} Read it and give the bytes.")
        if path.stat().st_size == 0:
            raise PictureError(f"Got {shown}, which is empty (0 bytes). {ACCEPTED} Copy or download it again.")
        with path.open("rb") as file:
            container.check(file, shown, max_pixels)
            return _picture(*decode(open_image(file, shown), max_pixels, shown), name=name or path.name, path=str(path.absolute()))
    except PictureError:
        raise
    except (OSError, ValueError) as error:  # no permission, a name too long, a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"Got {shown}, which cannot be read ({reason}). {ACCEPTED} Check the path and its permissions.") from error


def _from_bytes(data: bytes, max_pixels: int, name: str) -> Picture:
    if not data:
        raise PictureError(f"Got no bytes for a picture. {ACCEPTED} Give the whole content of a picture file.")
    file, where = BytesIO(data), f"{len(data)} bytes"
    container.check(file, where, max_pixels)
    return _picture(*decode(open_image(file, where), max_pixels, where), name=name)


def _from_array(array: np.ndarray, max_pixels: int, name: str) -> Picture:
    came = f"Got an array of shape {array.shape} and type {array.dtype}."
    if array.ndim != 3 or array.shape[2] != 3:
        hint = (
            "Stack grey three times, or give PIL.Image.fromarray(array)."
            if array.ndim == 2
            else "Move the colours last: np.moveaxis(array, 0, -1)."
        )
        raise PictureError(f"{came} {ACCEPTED} {hint}")
    if array.dtype != np.uint8:
        raise PictureError(f"{came} {ACCEPTED} Scale it to 0…255 and convert it with .astype(np.uint8).")
    if array.shape[0] == 3:
        raise PictureError(f"{came} It could be 3 rows or 3 colours first. Give PIL.Image.fromarray(array), which says which.")
    _check_filled(array.shape, came)
    check_pixels(array.shape[:2], max_pixels, name)
    return _picture(array, 1, (), name=name)


def _from_tensor(tensor: Any, max_pixels: int, name: str) -> Picture:
    shape = tuple(tensor.shape)
    came = f"Got a tensor of shape {shape} and type {tensor.dtype}."
    if len(shape) != 3 or shape[0] != 3:
        hint = "Give one picture at a time: tensor[0]." if len(shape) == 4 else "Move the colours first: tensor.permute(2, 0, 1)."
        raise PictureError(f"{came} {ACCEPTED} {hint}")
    if shape[2] == 3:
        raise PictureError(f"{came} It could be 3 columns or 3 colours last. Give a PIL image, which says which.")
    _check_filled(shape, came)
    check_pixels(shape[1:], max_pixels, name)
    values = tensor.detach().cpu()
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= 1.0):  # written so that NaN is refused as well
            raise PictureError(
                f"{came} Its values run from {low:g} to {high:g}. Accepted is 0…1 for floats. Undo the normalisation, or divide by 255."
            )
        values = (values.float() * 255.0).round().byte()
    elif str(values.dtype) != "torch.uint8":
        raise PictureError(f"{came} {ACCEPTED} Convert it with .to(torch.uint8).")
    return _picture(values.permute(1, 2, 0).numpy(), 1, (), name=name)


def _check_filled(shape: tuple[int, ...], came: str) -> None:
    if 0 in shape:
        raise PictureError(f"{came} It holds no pixel. Give a picture of at least 1×1.")
