"""List the images of a batch: a folder, a pattern, a list or standard input → files, and each one's path in the output."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nerveseg import text_files
from nerveseg.errors import OptionError
from nerveseg.image import names
from nerveseg.image.endings import READ, endings, left_out, told
from nerveseg.reprs import brief

__all__ = ["ENDINGS", "Found", "find", "key", "stem"]

ENDINGS = READ
"""Endings of image files, of any case; with the extra ``heic`` its own, too. What a list names is taken whatever its ending."""

_ACCEPTED = (
    "Accepted are a folder, a pattern such as 'photos/**/*.jpg', a .txt file with one path a line, an image, or - for standard input."
)


@dataclass(frozen=True)
class Found:
    """Image files.

    Attributes:
        root: the folder that items are relative to.
        items: paths with ``/``, each once; without their endings they are where the masks go.
        left_out: endings of other files of the folder, or of the pattern, that look like images → how many there are.
        unread: what could not be looked at, and why: folders without the right to read, names that are no UTF-8.
    """

    root: Path
    items: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    unread: tuple[tuple[str, str], ...] = ()

    __repr__ = brief

    def path(self, item: str) -> Path:
        """The image's file."""
        return self.root / item


def stem(item: str) -> str:
    """An item without the ending of an image file: its place in the output."""
    return names.stem(item)


def key(path: str) -> str:
    """What file systems that fold case or accents keep of a path."""
    return unicodedata.normalize("NFC", path).casefold()


def find(source: str | Path, *, leave_out: Path | None = None, stdin: Iterable[str] | None = None) -> Found:
    """List the images of a source.

    Args:
        source: a folder, which is searched with those in it (hidden ones left out); a pattern; a .txt file with one path a line; one
            image; or ``-``. Paths in lists are relative to the current folder, as the shell's are.
        leave_out: a folder whose files are not taken: the output, where it lies inside the source.
        stdin: what ``-`` stands for: lines, one path each.

    Returns:
        Found: sorted for a folder and a pattern, in its own order for a list. Items of a folder are relative to it, those of a pattern to
            the folder before its first wildcard; those of a list are its own lines, or, where one is absolute or leads out with ``..``,
            relative to the deepest folder that holds them all.

    Raises:
        OptionError: no such source, no image in it, or two images for one place in the output.
    """
    text = str(source)
    place = Path(text).expanduser()
    if text == "-":
        found = _listed(stdin or (), "standard input")
    elif place.is_dir():
        closed: list[OSError] = []
        held = list(_inside(place, leave_out, closed))
        found = _taken(_whole(place), held, _closed(closed, place))
    elif place.is_file() and place.suffix.lower() == ".txt":
        found = _listed(_lines(place), text)
    elif place.is_file():
        found = Found(_whole(place).parent, (place.name,))
    elif glob.has_magic(text):
        found = _matching(str(place), leave_out)
    else:
        raise OptionError(f"Got {text!r}, which is not there (looked in {Path.cwd()}). {_ACCEPTED} Check the path.")
    found = _nameable(found)
    if not found.items:
        why = "".join(f" {name} could not be used: {reason}." for name, reason in found.unread[:3])
        raise OptionError(
            f"Got {text!r} without an image.{why} {_ACCEPTED} Check the path; endings that count are {' '.join(sorted(endings()))}."
            f"{f' {told(found.left_out)}' if found.left_out else ''}"
        )
    _check(found)
    return found


def _taken(root: Path, held: Iterable[str], unread: tuple[tuple[str, str], ...]) -> Found:
    """The images of some files, and what is left out."""
    listed, taken = sorted(held), endings()
    return Found(root, tuple(name for name in listed if PurePosixPath(name).suffix.lower() in taken), left_out(listed, taken), unread)


def _inside(folder: Path, leave_out: Path | None, closed: list[OSError]) -> Iterator[str]:
    skipped = None if leave_out is None else os.path.realpath(leave_out)
    for place, folders, files in os.walk(folder, onerror=closed.append):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and os.path.realpath(here / name) != skipped]
        for name in files:
            if not name.startswith("."):
                yield (here / name).relative_to(folder).as_posix()


def _matching(pattern: str, leave_out: Path | None) -> Found:
    fixed = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = _whole(Path(*fixed))
    skipped = None if leave_out is None else os.path.realpath(leave_out)
    items: set[str] = set()
    for name in glob.iglob(pattern, recursive=True):  # noqa: PTH207 (pathlib's folder and wildcard parts cannot be one pattern)
        path = Path(name)
        if path.is_file() and not (skipped and Path(os.path.realpath(path)).is_relative_to(skipped)):
            items.add(_whole(path).relative_to(root).as_posix())
    deep = None if "**" in pattern else len(Path(pattern).parts) - len(fixed) - 1
    return _taken(root, items, _closed(_unread(root, deep, skipped), root))


def _unread(root: Path, deep: int | None, skipped: str | None) -> list[OSError]:
    """Folders that a pattern passes over in silence, as they cannot be read; ``deep``: folders below the root that it looks into."""
    closed: list[OSError] = []
    for place, folders, _ in os.walk(root, onerror=closed.append):
        here = Path(place)
        level = len(here.relative_to(root).parts)
        if deep is not None and level >= deep:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".") and os.path.realpath(here / name) != skipped]
    return closed


def _closed(errors: Iterable[OSError], root: Path) -> tuple[tuple[str, str], ...]:
    found = ((os.path.relpath(error.filename, root), error) for error in errors)
    return tuple((f"{name}/", f"Got the folder {name!r}, which cannot be read ({error.strerror}). Accepted is one with the right to read. "
                  "Check its rights") for name, error in found)  # fmt: skip


def _nameable(found: Found) -> Found:
    """Without items that no file of ours can name; they are told instead."""
    good, unread = [], list(found.unread)
    for item in found.items:
        try:
            item.encode()
        except UnicodeEncodeError:
            unread.append((item, f"Got the file {item!r}. Accepted are names in UTF-8. Rename it"))
        else:
            good.append(item)
    return replace(found, items=tuple(good), unread=tuple(unread))


def _lines(path: Path) -> list[str]:
    return text_files.read(path, "the list", OptionError).split("\n")


def _image(line: str, where: str) -> Path:
    """The image of a line: the whole of it, or its first field where others follow, as in the lists of data sets."""
    whole = line[1:-1] if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'" else line
    if (url := text_files.address(whole)) is not None:
        raise OptionError(f"Got the address {url[:200]!r} in {where}. Accepted is one path a line. Download it and name the file.")
    path = Path(names.slashed(text_files.local(whole))).expanduser()
    parts = names.fields(line)
    first = Path(names.slashed(parts[0])).expanduser() if len(parts) > 1 else path
    if first != path and not os.path.lexists(path) and os.path.lexists(first):
        if not all(part in ("-1", "0", "1") or names.stem(part) != part for part in parts[1:]):
            raise OptionError(f"Got {line[:120]!r} in {where}. Accepted is one path a line, a mask or a flag after it. Mend the line.")
        return first
    return path


def _listed(given: Iterable[str], origin: str) -> Found:
    paths = [_image(line, f"line {number} of {origin}") for number, line in names.lines(given)]
    normal = [Path(os.path.normpath(path)) for path in paths]
    inside = all(not path.is_absolute() and ".." not in path.parts for path in normal)
    here = Path.cwd()
    if inside or not normal:
        return Found(here, tuple(path.as_posix() for path in normal))
    whole = [_whole(path) for path in normal]
    try:
        root = Path(os.path.commonpath([path.parent for path in whole]))
    except ValueError as error:  # two drives
        raise OptionError(f"Got {origin} with paths that share no folder ({error}). Accepted is one drive. Make two lists.") from error
    return Found(root, tuple(path.relative_to(root).as_posix() for path in whole))


def _whole(path: Path) -> Path:
    """From the root, links as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (resolve() follows links)


def _check(found: Found) -> None:
    owner: dict[str, str] = {}
    for item in found.items:
        first = owner.setdefault(key(stem(item)), item)
        if first is not item:
            told = "twice" if first == item else f"and {item!r}, whose masks would have one name"
            raise OptionError(f"Got {first!r} {told}. Accepted are images with names of their own. Rename or leave out one of the two.")
