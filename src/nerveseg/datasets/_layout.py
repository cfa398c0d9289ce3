"""What finding files on disk takes: the folder of a data set, its lists, and what to say where they are not there."""

from __future__ import annotations

from pathlib import Path

from nerveseg import text_files
from nerveseg.errors import DataError
from nerveseg.image import names

__all__ = ["advice", "files_in", "folder_of", "need_folder", "read_list"]

_FORM = "Accepted is one image a line: its name or path, alone, with its mask's path, or with the flag 1"


def advice(name: str, root: Path, split: str | None = None) -> str:
    """The command that makes the layout."""
    part = f" --split {split}" if split else ""
    return f"Run `nerveseg datasets prepare {name} --root {root}{part}`, or give another --root"


def folder_of(name: str, root: Path, *candidates: str) -> Path:
    """The first of several places below the root that is a folder.

    Raises:
        DataError: none is.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    places = " or ".join(str(root / candidate) for candidate in candidates)
    raise DataError(f"Got no folder {places}. Accepted is the root of {name}, with that folder in it. {advice(name, root)}.")


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by a pattern, sorted; what is hidden, and what lies in a hidden folder, is left out, as ``._a.jpg`` of macOS."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def need_folder(name: str, root: Path, folder: Path, split: str | None = None) -> Path:
    """Give a folder back that must be there.

    Raises:
        DataError: it is not.
    """
    if not folder.is_dir():
        raise DataError(f"Got no folder {folder}. Accepted is the whole layout of {name}. {advice(name, root, split)}.")
    return folder


def read_list(name: str, root: Path, path: Path, split: str | None = None) -> tuple[str, ...]:
    """The names in a list, in its order, without folders and the endings of images.

    Args:
        name: of the data set, for advice.
        root: its folder, for advice.
        path: one image a line: its name or path, alone, beside the path of its mask (which has the same name), or beside the flag 1.
            Blank lines and those that begin with ``#`` do not count.
        split: for advice.

    Raises:
        DataError: no such file, an empty one, a name twice, or a line of another form; the message has its number.
    """
    if not path.exists():
        raise DataError(f"Got no list {path}. Accepted is the list of a split of {name}. {advice(name, root, split)}.")
    text = text_files.read(path, "the list", DataError)
    found: dict[str, int] = {}
    for number, line in names.lines(text.split("\n")):
        stem = _stem(line, f"line {number} of {path}")
        if stem in found:
            raise DataError(
                f"Got the list {path} with {stem!r} twice, in lines {found[stem]} and {number}. Accepted is each name once. Take the "
                "published list."
            )
        found[stem] = number
    if not found:
        raise DataError(f"Got the list {path} without a name. Accepted is one name a line. Copy it again.")
    return tuple(found)


def _stem(line: str, where: str) -> str:
    parts = names.fields(line)
    stems = [_last(part) for part in parts]
    if not all(stems) or len(parts) > 2:
        raise DataError(f"Got {line[:120]!r} in {where}. {_FORM}. Put a name that has spaces in double quotes, or mend the line.")
    if len(parts) == 2 and parts[1] in ("-1", "0", "1"):
        if parts[1] != "1":
            raise DataError(
                f"Got {line[:120]!r} in {where}, the flag of a class not in the image. {_FORM}. Take the list of a split, as those in "
                "ImageSets/Segmentation, or keep the lines with 1."
            )
        return stems[0]
    if len(set(stems)) > 1:
        raise DataError(
            f"Got {line[:120]!r} in {where}, two names. {_FORM}. Put a name that has spaces in double quotes, or part the lines."
        )
    return stems[0]


def _last(path: str) -> str:
    return names.stem(path.replace("\\", "/").rstrip("/").rpartition("/")[2])
