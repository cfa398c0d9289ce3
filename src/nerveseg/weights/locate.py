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
from nerveseg.weights.catalogue import GENERIC, Row, alternatives, catalogue, find, missing

__all__ = ["Folder", "fetch", "locate"]

_LOG = logging.getLogger(__name__)
_SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "words.json")
_DIGESTED = {".json", ".txt", ".safetensors", ".bin"}
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

    @functools.cached_property
    def digest(self) -> str:
        """Sha256 over names and contents of its weight and configuration files; reads them all on first use."""
        return _digest(self.path)


def locate(ref: str | Path, *, offline: bool, revision: str | None = None, kind: str | None = None) -> Folder:
    """Find the folder that a reference stands for.

    Args:
        ref: a local folder, ``"embedded:clip"`` or ``"embedded:diffusion"``, a name of the catalogue, or a hub id ``owner/name``.
        offline: take nothing from the network; the hub's local cache still counts.
        revision: hub revision; the catalogue's own where None.
        kind: ``clip`` or ``diffusion``: check that the folder holds what that kind needs.

    Raises:
        WeightsNotFound: nothing on this machine (or, online, at any mirror) answers; says size, licence and the command that fetches.
        WeightsError: a folder is there but lacks files.
    """
    text = str(ref)
    if text.startswith("embedded:"):
        return _embedded(text)
    if text and Path(text).is_dir():
        return _checked(Folder(Path(text), text, "folder"), GENERIC.get(kind or "", ()))
    row = find(text)
    if row is None and text.count("/") != 1:
        known = ", ".join(catalogue())
        raise WeightsNotFound(
            f"Got the weights {text!r}, which is no folder here. Accepted are a folder, a hub id owner/name, or one of {known}. "
            "Check the path, or use the recipe 'mini', whose weights come with the package."
        )
    return _from_hub(text, row, offline=offline, revision=revision, kind=kind)


def fetch(name: str, *, revision: str | None = None) -> Folder:
    """Download a checkpoint of the catalogue (or any hub id) into the hub's cache and return its folder."""
    return locate(name, offline=False, revision=revision)


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
    # A hub id that is asked for by itself comes first; the catalogue's other mirrors of the same checkpoint follow.
    ids = dict.fromkeys(([ref] if "/" in ref else []) + list(row.ids if row else ()))
    wanted = revision or (row.revision if row else "main")
    needed = row.files if row else GENERIC.get(kind or "", ())
    reasons: list[str] = []
    # Every mirror's cache is asked before the network is.
    for online in (False,) if offline else (False, True):
        for hub_id in ids:
            try:
                path = _snapshot(hub_id, wanted, needed, online=online)
            except Exception as error:  # a mirror fails in many ways (gone, gated, offline, no such revision); the next one may not
                reasons.append(f"{hub_id}: {type(error).__name__}")
                continue
            return Folder(path, ref, f"hub: {hub_id} at {wanted}", row)
    raise WeightsNotFound(_not_found(ref, row, ids, offline=offline, reasons=reasons))


def _snapshot(hub_id: str, revision: str, needed: tuple[str, ...], *, online: bool) -> Path:
    from huggingface_hub import snapshot_download

    lacking = needed
    # The preferred files first; their alternatives only where a mirror lacks them.
    for choice in range(max((len(alternatives(entry)) for entry in needed), default=1)):
        patterns = [names[min(choice, len(names) - 1)] for names in map(alternatives, needed)]
        wanted = [*patterns, *_SIDE_FILES, *(f"tokenizer/{name}" for name in _SIDE_FILES)] if needed else None
        if online:
            _LOG.info("fetching %s at %s", hub_id, revision)
        path = Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted, local_files_only=not online))
        lacking = missing(needed, _contents(path))
        if not lacking:
            return path
    raise WeightsError(f"Got {hub_id} without {', '.join(lacking)}. All are needed. Try another mirror.")


def _not_found(ref: str, row: Row | None, ids: Iterable[str], *, offline: bool, reasons: list[str]) -> str:
    size = f"about {row.bytes / 1e9:.1f} GB, licence {row.licence}" if row else "size and licence unknown: not in the catalogue"
    tried = "the hub's cache on this machine" if offline else "the hub's cache and the hub"
    name = row.name if row else ref
    why = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    return (
        f"Got the weights {ref!r} ({size}), not found in {tried} under {', '.join(ids)}{why}. "
        "Accepted are a local folder, a cached checkpoint, or a reachable hub. "
        f"Fetch them with: nerveseg weights fetch {name} – or use the recipe 'mini', whose weights come with the package."
    )


def _checked(folder: Folder, needed: tuple[str, ...]) -> Folder:
    lacking = missing(needed, _contents(folder.path))
    if lacking:
        raise WeightsError(
            f"Got the folder {folder.path} without {', '.join(lacking)}. "
            "Accepted is a folder as from_pretrained reads it, with every one of them. Complete it, or name another folder."
        )
    return folder


def _contents(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for name in sorted(name for name in _contents(path) if Path(name).suffix in _DIGESTED):
        total.update(f"{name}\0".encode())
        with (path / name).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
        total.update(b"\0")
    return total.hexdigest()
