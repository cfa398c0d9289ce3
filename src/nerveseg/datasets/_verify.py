"""Verify a data set on disk: read every file, count every id, and name each wrong file with what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from nerveseg import registry
from nerveseg.datasets import _stored
from nerveseg.datasets._archives import Said
from nerveseg.datasets._layout import advice
from nerveseg.datasets.base import IGNORE, DataSet, Item
from nerveseg.errors import DataError
from nerveseg.reprs import brief

__all__ = ["Problem", "Report", "verify"]

_AHEAD = 4  # items in work a thread


@dataclass(frozen=True)
class Problem:
    """What is wrong with an item, or with the whole (item is None)."""

    item: str | None
    message: str


@dataclass(frozen=True, eq=False)
class Report:
    """What `verify` found.

    Attributes:
        data: what was read.
        files: image files of the split.
        published: how many there are in the published split; None: not known.
        problems: in the order of the list.
        pixels: of each class, (C,), int64.
        items: with at least one pixel of the class, (C,), int64.
        ignored: pixels that no score counts.
        turned: items whose image carries an EXIF orientation, and whether their mask follows the stored pixels.
    """

    data: DataSet
    files: int
    published: int | None
    problems: tuple[Problem, ...]
    pixels: NDArray[np.int64]
    items: NDArray[np.int64]
    ignored: int
    turned: tuple[tuple[str, bool], ...]

    __repr__ = brief

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without a pixel. In a whole published split there is none."""
        return tuple(name for name, count in zip(self.data.names.names, self.pixels, strict=True) if not count)


@dataclass(frozen=True, eq=False)
class _Seen:
    item: str
    problem: str | None = None
    counts: NDArray[np.int64] | None = None
    ignored: int = 0
    turned: bool | None = None
    colours: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def verify(data: DataSet, *, workers: int = 4, quick: bool = False, partial: bool = False, said: Said | None = None) -> Report:
    """Read a split whole.

    Args:
        data: an opened split.
        workers: threads. More: faster, until the disk or the cores are busy.
        quick: read the images' heads alone: sizes are compared, but a damaged image is not found.
        partial: a part of the split was meant: its files are not counted against the published number.
        said: progress.

    Returns:
        What was found. No image and no mask is kept.
    """
    problems: list[Problem] = []
    turned: list[tuple[str, bool]] = []
    ignored = 0
    palette: dict[int, tuple[str, tuple[int, ...]]] = {}
    pixels, items = np.zeros(data.classes, np.int64), np.zeros(data.classes, np.int64)
    for done, one in enumerate(_each(data, workers, quick=quick), 1):
        if one.counts is not None:
            pixels += one.counts
            items += one.counts > 0
        if one.problem is not None:
            problems.append(Problem(one.item, one.problem))
        problems.extend(_repainted(one, palette))
        if one.turned is not None:
            turned.append((one.item, one.turned))
        ignored += one.ignored
        if said is not None:
            said(f"reading {data.name}", done, len(data))
    files = len({item.image for item in data.items}) if data.draw is None else len(data)
    published = None if partial else _published(data)
    if published is not None and files != published:
        problems.insert(0, Problem(None, _miscount(data, files, published)))
    return Report(data, files, published, tuple(problems), pixels, items, ignored, tuple(turned))


def _each(data: DataSet, workers: int, *, quick: bool) -> Iterator[_Seen]:
    """What is seen of each item, in order; a bounded number of them is in work."""
    left = iter(data.items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting = [pool.submit(_see, data, item, quick=quick) for item in islice(left, workers * _AHEAD)]
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(_see, data, item, quick=quick) for item in islice(left, 1))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _see(data: DataSet, item: Item, *, quick: bool) -> _Seen:
    try:
        mask = data.mask(item) if quick else data.read(item)[1]
        turned = _turned(item) if data.draw is None else None
        if quick and data.draw is None:
            _same_size(item)
    except DataError as error:
        return _Seen(item.id, str(error))
    colours = _colours(item) if data.draw is None else {}
    counts = np.bincount(mask.ravel(), minlength=IGNORE + 1)
    return _Seen(item.id, None, counts[: data.classes].astype(np.int64), int(counts[IGNORE]), turned, colours)


def _turned(item: Item) -> bool | None:
    """None: no orientation. True: the mask has the size of the stored pixels, and no orientation of its own."""
    if item.image is None or item.mask is None:
        return None
    image, mask = _stored.head_of(item.image, "image"), _stored.head_of(item.mask, "mask")
    return None if image.orientation == 1 else mask.orientation == 1 and mask.size == image.size


def _same_size(item: Item) -> None:
    if item.image is None or item.mask is None:
        return
    image, mask = _stored.head_of(item.image, "image"), _stored.head_of(item.mask, "mask")
    if mask.upright != image.upright and not (mask.orientation == 1 and mask.size == image.size):
        raise DataError(
            f"Got {item.image} of {image.size} pixels (height, width) and its mask {item.mask} of {mask.size}. "
            "Accepted are equal sizes. Take both files from the same release."
        )


def _colours(item: Item) -> dict[int, tuple[int, ...]]:
    """Values of a mask with a palette → their colours."""
    if item.mask is None or _stored.head_of(item.mask, "mask").mode != "P":
        return {}
    return _stored.read(item.mask).used()


def _repainted(one: _Seen, palette: dict[int, tuple[str, tuple[int, ...]]]) -> Iterator[Problem]:
    """A value that has another colour than in a mask before: one of the two was numbered anew. Adds what is new to the palette."""
    for value, colour in one.colours.items():
        first, before = palette.setdefault(value, (one.item, colour))
        if before != colour:
            yield Problem(
                one.item,
                f"Got a mask whose palette has at {value} the colour {colour}, and that of {first!r} has {before}. Accepted is one "
                "palette for all masks: an editor that makes a palette numbers the classes anew. Save the ids as PNG in grey.",
            )
            return


def _published(data: DataSet) -> int | None:
    known = registry.load("datasets", data.name).published
    return None if known is None else known(data.protocol).get(data.split)


def _miscount(data: DataSet, files: int, published: int) -> str:
    made = advice(data.name, data.root, data.split) if data.root is not None else "Complete it"
    return (
        f"Got {files:,} images in {data.split} of {data.name}. Accepted are the {published:,} that are published. "
        f"{made}; where a part of it is meant, say so with --partial."
    )
