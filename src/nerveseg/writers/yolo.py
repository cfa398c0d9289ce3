"""YOLO's polygons: ``labels/STEM.txt``, a line a part, ``class x y x y …`` in shares of the image's width and height; ``data.yaml``.

Layout: ``images/STEM.jpg``, ``labels/STEM.txt``, ``data.yaml``, ``run.json``. Ultralytics looks for an image's labels where the last
folder called ``images`` of its path is called ``labels`` instead: those of ``images/train/images/a.jpg`` are ``images/train/labels/a.txt``.

A line has one outline and nothing else, so a hole is lost unless a label fills it: lines go from the largest outline to the smallest, and
whoever paints them in this order gets every labelled pixel back. What is lost is counted for each image (``lost`` in ``run.json``:
``filled``, pixels of such holes) and told by a warning, `DetailLost`; `read` gets it from ``run.json``. ``thin`` counts parts one pixel
wide whose line encloses no area: who paints lines has them all the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from jaxtyping import Int64, UInt16

from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _collection, _outlines, _rle
from nerveseg.writers.base import DetailLost, Reading, check_holds, reading_back, replacing

__all__ = ["JOINED", "Options", "finish", "holds", "labels_of", "part", "read", "suffix"]

suffix = ""
JOINED = "data.yaml"
_LABELS, _IMAGES = "labels", "images"
_DIGITS = 6  # of a share; 32 bits hold no more than 7
_JPEG = 65_500  # pixels of a side that a JPEG of libjpeg may have; longer images are PNG
_LONG = 100_000  # pixels of a side that need the seventh
_LEAST = 3  # points of a polygon


@dataclass(frozen=True)
class Options:
    """What the lines are, and what is beside them."""

    outline: str = knob(
        _outlines.PIXELS,
        "Where the points lie. pixels: on the outer pixels, counted from 0: programs that fill polygons, lines included, get each pixel "
        "back at the image's own size. edges: between pixels, so that areas are true by geometry; those programs paint a pixel more.",
        choices=(_outlines.PIXELS, _outlines.EDGES),
        source="supervision and Ultralytics fill with OpenCV, which paints the line too",
    )
    background: bool = knob(
        default=False,
        doc="Also write the background's parts as a class. False: they have no line.",
        source="YOLO's files name things alone",
    )
    images: bool = knob(
        default=True,
        doc="Also write the images, upright, as JPEG of quality 95. False: only the folders that they belong into, under the same paths.",
        source="trainers look for them in images/, and stop where there is none",
        was="pictures",
    )


def holds(labels: int) -> bool:
    """Up to 65535 labels, what a result holds."""
    return labels <= 65535


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """Write an image's lines, and the image where asked for."""
    check_holds(sys.modules[__name__], len(segmentation.labels), folder)
    made = _collection.begin(segmentation, stem, folder=folder)
    skip = None if options.background else segmentation.background
    found, filled = _outlines.outlines(segmentation.segmentation.numpy(), len(segmentation.labels), skip=skip)
    numbers = {label: number for number, label in enumerate(_kept(len(segmentation.labels), skip))}
    lines = [_line(numbers[outline.label], getattr(outline, options.outline), segmentation.size) for outline in found]
    kind, ending = ("JPEG", ".jpg") if max(segmentation.size) <= _JPEG else ("PNG", ".png")
    image = _collection.below(folder, stem, ending, _IMAGES)
    paths = [_collection.below(folder, labels_of(stem), ".txt")]
    if options.images:
        paths.append(image)
    with replacing(*reversed(paths)) as drafts:
        drafts[-1].write_text("".join(lines), encoding="ascii", newline="\n")
        if options.images:
            segmentation.image.to_pil().save(drafts[0], format=kind, **({"quality": 95} if kind == "JPEG" else {}))
    thin = 0 if options.outline == _outlines.EDGES else sum(_is_thin(outline.pixels) for outline in found)
    made["picture"] |= {
        "lost": {"filled": int(filled.sum()), "thin": thin},
        "filled": _rle.pack(_rle.counts(filled, segmentation.size)) if bool(filled.any()) else None,
        "ignored": None if skip is None else _rle.ignored(segmentation),
    }
    return {**made, "skip": skip, "files": [path.relative_to(folder).as_posix() for path in paths]}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write ``data.yaml`` and ``run.json``; warn with `DetailLost` where something is lost."""
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    joint, note = folder / JOINED, folder / _collection.RUN
    skip: int | None = None
    lost = {"pictures": 0, "filled": 0, "thin": 0}
    with replacing(joint, note) as (draft, note_draft), _collection.JsonListWriter(folder, "pictures") as run:
        for entry in parts:
            skip, told = entry["skip"], entry["picture"]["lost"]
            lost["pictures"] += told["filled"] > 0
            for name, count in told.items():
                lost[name] += count
            run.add("pictures", entry["picture"])
        draft.write_text(_yaml([common["labels"][label]["name"] for label in _kept(len(common["labels"]), skip)]), encoding="ascii")
        run.save(note_draft, {**_collection.run_head(common, "yolo"), "outline": options.outline, "skip": skip, "lost": lost})
    if lost["pictures"]:
        warnings.warn(_told(lost, note), DetailLost, stacklevel=2)
    return joint, note


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back, in the order they were written, holes from ``run.json``.

    Raises:
        ImageError: not what `part` and `finish` write.
    """
    run = _collection.read_run(folder, "yolo")
    kept = _kept(len(run["labels"]), run["skip"])
    outside = run["ignore_index"] if run["skip"] is None else run["skip"]
    for image in run["pictures"]:
        path = Path(folder) / f"{labels_of(image['stem'])}.txt"
        with reading_back(path):
            ids = np.full((image["height"], image["width"]), outside, dtype=np.uint16)
            for text in path.read_text(encoding="ascii").splitlines():
                _paint(ids, text, kept, run["outline"])
            for name, value in (("filled", outside), ("ignored", run["ignore_index"])):
                if image[name] is not None:
                    _rle.fill(ids, image[name], value)
        yield image["stem"], _collection.reading(ids, run, image)


def labels_of(stem: str) -> str:
    """Where an image's lines are in the folder, without the ending: by the rule of Ultralytics.

    >>> labels_of("a"), labels_of("train/images/a")
    ('labels/a', 'images/train/labels/a')
    """
    *folders, name = (_IMAGES, *PurePosixPath(stem).parts)
    last = len(folders) - 1 - folders[::-1].index(_IMAGES)
    return "/".join([*folders[:last], _LABELS, *folders[last + 1 :], name])


def _kept(labels: int, skip: int | None) -> list[int]:
    """The ids that are classes; a class is an id's place here."""
    return [label for label in range(labels) if label != skip]


def _line(number: int, points: Int64[np.ndarray, "p 2"], size: tuple[int, int]) -> str:
    """A line of shares: programs that multiply by the size, in 32 or 64 bits, and cut off or round get the number that was meant."""
    sides = np.array([size[1], size[0]])
    digits = _DIGITS if max(size) < _LONG else _DIGITS + 1
    meant = np.concatenate([points, points[-1:].repeat(max(0, _LEAST - len(points)), axis=0)])
    shares = -(-meant * 10**digits // sides)
    read = shares / 10**digits
    shares += np.minimum(read, read.astype(np.float32)) * sides < meant  # a share that no float holds came out a little below
    return " ".join([str(number), *(f"{share / 10**digits:.{digits}f}" for share in cast("list[int]", shares.ravel().tolist()))]) + "\n"


def _paint(ids: UInt16[np.ndarray, "H W"], text: str, kept: list[int], kind: str) -> None:
    """Fill one line's outline, in place."""
    number, *shares = text.split()
    sides = np.array([ids.shape[1], ids.shape[0]])
    values = np.array(shares, dtype=np.float64).reshape(-1, 2)
    inside = bool(((values >= 0) & (values <= 1)).all()) and len(values) >= _LEAST
    if not inside:
        raise ValueError(f"the line {text[:40]!r}")
    place, mask = _outlines.filled(np.rint(values * sides).astype(np.int64), kind)
    ids[place][mask] = kept[int(number)]


def _is_thin(points: Int64[np.ndarray, "q 2"]) -> bool:
    """Whether an outline through pixels encloses no area, as that of a row of pixels."""
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    return int((x * next_y - next_x * y).sum()) == 0


def _yaml(names: list[str]) -> str:
    lines = [f"train: {_IMAGES}", f"val: {_IMAGES}", "names:" if names else "names: {}"]
    return "\n".join([*lines, *(f'  {number}: "{_escaped(name)}"' for number, name in enumerate(names))]) + "\n"


def _escaped(name: str) -> str:
    """A name between YAML's double quotes; readers take no raw control character, and some no raw letter beyond ASCII."""
    plain = {'"': '\\"', "\\": "\\\\"}
    return "".join(plain.get(letter) or (letter if " " <= letter <= "~" else f"\\U{ord(letter):08X}") for letter in name)


def _told(lost: Mapping[str, int], note: Path) -> str:
    return (
        f"YOLO's polygons cannot hold all of {lost['pictures']} images: {lost['filled']} pixels without a label are inside a polygon, "
        f"as it has no holes ({note} says which)"
    )
