"""Weights in plain folders, to be carried to a machine without network: no cache, no links, and the digest of every file beside them.

FOLDER/recipe.toml        the recipe, which names the folders beside it
FOLDER/clip-l14-336/…     each checkpoint, the files that are read of it alone
FOLDER/SHA256SUMS         as ``sha256sum -c`` and `nerveseg weights verify FOLDER` read it
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from nerveseg import parse
from nerveseg.errors import OutputError, WeightsError
from nerveseg.weights import check
from nerveseg.weights.catalogue import GENERIC
from nerveseg.weights.locate import Folder

__all__ = ["SUMS", "carry", "place_of", "stated"]

SUMS = "SHA256SUMS"
_SMALL = 16 << 20  # bytes; what is smaller and is text goes along: it may say how words are read
_TEXTS = {".json", ".txt"}
_CHUNK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})[ *]{2}(.+)")


def place_of(name: str) -> str:
    """What a checkpoint's folder is called below FOLDER.

    >>> place_of("openai/clip-vit-base-patch16"), place_of("embedded:clip")
    ('openai--clip-vit-base-patch16', 'embedded-clip')
    """
    return re.sub(r"[^\w.-]", "-", name.replace("/", "--")).strip(".") or "weights"


def carry(folders: Mapping[str, Folder], to: Path) -> dict[str, Path]:
    """Copy checkpoints into FOLDER, and write the digests of all files.

    Args:
        folders: name → where it lies now.
        to: FOLDER; made where it is missing. What is there whole is left.

    Returns:
        Name → its folder there.

    Raises:
        WeightsError: a checkpoint that is not whole. OutputError: no room, no right to write.
    """
    sums: dict[str, str] = dict(_stated(to))
    placed: dict[str, Path] = {}
    for name, folder in folders.items():
        placed[name] = to / place_of(name)
        for file in _files(folder):
            source, target = folder.path / file, placed[name] / file
            sums[f"{placed[name].name}/{file}"] = _copied(source, target)
    try:
        (to / SUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())), "utf-8")
    except OSError as error:
        raise _unwritable(to / SUMS, error) from error
    return placed


def stated(folder: Path) -> dict[str, str]:
    """File → sha256 of a checkpoint that was carried, from the list beside it; empty where there is none."""
    lead = f"{folder.name}/"
    return {file.removeprefix(lead): digest for file, digest in _stated(folder.parent).items() if file.startswith(lead)}


def _stated(place: Path) -> dict[str, str]:
    if not (place / SUMS).is_file():
        return {}
    try:
        lines = parse.text_of(place / SUMS).splitlines()
    except (OSError, ValueError) as error:
        raise WeightsError(f"Got {place / SUMS}, which cannot be read: {error}. Accepted is a list of digests. Carry it again.") from error
    return {found.group(2): found.group(1) for line in lines if (found := _LINE.fullmatch(line))}


def _files(folder: Folder) -> list[str]:
    kind = folder.row.kind if folder.row else check.kind_of(folder.path)
    needed = folder.row.files if folder.row else GENERIC.get(kind or "", ())
    read, lacking = check.used(folder.path, needed)
    if lacking:
        raise WeightsError(f"Got {folder.path} without {', '.join(lacking)}. Accepted is a whole checkpoint. Fetch it again.")
    beside = [
        name
        for name in sorted(check.contents(folder.path))
        if not needed or (Path(name).suffix in _TEXTS and ".index." not in name and (folder.path / name).stat().st_size <= _SMALL)
    ]
    return list(dict.fromkeys([*read, *beside]))


def _copied(source: Path, target: Path) -> str:
    """Copy one file, whole or not at all, and give its digest, of the copy as it was read back."""
    draft = target.with_name(f".{target.name}.part")
    try:
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, draft)
            draft.replace(target)
        total = hashlib.sha256()
        with target.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return total.hexdigest()


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Got {path}, which cannot be written ({error.strerror or error}). Accepted is a folder with room. Make room, or "
        "name another with --to."
    )
