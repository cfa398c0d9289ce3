"""What finding files on disk takes: the folder of a data set, its lists, and what to say where they are not there."""

from __future__ import annotations

from pathlib import Path

from nerveseg.errors import DataError

__all__ = ["advice", "files_in", "folder_of", "need_folder", "read_list"]


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
    """The names in a list, one a line, in its order.

    Raises:
        DataError: no such file, an empty one, or a name twice.
    """
    try:
        lines = path.read_text("utf-8-sig").split()
    except FileNotFoundError as error:
        raise DataError(f"Got no list {path}. Accepted is the list of a split of {name}. {advice(name, root, split)}.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"Got the list {path}, which cannot be read ({error}). Accepted is a text file. Copy it again.") from error
    if not lines:
        raise DataError(f"Got the list {path} without a name. Accepted is one name a line. Copy it again.")
    if len(set(lines)) != len(lines):
        twice = next(line for index, line in enumerate(lines) if line in lines[:index])
        raise DataError(f"Got the list {path} with {twice!r} twice. Accepted is each name once. Take the published list.")
    return tuple(lines)
