"""A checkpoint's folder on this machine: whether it is complete, its digest, and the error for one that is not found."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.reprs import brief
from nerveseg.weights import check
from nerveseg.weights.catalogue import Row, catalogue, find, missing, of_tensors

__all__ = ["Folder", "checked", "embedded", "not_found", "way_out"]

_DIGESTED = {".json", ".txt", ".safetensors"}
_CHUNK = 1 << 20
_CARRY = "docs/offline.md says how weights are carried to a machine without network"


@dataclass(frozen=True)
class Folder:
    """A checkpoint on this machine.

    Attributes:
        path: the folder that holds it.
        name: what was asked for.
        source: ``package``, ``folder``, or ``hub: ID at REVISION``.
        row: its row of the catalogue, where there is one.
    """

    path: Path
    name: str
    source: str
    row: Row | None = None

    __repr__ = brief

    @functools.cached_property
    def digest(self) -> str:
        """Sha256 over names and contents of its weight and configuration files; reads them all on first use."""
        return _digest(self.path)

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum((self.path / name).stat().st_size for name in check.contents(self.path))


def embedded(ref: str) -> Folder:
    """A checkpoint that comes with the package, by its name.

    Raises:
        WeightsNotFound: no such name, or this build is without it.
    """
    row = find(ref)
    if row is None:
        names = ", ".join(name for name in catalogue() if name.startswith("embedded:"))
        raise WeightsNotFound(f"Got the weights {ref!r}. Accepted are {names}. Use one of them.")
    path = Path(str(resources("nerveseg.weights"))) / "embedded" / ref.removeprefix("embedded:")
    if not path.is_dir():
        raise WeightsNotFound(
            f"Got the weights {ref!r}, but this installation has no folder {path}. "
            "Accepted is a build of the package with the embedded pair. Reinstall nerveseg, or train it: 'nerveseg synthetic train'."
        )
    return checked(Folder(path, ref, "package", row), row.files)


def checked(folder: Folder, needed: tuple[str, ...]) -> Folder:
    """The folder, if it holds all the files that are needed.

    Raises:
        WeightsError: it lacks some, or holds them as pickles.
    """
    lacking = check.lacking(folder.path, needed)
    if not lacking:
        return folder
    found = check.pickles(check.contents(folder.path))
    if found and any(map(of_tensors, missing(needed, check.contents(folder.path)))):
        raise WeightsError(check.refused(f"the folder {folder.path}", found))
    raise WeightsError(
        f"Got the folder {folder.path} without {', '.join(lacking)}. "
        "Accepted is a folder as from_pretrained reads it, with every one of them. Complete it, or name another folder."
    )


def not_found(ref: str, row: Row | None, ids: Iterable[str], *, offline: bool, reasons: Iterable[str]) -> str:
    """What to say of weights that are nowhere: size, licence, where they were looked for and why not there, and the way out."""
    name = row.name if row else ref
    tried = "the hub's cache on this machine" if offline else "the hub's cache and the hub"
    size = f"about {row.bytes / 1e9:.1f} GB, licence {row.licence}" if row else "size and licence unknown: not in the catalogue"
    return (
        f"Got the weights {ref!r} ({size}), not found in {tried} under {', '.join(ids)} ({'; '.join(dict.fromkeys(reasons))}). "
        "Accepted are a local folder, a cached checkpoint, or a reachable hub. "
        f"{way_out(name, offline=offline)}"
    )


def way_out(asked: str, *, offline: bool) -> str:
    """One command that works from where the reader is: not that which has just failed."""
    mini = "The recipe 'mini' needs no download, and knows drawn scenes only."
    if offline:
        return f"Fetch all with: nerveseg weights fetch {asked} – without --offline, on a machine with network; {_CARRY}. {mini}"
    return (
        f"If this machine has a network, check it and HF_ENDPOINT, then give: nerveseg weights fetch {asked}. If it has none, "
        f"fetch them on one that has with: nerveseg weights fetch {asked} --to FOLDER, and carry FOLDER here; {_CARRY}. {mini}"
    )


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for name in sorted(name for name in check.contents(path) if Path(name).suffix in _DIGESTED):
        total.update(f"{name}\0".encode())
        with (path / name).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
        total.update(b"\0")
    return total.hexdigest()
