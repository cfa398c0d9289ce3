"""Any pictures with masks, and a file of names: ``ROOT/images``, ``ROOT/masks``, ``ROOT/names.txt``.

A mask has the stem of its picture. It holds the number of a class, counted from 0 in the order of the names, in grey or as the place in
a palette; 255 (65535 in masks of 16 bits) is not counted. Where the first name is ``background``, class 0 is what no other class is. A
split is a folder of both ``images`` and ``masks``.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nerveseg.datasets import classes
from nerveseg.datasets.base import IGNORE, DataSet, Item, table
from nerveseg.errors import DataError
from nerveseg.words.vocabulary import BACKGROUND

__all__ = ["archives", "background", "opened", "protocols", "splits"]

title = "Any pictures and masks"
url = ""
licence = "your own"
background = False  # unless the names say so
splits = ()  # folders
protocols = ("sclip",)
archives = ()

WHOLE = "all"
"""What the split is called where pictures lie in ``images`` itself."""

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm", ".qoi")
_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_LOSSY = (".jpg", ".jpeg", ".webp")


def opened(root: Path | None, split: str | None, protocol: str, class_names: str | Path) -> DataSet:
    """Open a folder.

    Args:
        root: the folder.
        split: name of a folder in ``images`` and in ``masks``; None or "all" takes the files in ``images`` itself.
        protocol: both are the same here.
        class_names: "official" for ``names.txt``, or the path of another file.

    Raises:
        DataError: no such folder, no names, two files with one stem, masks in a format that loses values, or more names than masks can
        hold.
    """
    if root is None:
        raise DataError("Got no folder for the data set folder. Accepted is one with images, masks and names.txt. Give root, or --root.")
    part = "" if split in (None, WHOLE) else str(split)
    pictures = _files(root, "images", part, _PICTURES)
    masks = _files(root, "masks", part, _MASKS)
    names = _names(root, class_names)
    with_background = names.names[0].casefold() == BACKGROUND
    deep = _is_deep(next(iter(masks.values())))
    limit = IGNORE if deep else 255
    if len(names) > limit:
        raise DataError(
            f"Got {len(names)} names and masks of {16 if deep else 8} bits in {root}. Accepted are at most {limit}, since the "
            f"last value is not counted. {'Take names away' if deep else 'Write the masks with 16 bits'}."
        )
    items = tuple(
        Item(stem, pictures.get(stem, root / "images" / part / f"{stem}.jpg"), masks.get(stem, root / "masks" / part / f"{stem}.png"))
        for stem in sorted(pictures.keys() | masks.keys())
    )
    values = table({**{index: index for index in range(len(names))}, limit: IGNORE}, entries=limit + 1)
    where = (Path("masks") / part).as_posix()
    return DataSet("folder", part or WHOLE, protocol, names, with_background, items, values, root, about={"masks": where})


def _names(root: Path, class_names: str | Path) -> classes.ClassNames:
    path = root / "names.txt" if str(class_names) == "official" else Path(class_names)
    if classes.dialect_of(class_names) is not None:
        return classes.read("folder", class_names)
    if not path.is_file():
        raise DataError(
            f"Got no names {path}. Accepted is a text file with one class a line, in the order of the masks' values. Write it, "
            "or give --names."
        )
    found = classes.read("folder", path)
    if not len(found):
        raise DataError(f"Got no name in {path}. Accepted is one class a line, in the order of the masks' values. Write them.")
    return found


def _files(root: Path, what: str, part: str, endings: tuple[str, ...]) -> dict[str, Path]:
    """Stem → file."""
    folder = root / what / part
    if not folder.is_dir():
        raise DataError(f"Got no folder {folder}. Accepted is a folder with images, masks and names.txt. Make it, or give another --root.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        ending = path.suffix.lower()
        if what == "masks" and ending in _LOSSY:
            raise DataError(f"Got the mask {path}, a format that changes values. Accepted are {', '.join(_MASKS)}. Save it as PNG.")
        if ending not in endings:
            continue
        if path.stem in found:
            raise DataError(
                f"Got {found[path.stem]} and {path}, which have one stem. Accepted is one file a stem, since masks are found "
                "by it. Rename one."
            )
        found[path.stem] = path
    if not found:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        hint = f"Choose one of its folders as the split (--split): {', '.join(inside)}" if inside else "Put files there"
        raise DataError(f"Got {folder} without a file ending in {', '.join(endings)}. Accepted is at least one. {hint}.")
    return found


def _is_deep(path: Path) -> bool:
    """Whether a mask has 16 bits; the first one decides for all, and another kind is found out when it is read."""
    try:
        with Image.open(path) as image:
            return image.mode.startswith("I")
    except (OSError, ValueError, SyntaxError):
        return False
