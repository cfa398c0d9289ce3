"""Export weights into plain folders with the digest of every file, to carry them to a machine without a network.

FOLDER/recipe.toml        the recipe, which names the folders beside it
FOLDER/clip-l14-336/…     each checkpoint, the files that are read of it alone
FOLDER/SHA256SUMS         as ``sha256sum -c`` and `nerveseg weights verify FOLDER` read it
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from nerveseg import outputs, parse
from nerveseg.errors import OutputError, WeightsError
from nerveseg.weights import check
from nerveseg.weights.catalogue import GENERIC
from nerveseg.weights.folder import Folder

__all__ = ["SUMS", "carry", "place_of", "stated"]

SUMS = "SHA256SUMS"
_SMALL = 16 << 20  # bytes; what is smaller and is text goes along: it may say how words are read
_TEXTS = {".json", ".txt"}
_LINE = re.compile(r"([0-9a-f]{64})[ *]{2}(.+)")


def place_of(name: str) -> str:
    """What a checkpoint's folder is called below FOLDER.

    >>> place_of("openai/clip-vit-base-patch16"), place_of("embedded:clip")
    ('openai--clip-vit-base-patch16', 'embedded-clip')
    """
    return re.sub(r"[^\w.-]", "-", name.replace("/", "--")).strip(".") or "weights"


def carry(folders: Mapping[str, Folder], to: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Copy checkpoints into FOLDER, and write the digests of all files.

    Args:
        folders: name → where it lies now.
        to: FOLDER; made where it is missing. What is there whole is left, and what an earlier call put there may be replaced.
        overwrite: replace other files that are there.

    Returns:
        Name → its folder there.

    Raises:
        WeightsError: a checkpoint that is not whole. OutputError: no room, no right to write, or another file in the way.
    """
    sums: dict[str, str] = dict(_stated(to))
    placed: dict[str, Path] = {}
    with outputs.keeping(outputs.Inputs(), overwrite=overwrite, ours=(to / SUMS, *(to / file for file in sums))):
        for name, folder in folders.items():
            placed[name] = to / place_of(name)
            for file in _files(folder):
                sums[f"{placed[name].name}/{file}"] = _copied(folder.path / file, placed[name] / file)
        _put(to / SUMS, lambda draft: draft.write_text("".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())), "utf-8"))
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
    found = [_LINE.fullmatch(line) for line in lines]
    if not all(found):
        raise WeightsError(
            f"Got {place / SUMS}, whose line {found.index(None) + 1} is no digest and file. Accepted is a list as nerveseg and sha256sum "
            "write it. Move it away."
        )
    return {line.group(2): line.group(1) for line in found if line}


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
    """Copy one file, whole or not at all, and give its digest; one that is there with the same bytes is left."""
    digest = _digest(source)
    if not (target.is_file() and target.stat().st_size == source.stat().st_size and _digest(target) == digest):
        _put(target, lambda draft: shutil.copyfile(source, draft))
        if _digest(target) != digest:
            raise OutputError(f"Got {target}, which reads back other than it was written. Accepted is a sound disk. Use another one.")
    return digest


def _put(target: Path, write: Callable[[Path], object]) -> None:
    draft = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        outputs.put((draft, target))
    except OutputError:
        raise
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        draft.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Got {path}, which cannot be written ({error.strerror or error}). Accepted is a folder with room. Make room, or "
        "name another with --to."
    )
