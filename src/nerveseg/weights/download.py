"""Download a checkpoint: first a plan that knows every byte, then the download, then its digests."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.reprs import brief
from nerveseg.weights import check, hub
from nerveseg.weights.catalogue import GENERIC, Row, alternatives, chosen, find, forms, missing, of_tensors
from nerveseg.weights.folder import Folder, embedded, not_found

__all__ = ["Plan", "fetch", "in_cache", "plan", "present"]

_SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "words.json", "pictures.safetensors")
_OTHERS = ("config.json", "model.safetensors | diffusion_pytorch_model.safetensors")
_UNTOUCHED = ("merges.txt", "vocab.json", "tokenizer.json")


@dataclass(frozen=True)
class Plan:
    """What a download will bring.

    Attributes:
        name: what was asked for.
        row: its row of the catalogue, where there is one.
        page: the mirror that answered.
        files: what is taken of it, and nothing else.
        bytes: their size.
        bytes_left: what of it is not on this machine yet.
    """

    name: str
    row: Row | None
    page: hub.Page
    files: tuple[str, ...]
    bytes: int
    bytes_left: int

    __repr__ = brief

    def carry_out(self, *, said: Callable[[int], None] = lambda _: None) -> Folder:
        """Download, and hold every file to its size and to the digests that are known.

        Args:
            said: told of the bytes as they arrive, of small files all at once.

        Raises:
            WeightsError: a download that was cut off (what came is kept and gone on with), or a file with a wrong digest.
        """
        _room(self)
        try:
            path = hub.download(self.page, self.files, said=said)
        except WeightsError:
            raise
        except Exception as error:  # the network fails in many ways, and the libraries under the hub's client change
            raise WeightsError(
                f"Got no more of {self.name} from {self.page.hub_id}: {type(error).__name__}: {_short(error)}. "
                "Accepted is a download that comes to its end. Fetch it again: it goes on where it was cut off."
            ) from error
        for name, digest in (self.row.digests if self.row else {}).items():
            if (path / name).is_file() and (found := check.wrong(path / name, digest)):
                raise WeightsError(
                    f"Got {name} of {self.page.hub_id} with the sha256 {found}. Accepted is {digest}, which the catalogue states. "
                    f"Do not use it: delete {path} and tell where it came from."
                )
        if lacking := check.lacking(path, self.row.files if self.row else ()):
            raise WeightsError(f"Got {self.page.hub_id} without {', '.join(lacking)}. All are needed. Fetch it again.")
        return Folder(path, self.name, f"hub: {self.page.hub_id} at {self.page.revision}", self.row)


def fetch(name: str, *, revision: str | None = None, half: bool = False, kind: str | None = None) -> Folder:
    """Download a checkpoint of the catalogue (or any hub id) into the hub's cache and return its folder.

    Args:
        name: a name of the catalogue or a hub id.
        revision: hub revision; the catalogue's own where None.
        half: prefer the float16 files where a mirror has them: half the bytes.
        kind: what a hub id outside the catalogue holds; guessed from its files where None.
    """
    if folder := present(name, revision=revision, half=half):
        return folder
    return plan(name, revision=revision, half=half, kind=kind).carry_out()


def present(name: str, *, revision: str | None = None, half: bool = False) -> Folder | None:
    """The checkpoint in the hub's cache in the form asked for, if it is there whole. Never asks the network."""
    row = find(name)
    if row is not None and not row.ids:
        return embedded(name)
    if row is None:
        return None
    for hub_id, wanted, path in in_cache(name, row, revision):
        if path is not None and not check.lacking(path, row.files) and _preferred(check.contents(path), row.files, half=half):
            return Folder(path, name, f"hub: {hub_id} at {wanted}", row)
    return None


def plan(name: str, *, revision: str | None = None, half: bool = False, kind: str | None = None) -> Plan:
    """Ask the mirrors of a checkpoint in order, and say what a download from the first that has everything would bring.

    Raises:
        WeightsNotFound: no mirror has it, with each one's reason.
    """
    row = find(name)
    reasons: list[str] = []
    ids = tuple(_ids_of(name, row, revision))
    for hub_id, wanted in ids:
        try:
            found, files = _answer(hub_id, wanted, row.files if row else GENERIC.get(kind or "", ()), half=half)
        except WeightsError as error:
            reasons.append(f"{hub_id}: {error}")
            continue
        except Exception as error:  # a mirror fails in many ways (gone, gated, offline, no such revision); the next one may not
            reasons.append(f"{hub_id}: {type(error).__name__}")
            continue
        total = sum(found.files[file].bytes for file in files)
        return Plan(name, row, found, files, total, total - sum(hub.partial(found, file) for file in files))
    raise WeightsNotFound(not_found(name, row, [hub_id for hub_id, _ in ids], offline=False, reasons=reasons))


def _ids_of(name: str, row: Row | None, revision: str | None) -> Iterator[tuple[str, str]]:
    """Hub ids to try in order, each with its revision; an id that is asked for by itself comes first, its other mirrors follow."""
    given = [name] if "/" in name else []
    for hub_id in dict.fromkeys([*given, *(row.ids if row else ())]):
        yield hub_id, revision or (row.revision_of(hub_id) if row else "main")


def in_cache(name: str, row: Row | None, revision: str | None) -> Iterator[tuple[str, str, Path | None]]:
    """The same with the folder of the hub's cache, None where there is none; what was taken in place of pickles comes after its page."""
    for hub_id, wanted in _ids_of(name, row, revision):
        yield hub_id, wanted, hub.cached(hub_id, wanted)
        if revision is None and (instead := hub.remembered(hub_id)):
            yield hub_id, instead, hub.cached(hub_id, instead)


def _answer(hub_id: str, revision: str, needed: tuple[str, ...], *, half: bool) -> tuple[hub.Page, tuple[str, ...]]:
    found = hub.page(hub_id, revision)
    files = _wanted(found.files, needed, half=half)
    if files is not None:
        return found, files
    absent = missing(needed or _OTHERS, found.files)
    held = check.pickles(found.files)
    if not held or not any(map(of_tensors, absent)):
        raise WeightsError(f"lacks {', '.join(absent)}")
    # Old pages hold pickles alone; the hub's bot offers most of them as safetensors in a pull request, whose base is that page.
    offered = hub.converted(hub_id)
    if offered is not None:
        beside = hub.page(hub_id, offered)
        files = _wanted(beside.files, needed, half=half)
        if files is not None:
            return dataclasses.replace(beside, converted=True), files
    raise WeightsError(check.refused("a page", held))


def _wanted(files: Mapping[str, hub.Remote], needed: tuple[str, ...], *, half: bool) -> tuple[str, ...] | None:
    """The files to take, or None where some that are needed are not there."""
    if not needed:
        needed = GENERIC["diffusion"] if "unet/config.json" in files else (*_OTHERS, *(name for name in _UNTOUCHED if name in files))
    if missing(needed, files):
        return None
    beside = [name for side in _SIDE_FILES for name in (side, f"tokenizer/{side}") if name in files]
    return tuple(dict.fromkeys([*(name for entry in needed for name in chosen(entry, files, half=half)), *beside]))


def _preferred(names: frozenset[str], needed: tuple[str, ...], *, half: bool) -> bool:
    """Whether the weights lie in the form asked for: full, or float16."""
    firsts = [forms(name, half=half)[:2] for entry in needed if of_tensors(entry) for name in alternatives(entry)[:1]]
    return all(any(name in names for name in first) for first in firsts)


def _room(found: Plan) -> None:
    place = Path(hub.cache_folder())
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < found.bytes_left:
        raise WeightsError(
            f"Got {free / 1e9:.1f} GB of room in {place}, and {found.name} needs {found.bytes_left / 1e9:.1f} GB more. "
            "Accepted is a disk with room for all. Free some, take --half, or set HF_HUB_CACHE to another disk."
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
