"""What another program computed for a picture: named arrays in .npz or .safetensors files, and the names of their classes."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nerveseg.errors import SavedError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ENDINGS", "Saved", "beside", "read"]

ENDINGS = (".npz", ".safetensors")
_LABELS = "labels"
_BESIDE = (*ENDINGS, ".scores.safetensors")  # the last is what the writer `scores` calls its files


@dataclass(frozen=True, eq=False)
class Saved:
    """The arrays of one file.

    Attributes:
        path: the file.
        arrays: name → tensor, on the CPU, as it was stored.
        labels: names of the classes, from the array ``labels`` of an .npz or the JSON list ``labels`` in the metadata of a
            .safetensors; empty where the file names none.
    """

    path: Path
    arrays: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()

    def floats(self, name: str, axes: str) -> Tensor:
        """One array as float32, checked.

        Args:
            name: of the array; a file with one array only may call it anything.
            axes: its axes, for the message, as "K, h, w"; also says how many there are.

        Raises:
            SavedError: no such array. ShapeError: other axes, an empty one, no numbers, or numbers that are not finite.
        """
        held = self.arrays
        if name not in held and len(held) != 1:
            raise SavedError(
                f"Got {self.path} with the arrays {', '.join(sorted(held)) or 'none'}. "
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


def beside(path: str | Path, stem: str) -> Path:
    """The file for one picture: ``path`` itself where it is a file, or that of the picture's name where it is a folder.

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
            f"Got the folder {place} with {'more than one' if found else 'neither'} of {wanted}. Accepted is one of them for this picture. "
            f"{'Take all but one away' if found else 'Put it there, or name another folder or the file itself'}."
        )
    return found[0]


def read(path: str | Path) -> Saved:
    """Read every array of a file. Pickles are never loaded: an .npz whose arrays hold Python objects is refused.

    Raises:
        SavedError: no such file, another ending, or a file that is damaged or holds objects.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise SavedError(f"Got {path}. Accepted are files ending in {' or '.join(ENDINGS)}. Save the arrays in one of these.")
    if not path.is_file():
        raise SavedError(f"Got {path}, which is no file here. Accepted is one that is. Check the path.")
    try:
        return _from_npz(path) if path.suffix.lower() == ".npz" else _from_safetensors(path)
    except SavedError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise SavedError(f"Got {path}, which cannot be read ({error}). Accepted is a whole {path.suffix} file. Write it again.") from error


def _from_npz(path: Path) -> Saved:
    import numpy as np
    import torch

    if not zipfile.is_zipfile(path):
        raise SavedError(f"Got {path}, which is no .npz archive. Accepted is what numpy.savez writes. Write it again.")
    arrays: dict[str, Tensor] = {}
    labels: tuple[str, ...] = ()
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                array = archive[name]
            except ValueError as error:
                raise SavedError(
                    f"Got {path} whose array {name!r} cannot be read ({error}). Accepted are plain numbers and strings; "
                    "pickled objects are never loaded, since they can run code. Save it with a number or string type."
                ) from error
            if name == _LABELS and array.dtype.kind in "US":
                labels = tuple(_text(entry) for entry in np.atleast_1d(array).ravel().tolist())
            elif array.dtype.kind in "fiub":
                arrays[name] = torch.from_numpy(np.array(_native(array)))
    return Saved(path, MappingProxyType(arrays), labels)


def _from_safetensors(path: Path) -> Saved:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as archive:
        arrays = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118  it is no mapping
        said = (archive.metadata() or {}).get(_LABELS)
    labels = json.loads(said) if said else []
    if not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise SavedError(f"Got {path} whose metadata says labels = {said!r}. Accepted is a JSON list of strings. Write it as one.")
    return Saved(path, MappingProxyType(arrays), tuple(labels))


def _native(array: Any) -> Any:
    """Unsigned and foreign-endian numbers are none of torch's."""
    if array.dtype.kind == "f":
        return array.astype("f8" if array.dtype.itemsize > 4 else "f4")
    return array if array.dtype.kind == "b" else array.astype("i8")


def _text(entry: str | bytes) -> str:
    return entry.decode("utf-8") if isinstance(entry, bytes) else entry
