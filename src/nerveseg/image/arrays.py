"""Read arrays that another program computed for an image (.npz or .safetensors), and the names of their classes."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nerveseg.errors import SavedError, ShapeError
from nerveseg.parse import from_json
from nerveseg.reprs import brief

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ENDINGS", "MOST", "Saved", "beside", "classes_first", "read"]

ENDINGS = (".npz", ".safetensors")
MOST = 4 << 30
"""Bytes that the arrays read of one file may take as float32: a thousand classes on a million cells."""

_LABELS = "labels"
_ROUND = 0.02  # how far half precision takes sums of probabilities from 1
_FLOAT = 4  # bytes
_MOST_TEXT = 64 << 20  # bytes of the names of classes
_DEFLATE = 1100  # bytes that one byte of a deflated member can stand for, at most
_PIECE = 1 << 20
_SHOWN = 20  # names of a file's arrays that a message lists
_BESIDE = (*ENDINGS, ".scores.safetensors")  # the last is what the writer `scores` calls its files


@dataclass(frozen=True, eq=False)
class Saved:
    """The arrays of one file.

    Attributes:
        path: the file.
        arrays: name → tensor, on the CPU, as it was stored; those that were asked for.
        labels: names of the classes, from the array ``labels`` of an .npz or the JSON list ``labels`` in the metadata of a
            .safetensors; empty where the file names none.
        names: of all arrays that the file holds.
    """

    path: Path
    arrays: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    __repr__ = brief

    def floats(self, name: str, axes: str) -> Tensor:
        """One array as float32, checked.

        Args:
            name: of the array; a file with one array only may call it anything.
            axes: its axes, for the message, as "K, h, w"; also says how many there are.

        Raises:
            SavedError: no such array. ShapeError: other axes, an empty one, no numbers, or numbers that are not finite.
        """
        held = self.arrays
        if name not in held and len(self.names) != 1:
            raise SavedError(
                f"Got {self.path} with the arrays {', '.join(sorted(self.names)[:_SHOWN]) or 'none'}. "
                f"Accepted is one called {name!r}. Rename it, or say its name."
            )
        found = held[name] if name in held else next(iter(held.values()))
        came = f"Got {self.path} with {name!r} of shape {tuple(found.shape)} in {str(found.dtype).removeprefix('torch.')}"
        if found.ndim != axes.count(",") + 1 or 0 in found.shape or found.is_complex() or str(found.dtype) == "torch.bool":
            raise ShapeError(f"{came}. Accepted are numbers of shape ({axes}), no axis of length 0. Save it in that layout.")
        values = found.float()
        if not bool(values.isfinite().all()):
            raise ShapeError(f"{came} and values that are not finite. Accepted are finite numbers. Mend the program that made them.")
        return values


def classes_first(values: Tensor, size: tuple[int, int] | None, count: int | None, came: str) -> Tensor:
    """Scores with the classes first, whichever end of (K, h, w) or (h, w, K) they came at.

    What decides, in this order: an end that is ``count`` long; the other two axes being the image's size; values that sum to 1 along
    one end. Where nothing speaks for the last axis, classes are first, as documented.

    Args:
        values: three axes.
        size: (height, width) of the image, or None.
        count: how many classes there are, or None where nobody says.
        came: for the message: what was given.

    Raises:
        ShapeError: either reading fits the image, and nothing tells which is meant.
    """
    a, b, c = values.shape
    fits = (b, c) == size, (a, b) == size
    for first, last in ((a == count, c == count), fits):
        if first != last:
            return values if first else values.movedim(-1, 0)
    first, last = (bool((values.double().sum(axis) - 1.0).abs().max() < _ROUND) for axis in (0, 2))
    if all(fits) and first == last:
        raise ShapeError(
            f"{came}, whose classes could be first or last for an image {size[0] if size else a}×{size[1] if size else b}. Accepted is "
            "(K, h, w). Give the scores on another grid, or probabilities that sum to 1 over the classes."
        )
    return values.movedim(-1, 0) if last and not first else values


def beside(path: str | Path, stem: str) -> Path:
    """The file for one image: ``path`` itself where it is a file, or that of the image's name where it is a folder.

    The name is STEM.npz, STEM.safetensors or STEM.scores.safetensors.

    Raises:
        SavedError: there is none, or there are several.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        return place
    found = [place / f"{stem}{ending}" for ending in _BESIDE if os.path.isfile(place / f"{stem}{ending}")]  # noqa: PTH113 (a name may be too long)
    if len(found) != 1:
        wanted = " or ".join(f"{stem}{ending}" for ending in _BESIDE)
        raise SavedError(
            f"Got the folder {place} with {'more than one' if found else 'neither'} of {wanted}. Accepted is one of them for this image. "
            f"{'Take all but one away' if found else 'Put it there, or name another folder or the file itself'}."
        )
    return found[0]


def read(path: str | Path, *wanted: str) -> Saved:
    """Read arrays of a file by name, and the names of its classes; nothing else of it is read.

    Sizes are held to `MOST` by what the file says of them, before a byte of an array is. Pickles are never loaded.

    Args:
        path: the file.
        wanted: names; those that are not there are left out, and a file with one array gives it whatever its name. None given: all.

    Raises:
        SavedError: no such file, another ending, a file that is damaged, holds objects under a wanted name, or arrays that are too large.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise SavedError(f"Got {path}. Accepted are files ending in {' or '.join(ENDINGS)}. Save the arrays in one of these.")
    if not os.path.isfile(path):  # noqa: PTH113 (a name may be too long)
        raise SavedError(f"Got {path}, which is no file here. Accepted is one that is. Check the path.")
    try:
        return _from_npz(path, wanted) if path.suffix.lower() == ".npz" else _from_safetensors(path, wanted)
    except SavedError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise SavedError(f"Got {path}, which cannot be read ({error}). Accepted is a whole {path.suffix} file. Write it again.") from error


def _from_npz(path: Path, wanted: tuple[str, ...]) -> Saved:
    import numpy as np
    import torch

    if not zipfile.is_zipfile(path):
        raise SavedError(f"Got {path}, which is no .npz archive. Accepted is what numpy.savez writes. Write it again.")
    with zipfile.ZipFile(path) as archive:
        members = _members(archive, path)
        heads = {name: _npy_head(archive, member) for name, member in members.items()}
        names = tuple(name for name, head in heads.items() if not (name == _LABELS and head.kind in "US"))
        chosen = _chosen(names, wanted)
        for name in chosen:
            if heads[name].kind not in "fiub":
                raise SavedError(
                    f"Got {path} whose array {name!r} cannot be read (it is of {heads[name].kind!r}). Accepted are plain numbers and "
                    "strings; pickled objects are never loaded, since they can run code. Save it with a number or string type."
                )
        _check_size(path, {name: math.prod(heads[name].shape) for name in chosen})
        arrays = {name: torch.from_numpy(np.array(_native(_npy(archive, members[name], heads[name], path)))) for name in chosen}
        labels: tuple[str, ...] = ()
        if _LABELS in heads and _LABELS not in names:
            if members[_LABELS].file_size > _MOST_TEXT:
                raise SavedError(f"Got {path} with names of {members[_LABELS].file_size:,} bytes. Accepted are {_MOST_TEXT:,}. Cut them.")
            labels = tuple(_text(entry) for entry in np.atleast_1d(_npy(archive, members[_LABELS], heads[_LABELS], path)).ravel().tolist())
    return Saved(path, MappingProxyType(arrays), labels, names)


@dataclass(frozen=True)
class _Head:
    """What an .npy says before its numbers: ``kind`` is NumPy's letter, O for objects; ``length``: bytes of the head itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: Any
    kind: str
    length: int


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise SavedError(f"Got {path} with {name!r} twice. Accepted is each array once. Write it again.")
        found[name] = info
    return found


def _npy_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Head:
    from numpy.lib import format as npy

    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        return _Head(shape, fortran, dtype, "O" if dtype.hasobject else dtype.kind, file.tell())


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, head: _Head, path: Path) -> Any:
    """The array, read piece by piece into the room that its head asks for, once the archive is known to hold as much."""
    import numpy as np

    bytes_ = math.prod(head.shape) * head.dtype.itemsize
    if member.file_size != head.length + bytes_ or member.file_size > _DEFLATE * (member.compress_size + 1):
        raise SavedError(
            f"Got {path}, whose {member.filename!r} says {bytes_:,} bytes and holds others. Accepted is a whole file. Write it again."
        )
    held = np.empty(bytes_, np.uint8)
    with archive.open(member) as file:
        file.read(head.length)
        view, at = held.data, 0
        while at < bytes_ and (piece := file.read(min(_PIECE, bytes_ - at))):
            view[at : at + len(piece)] = piece
            at += len(piece)
        if at < bytes_ or file.read(1):
            raise SavedError(f"Got {path}, whose {member.filename!r} ends early. Accepted is a whole file. Write it again.")
    return held.view(head.dtype).reshape(head.shape, order="F" if head.fortran else "C")


def _from_safetensors(path: Path, wanted: tuple[str, ...]) -> Saved:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as archive:
        names = tuple(archive.keys())
        chosen = _chosen(names, wanted)
        _check_size(path, {name: math.prod(archive.get_slice(name).get_shape()) for name in chosen})
        arrays = {name: archive.get_tensor(name) for name in chosen}
        said = (archive.metadata() or {}).get(_LABELS)
    labels = from_json(said) if said else []
    if not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise SavedError(f"Got {path} whose metadata says labels = {said!r}. Accepted is a JSON list of strings. Write it as one.")
    return Saved(path, MappingProxyType(arrays), tuple(labels), names)


def _chosen(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(name for name in names if not wanted or name in wanted)
    return found or (names if len(names) == 1 else ())


def _check_size(path: Path, numbers: Mapping[str, int]) -> None:
    bytes_ = _FLOAT * sum(numbers.values())
    if bytes_ > MOST:
        named = ", ".join(map(repr, numbers))
        raise SavedError(
            f"Got {path}, whose {named} {'takes' if len(numbers) == 1 else 'take'} {bytes_:,} bytes in float32. Accepted are {MOST:,}. "
            "Save them on a smaller grid, or fewer of them."
        )


def _native(array: Any) -> Any:
    """Unsigned and foreign-endian numbers are none of torch's."""
    if array.dtype.kind == "f":
        return array.astype("f8" if array.dtype.itemsize > 4 else "f4", copy=False)
    return array if array.dtype.kind == "b" else array.astype("i8")


def _text(entry: str | bytes) -> str:
    return entry.decode("utf-8") if isinstance(entry, bytes) else entry
