"""Any images with masks, and a file of names: ``ROOT/images``, ``ROOT/masks``, ``ROOT/names.txt``.

A mask has the stem of its image. It holds the number of a class, counted from 0 in the order of the names, in grey or as the place in
a palette; 255 (65535 in masks of 16 bits) is not counted. Where the first name is ``background``, class 0 is what no other class is.

A split is a folder of both ``images`` and ``masks``. Where no image lies in ``images`` itself, the split that is scored is ``val`` (or
``valid``, ``validation``, ``test``), else the only one, and ``all`` is every one of them.
"""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import classes
from nerveseg.datasets.base import IGNORE, DataSet, Item, table
from nerveseg.errors import DataError, ImageError
from nerveseg.image.endings import HEIC, READ, endings, left_out, told
from nerveseg.image.opening import opened as opened_file
from nerveseg.words.vocabulary import BACKGROUND

__all__ = ["archives", "background", "folders", "opened", "protocols", "splits"]

title = "Any images and masks"
url = ""
licence = "your own"
background = False  # unless the names say so
splits = ()  # folders
protocols = ("sclip",)
archives = ()

WHOLE = "all"
"""What the split is called that is everything: the images in ``images`` itself, or, where there are none, those of all its folders."""

_SCORED = ("val", "valid", "validation", "test")  # names of folders that scores are made on, by preference

_IMAGES = READ
_MASKS = frozenset({".png", ".bmp", ".tif", ".tiff"})
_CHANGING = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".jp2", ".avif", ".heic")


def opened(root: Path | None, split: str | None, protocol: str, class_names: str | Path) -> DataSet:
    """Open a folder.

    Args:
        root: the folder.
        split: name of a folder in ``images`` and in ``masks``; "all" takes everything, None that or the folder that is scored.
        protocol: both are the same here.
        class_names: "official" for ``names.txt``, or the path of another file.

    Raises:
        DataError: no such folder, no names, two files with one stem, masks in a format that loses values, more names than masks can
        hold, or several folders of which none is the one to score.
    """
    if root is None:
        raise DataError("Got no folder for the data set folder. Accepted is one with images, masks and names.txt. Give root, or --root.")
    chosen = _chosen(root) if split is None else split
    parts = (chosen,) if chosen != WHOLE else ("",) if _has_images(root / "images") else folders(root) or ("",)
    items = tuple(item for part in parts for item in _items(root, part, below=chosen == WHOLE))
    names = _names(root, class_names)
    with_background = names.names[0].casefold() == BACKGROUND
    deep = _is_deep(next((item.mask for item in items if item.mask is not None and item.mask.is_file()), None))
    limit = IGNORE if deep else 255
    if len(names) > limit:
        raise DataError(
            f"Got {len(names)} names and masks of {16 if deep else 8} bits in {root}. Accepted are at most {limit}, since the "
            f"last value is not counted. {'Take names away' if deep else 'Write the masks with 16 bits'}."
        )
    values = table({**{index: index for index in range(len(names))}, limit: IGNORE}, entries=limit + 1)
    where = "masks" if chosen == WHOLE else (Path("masks") / chosen).as_posix()
    others = told(left_out((path.name for part in parts for path in (root / "images" / part).iterdir()), _images()))
    return DataSet("folder", chosen, protocol, names, with_background, items, values, root, about={"masks": where}, left_out=others)


def folders(root: Path | None) -> tuple[str, ...]:
    """The splits of a folder: what lies in ``images`` and in ``masks``, and holds images; none where ``images`` holds them itself."""
    place = None if root is None else root / "images"
    if root is None or place is None or not place.is_dir() or _has_images(place):
        return ()
    inside = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(path.name for path in inside if (root / "masks" / path.name).is_dir() and _has_images(path))


def _chosen(root: Path) -> str:
    """The split where none is named."""
    found = folders(root)
    if len(found) < 2:
        return found[0] if found else WHOLE
    scored = next((name for name in _SCORED if name in found), None)
    if scored is None:
        raise DataError(
            f"Got {root / 'images'} with the folders {', '.join(found)} and no split. Accepted is one of them, or {WHOLE} for all. "
            f"Name it with --split {found[0]}."
        )
    return scored


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(_is_one(path) for path in folder.iterdir())


def _images() -> frozenset[str]:
    """Endings of images, those of HEIC where its reader is installed."""
    return _IMAGES | (HEIC if endings() >= HEIC else frozenset())


def _is_one(path: Path) -> bool:
    return path.suffix.lower() in _images() and not path.name.startswith(".") and path.is_file()


def _items(root: Path, part: str, *, below: bool) -> tuple[Item, ...]:
    """The items of a folder; with ``below`` their names begin with it, since another folder may have the same stems."""
    images = _files(root, "images", part, _images())
    masks = _files(root, "masks", part, _MASKS)
    lead = f"{part}/" if below and part else ""
    return tuple(
        Item(
            f"{lead}{stem}",
            images.get(stem, root / "images" / part / f"{stem}.jpg"),
            masks.get(stem, root / "masks" / part / f"{stem}.png"),
        )
        for stem in sorted(images.keys() | masks.keys())
    )


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


def _files(root: Path, what: str, part: str, wanted: frozenset[str]) -> dict[str, Path]:
    """Stem → file."""
    folder = root / what / part
    if not folder.is_dir():
        raise DataError(f"Got no folder {folder}. Accepted is a folder with images, masks and names.txt. Make it, or give another --root.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        ending = path.suffix.lower()
        if what == "masks" and ending in _CHANGING:
            raise DataError(
                f"Got the mask {path}, a format that changes values or numbers them anew. Accepted are {', '.join(sorted(_MASKS))}. "
                "Save it as PNG."
            )
        if ending not in wanted:
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
        raise DataError(f"Got {folder} without a file ending in {', '.join(sorted(wanted))}. Accepted is at least one. {hint}.")
    return found


def _is_deep(path: Path | None) -> bool:
    """Whether a mask has 16 bits; the first one decides for all, and another kind is found out when it is read."""
    if path is None:
        return False
    try:
        return opened_file(path.read_bytes(), str(path)).image.mode.startswith("I")
    except (OSError, ImageError):  # told when it is read
        return False
