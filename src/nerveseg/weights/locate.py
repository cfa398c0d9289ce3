"""Find a checkpoint: the embedded pair, a local folder, the hub's cache, or the hub itself."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.showing import brief
from nerveseg.weights import check
from nerveseg.weights.catalogue import GENERIC, Row, catalogue, find, missing, of_tensors

__all__ = ["Folder", "locate"]

_LOG = logging.getLogger(__name__)
_DIGESTED = {".json", ".txt", ".safetensors"}
_SINGLE = {".safetensors", ".ckpt"}
_CHUNK = 1 << 20


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


def locate(ref: str | Path, *, offline: bool, revision: str | None = None, kind: str | None = None) -> Folder:
    """Find the folder that a reference stands for.

    Args:
        ref: a local folder, ``"embedded:clip"`` or ``"embedded:diffusion"``, a name of the catalogue, or a hub id ``owner/name``.
        offline: take nothing from the network; the hub's local cache still counts.
        revision: hub revision; the catalogue's own where None.
        kind: one of `nerveseg.weights.catalogue.GENERIC`: check that the folder holds what that kind needs.

    Raises:
        WeightsNotFound: nothing on this machine (or, online, at any mirror) answers; says size, licence and the command that fetches.
        WeightsError: a folder is there but lacks files, holds pickles only, or is a file.
    """
    text = str(ref)
    if text.startswith("embedded:"):
        return _embedded(text)
    if text and Path(text).is_dir():
        return _checked(Folder(Path(text), text, "folder"), GENERIC.get(kind or "", ()))
    if text and Path(text).is_file():
        raise WeightsError(_single(Path(text)))
    row = find(text)
    if row is None and text.count("/") != 1:
        known = ", ".join(catalogue())
        raise WeightsNotFound(
            f"Got the weights {text!r}, which is no folder here. Accepted are a folder, a hub id owner/name, or one of {known}. "
            "Check the path, or use the recipe 'mini', whose weights come with the package."
        )
    return _from_hub(text, row, offline=offline, revision=revision, kind=kind)


def _single(path: Path) -> str:
    whole = " One file for a whole pipeline is not read: its parts have no names of their own." if path.suffix in _SINGLE else ""
    if check.pickles([path.name]):
        return check.refused(path, [path.name])
    return (
        f"Got the weights {path}, which is a file.{whole} Accepted is a folder as from_pretrained reads it. "
        "Name the folder that holds it, or convert it to that layout with diffusers' or transformers' save_pretrained."
    )


def _embedded(ref: str) -> Folder:
    row = find(ref)
    if row is None:
        names = ", ".join(name for name in catalogue() if name.startswith("embedded:"))
        raise WeightsNotFound(f"Got the weights {ref!r}. Accepted are {names}. Use one of them.")
    path = Path(str(resources("nerveseg.weights"))) / "embedded" / ref.removeprefix("embedded:")
    if not path.is_dir():
        raise WeightsNotFound(
            f"Got the weights {ref!r}, but this installation has no folder {path}. "
            "Accepted is a build of the package with the embedded pair. Reinstall nerveseg, or train the pair with 'nerveseg world train'."
        )
    return _checked(Folder(path, ref, "package", row), row.files)


def _from_hub(ref: str, row: Row | None, *, offline: bool, revision: str | None, kind: str | None) -> Folder:
    from nerveseg.weights.download import in_cache, plan

    needed = row.files if row else GENERIC.get(kind or "", ("config.json",))
    reasons: list[str] = []
    names: dict[str, None] = {}
    # Every mirror's cache is asked before the network is.
    for hub_id, wanted, path in in_cache(ref, row, revision):
        names[hub_id] = None
        lacking = None if path is None else check.lacking(path, needed)
        if path is not None and not lacking:
            return Folder(path, ref, f"hub: {hub_id} at {wanted}", row)
        reasons.append(f"{hub_id}: its cache lacks {', '.join(lacking)}" if lacking else f"{hub_id}: not there")
    if offline:
        raise WeightsNotFound(not_found(ref, row, names, tried="the hub's cache on this machine", reasons=reasons))
    found = plan(ref, revision=revision, kind=kind)
    _LOG.info("fetching %s from %s, %d bytes", ref, found.page.hub_id, found.bytes_left)
    return found.carry_out()


def not_found(ref: str, row: Row | None, ids: Iterable[str], *, tried: str, reasons: Iterable[str]) -> str:
    """What to say of weights that are nowhere: size, licence, where they were looked for and why not there, and the way out."""
    name = row.name if row else ref
    size = f"about {row.bytes / 1e9:.1f} GB, licence {row.licence}" if row else "size and licence unknown: not in the catalogue"
    return (
        f"Got the weights {ref!r} ({size}), not found in {tried} under {', '.join(ids)} ({'; '.join(dict.fromkeys(reasons))}). "
        "Accepted are a local folder, a cached checkpoint, or a reachable hub. "
        f"Fetch them with: nerveseg weights fetch {name} – or use the recipe 'mini', whose weights come with the package."
    )


def _checked(folder: Folder, needed: tuple[str, ...]) -> Folder:
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


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for name in sorted(name for name in check.contents(path) if Path(name).suffix in _DIGESTED):
        total.update(f"{name}\0".encode())
        with (path / name).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
        total.update(b"\0")
    return total.hexdigest()
