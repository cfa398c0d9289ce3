"""Arrays and tensors → upright RGB: the axis of 1, 3 or 4 holds the colours, the range of the values says their scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerveseg.errors import ImageError
from nerveseg.image.decode import check_pixels

__all__ = ["ACCEPTED", "from_array", "from_tensor"]

ACCEPTED = (
    "Accepted are a path, bytes, an open binary file, a PIL image, or an array or tensor of one image: H×W, H×W×C or C×H×W with C = 1, 3 "
    "or 4, uint8, or float in 0…1 or 0…255."
)
_CHANNELS = (1, 3, 4)
_CLOSE = 1.001  # above 1 by rounding, as resized images are
_DIM = 16.0  # floats up to here are neither surely 0…1 nor surely 0…255

Read = tuple[UInt8[np.ndarray, "H W 3"], tuple[str, ...]]


def from_array(array: np.ndarray, max_pixels: int, name: str) -> Read:
    """Read a NumPy array.

    Args:
        array: H×W, H×W×C or C×H×W, or one of these as a batch of one; C is 1 (grey), 3 (RGB) or 4 (RGBA, laid over white). uint8, bool
            (white where true), whole numbers within 0…255, or floats in 0…1 or 0…255.
        max_pixels: cap on height × width.
        name: for messages.

    Returns:
        H×W×3 pixels, and notes on what was changed.

    Raises:
        ImageError: several images, an axis that can be read in two ways, or values whose scale cannot be told.
    """
    came = f"Got an array of shape {array.shape} and type {array.dtype}."
    if array.dtype.kind not in "uifb":
        raise ImageError(f"{came} {ACCEPTED} Convert it to numbers, as np.asarray(image, dtype=np.uint8).")
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ImageError(f"{came} Some of its values are masked. Accepted are whole images. Fill them with array.filled(0).")
    return _read(np.asarray(array), came, "array", max_pixels, name)


def from_tensor(tensor: Any, max_pixels: int, name: str) -> Read:
    """Read a torch tensor, as `from_array`; where both ends could be the colours, the first is for tensors what the last is for arrays."""
    if tensor.is_nested:
        raise ImageError(f"Got a nested tensor. {ACCEPTED} Give one image at a time.")
    came = f"Got a tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}."
    if str(tensor.layout) != "torch.strided" or tensor.device.type == "meta" or tensor.is_complex() or tensor.is_quantized:
        raise ImageError(f"{came} It is on {tensor.device}, laid out as {tensor.layout}. {ACCEPTED} Make it a plain one of real numbers.")
    values = tensor.detach().cpu()
    values = values.float() if values.is_floating_point() else values
    return _read(values.resolve_neg().numpy(), came, "tensor", max_pixels, name)


def _read(values: np.ndarray, came: str, what: str, max_pixels: int, name: str) -> Read:
    if 0 in values.shape:
        raise ImageError(f"{came} It holds no pixel. Give an image of at least 1×1.")
    if values.ndim == 4:
        if values.shape[0] != 1:
            raise ImageError(f"{came} It looks like {values.shape[0]} images. {ACCEPTED} Give one, {what}[0], or all as list({what}).")
        values = values[0]
    if values.ndim not in (2, 3):
        raise ImageError(f"{came} {ACCEPTED} Give height and width, and colours first or last.")
    values = values[:, :, None] if values.ndim == 2 else _colours_last(values, came, what)
    check_pixels((values.shape[0], values.shape[1]), max_pixels, name)
    levels, notes = _levels(values, came)
    colours = levels.shape[2]
    if colours == 3:
        return levels, notes
    if colours == 1:
        return np.repeat(levels, 3, axis=2), (*notes, "Grey was turned into RGB.")
    if levels[:, :, 3].min() == 255:
        return levels[:, :, :3], notes
    white = Image.new("RGB", (levels.shape[1], levels.shape[0]), "white")
    layer = Image.fromarray(np.ascontiguousarray(levels))
    white.paste(layer, mask=layer.getchannel("A"))
    return np.asarray(white), (*notes, "Transparency was laid over white.")


def _colours_last(values: np.ndarray, came: str, what: str) -> np.ndarray:
    """H×W×C, whichever end the colours are at. An array has them last and a tensor first, unless only the other end can be colours."""
    first, last = values.shape[0] in _CHANNELS, values.shape[2] in _CHANNELS
    if not (first or last):
        hint = f"{what}[:3]" if values.shape[0] < values.shape[2] else f"{what}[..., :3]"
        raise ImageError(f"{came} Neither its first nor its last axis is 1, 3 or 4 long. {ACCEPTED} Take three bands, {hint}, or one.")
    if first and last:
        own, other = (values.shape[2], values.shape[0]) if what == "array" else (values.shape[0], values.shape[2])
        # What the documented end says holds, unless the other end says colours as plainly.
        if other == 3 or (own != 3 and other == 4):
            raise ImageError(
                f"{came} Its colours could be first or last, at {values.shape[0]} or {values.shape[2]}. {ACCEPTED} "
                "Give a PIL image, which says which."
            )
        first = what == "tensor"
    return np.moveaxis(values, 0, -1) if first else values


def _levels(values: np.ndarray, came: str) -> tuple[UInt8[np.ndarray, "H W C"], tuple[str, ...]]:
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255), ("Booleans were turned into black and white.",)
    low, high = float(values.min()), float(values.max())
    said = f"{came} Its values run from {low:g} to {high:g}."
    if values.dtype.kind in "ui":
        if values.dtype.itemsize > 1 and values.dtype.kind == "u" and values.dtype.itemsize < 4:  # 16 bits: whose range nothing says
            raise ImageError(
                f"{said} Accepted are 8 bits, for nothing says how many of 16 are used. Write (array / 257).round().astype('uint8') for "
                "0…65535, or (array * (255 / array.max())).astype('uint8') for a smaller range."
            )
        if not (low >= 0 and high <= 255):
            raise ImageError(f"{said} Accepted are whole numbers in 0…255. Scale them, and convert with .astype(np.uint8).")
        return values.astype(np.uint8), ()
    if not (low >= -(_CLOSE - 1.0) and high <= 255.0):  # written so that NaN is refused as well
        hint = (
            "Undo the normalisation, as (x + 1) / 2 for -1…1" if low < 0 else "Divide by the largest value, or replace what is not finite"
        )
        raise ImageError(f"{said} Accepted is 0…1 or 0…255 for floats. {hint}.")
    if _CLOSE < high <= _DIM:
        raise ImageError(f"{said} Accepted is 0…1 or 0…255 for floats, and this could be either. Clip it to 0…1, or give uint8.")
    scale, notes = (255.0, ()) if high <= _CLOSE else (1.0, (f"Floats up to {high:g} were read as 0…255.",))
    return np.rint(np.clip(values.astype(np.float64) * scale, 0.0, 255.0)).astype(np.uint8), notes
