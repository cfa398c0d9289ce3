"""Find a checkpoint: the embedded pair, a local folder, the hub's cache, or the hub itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.registry import near, shown
from nerveseg.weights import check
from nerveseg.weights.catalogue import GENERIC, Row, catalogue, find
from nerveseg.weights.download import in_cache, plan
from nerveseg.weights.folder import Folder, checked, embedded, not_found, way_out

__all__ = ["Folder", "is_path", "locate", "locate_all", "on_hub"]

_LOG = logging.getLogger(__name__)
_LONGEST_ID = 96  # letters of a hub id
_SINGLE = {".safetensors", ".ckpt"}
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_A_PATH = re.compile(r"[~/.\\]|[A-Za-z]:|.*[\\\0]|.*/$|.*(?:^|/)\.\.?(?:/|$)", re.DOTALL)  # what nobody writes but for a folder


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
        return embedded(text)
    place, what = _on_disk(text)
    if what == "folder":
        return checked(Folder(place, text, "folder"), GENERIC.get(kind or "", ()))
    if what == "file":
        raise WeightsError(_single(place))
    row = find(text)
    if not on_hub(text):
        raise WeightsNotFound(_nowhere(text, place))
    return _from_hub(text, row, offline=offline, revision=revision, kind=kind)


def on_hub(ref: str) -> bool:
    """Whether a reference is a name of the catalogue or has the form of a hub id, so that something may be fetched by it."""
    return find(ref) is not None or (len(ref) <= _LONGEST_ID and _HUB_ID.fullmatch(ref) is not None)


def is_path(ref: str) -> bool:
    """Whether a reference has the form of a path, which no name and no hub id has: ``/x``, ``./x``, ``~``, ``C:/x``, ``a/../b``."""
    return find(ref) is None and _A_PATH.match(ref) is not None


def locate_all(
    refs: Mapping[str, str | Path], *, offline: bool, revision: str | None = None, asked: str | None = None
) -> dict[str, Folder]:
    """Find the folders of all networks that a recipe needs, and tell of all that are missing at once.

    Args:
        refs: kind → reference, as `locate` takes them.
        offline: take nothing from the network.
        revision: hub revision.
        asked: what ``nerveseg weights fetch`` is to be given for all of them, such as a recipe's name; None: the references.

    Raises:
        WeightsNotFound: with every network that is missing, the bytes of all, and one command. WeightsError: a folder that cannot be used.
    """
    found: dict[str, Folder] = {}
    absent: dict[str, WeightsNotFound] = {}
    for kind, ref in refs.items():
        try:
            found[kind] = locate(ref, offline=offline, revision=revision, kind=kind)
        except WeightsNotFound as error:
            if not on_hub(str(ref)):
                raise  # a path that is wrong, which nothing fetches
            absent[kind] = error
    if absent:
        names = [str(refs[kind]) for kind in absent]
        raise WeightsNotFound(_lacking(names, len(refs), list(absent.values()), offline=offline, asked=asked or " ".join(names)))
    return found


def _lacking(names: list[str], count: int, errors: list[WeightsNotFound], *, offline: bool, asked: str) -> str:
    rows = [find(name) for name in names]
    known = sum(row.bytes for row in rows if row)
    each = ", ".join(
        f"{name} ({row.bytes / 1e9:.1f} GB, licence {row.licence})" if row else f"{name} (size and licence unknown: not in the catalogue)"
        for name, row in zip(names, rows, strict=True)
    )
    total = f"{known / 1e9:.1f} GB" if all(rows) else f"over {known / 1e9:.1f} GB" if known else "of unknown size"
    whose = f"{len(names)} of the {count} networks" if count > 1 else "the network"
    tried = "the hub's cache on this machine" if offline else "the hub's cache, and the hub was asked"
    why = "; ".join(dict.fromkeys(str(error).partition(" under ")[2].partition(". Accepted")[0] for error in errors))
    return (
        f"Got {whose} that this takes in no place: {each}; {total} in all. Looked for in {tried}: {why}. Accepted are a local folder, "
        f"a cached checkpoint, or a reachable hub. {way_out(asked, offline=offline)}"
    )


def _on_disk(text: str) -> tuple[Path, str]:
    """What a reference is as a path: "folder", "file" or "nothing"."""
    try:
        place = Path(text).expanduser()
        return place, "folder" if text and place.is_dir() else "file" if text and place.is_file() else "nothing"
    except (OSError, ValueError, RuntimeError):  # longer than any name, or the home of nobody
        return Path(text), "nothing"


def _nowhere(text: str, place: Path) -> str:
    if is_path(text):
        there = next((parent for parent in place.parents if _on_disk(str(parent))[1] == "folder"), None)
        hint = f"Its part {there} is there, what follows is not" if there is not None and there != Path() else "Check the path"
        return (
            f"Got the weights {shown(text)}, and there is no such folder. Accepted are a folder as from_pretrained reads it, a hub id "
            f"owner/name, or a name of the catalogue. {hint}; names and hub ids are in: nerveseg weights list."
        )
    known = ", ".join(catalogue())
    return (
        f"Got the weights {shown(text)}, which is no folder here. Accepted are a folder, a hub id owner/name, or one of {known}. "
        f"{near(text, catalogue()) or 'Check the path'}, or use the recipe 'mini', whose weights come with the package."
    )


def _single(path: Path) -> str:
    whole = " One file for a whole pipeline is not read: its parts have no names of their own." if path.suffix in _SINGLE else ""
    if check.pickles([path.name]):
        return check.refused(path, [path.name])
    return (
        f"Got the weights {path}, which is a file.{whole} Accepted is a folder as from_pretrained reads it. "
        "Name the folder that holds it, or convert it to that layout with diffusers' or transformers' save_pretrained."
    )


def _from_hub(ref: str, row: Row | None, *, offline: bool, revision: str | None, kind: str | None) -> Folder:
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
        raise WeightsNotFound(not_found(ref, row, names, offline=True, reasons=reasons))
    found = plan(ref, revision=revision, kind=kind)
    _LOG.info("fetching %s from %s, %d bytes", ref, found.page.hub_id, found.bytes_left)
    return found.carry_out()
