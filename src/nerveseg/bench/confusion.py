"""The confusion matrix over pixels, and the field's scores that follow from it (mIoU, accuracies, fwIoU).

An image's counts are sparse triples (truth, guess, pixels); those of a data set are one table. The guess C, of C classes, stands for none
of them: a pixel that was left to a background that the data set has not. Ignored pixels are in neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt16

from nerveseg.datasets import IGNORE
from nerveseg.errors import DataError, OptionError, ShapeError
from nerveseg.reprs import brief

__all__ = ["AVERAGES", "Confusion", "Metrics", "count", "metrics", "total"]

AVERAGES = ("union", "truth")

_DENSE = 1 << 22  # cells; a larger table is not worth being filled for one image
_SMOOTH = 1e-5  # CLIPer's, beside the union


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixels of a data set by truth and guess.

    Attributes:
        table: [t, p] pixels of class t that were taken for class p; the last column, p = C, for none of the classes.
    """

    table: Int64[np.ndarray, "C D"]

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.shape[1] != self.table.shape[0] + 1:
            raise ShapeError(f"Got a table of {self.table.shape}. Accepted is (C, C + 1), the last column for none. Use `total`.")

    @property
    def classes(self) -> int:
        """Classes C."""
        return self.table.shape[0]

    @property
    def both(self) -> Int64[np.ndarray, " C"]:
        """Pixels where truth and guess agree on the class."""
        return np.diagonal(self.table).copy()

    @property
    def true(self) -> Int64[np.ndarray, " C"]:
        """Pixels that are of the class."""
        return self.table.sum(1)

    @property
    def guessed(self) -> Int64[np.ndarray, " C"]:
        """Pixels that were taken for the class; ignored ones do not count."""
        return self.table[:, :-1].sum(0)


@dataclass(frozen=True, eq=False)
class Metrics:
    """Scores in percent; NaN where there is nothing to score.

    Attributes:
        iou: of each class, intersection over union; NaN where the average leaves the class out.
        accuracy: of each class, the share of its pixels that were found; NaN where it has none.
        miou: mean of `iou`.
        pixel_accuracy: share of all pixels that are right.
        mean_accuracy: mean of `accuracy`.
        weighted_iou: mean of IoU, each class weighted by its pixels (frequency-weighted IoU).
    """

    iou: Float64[np.ndarray, " C"]
    accuracy: Float64[np.ndarray, " C"]
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    weighted_iou: float

    __repr__ = brief


def count(truth: UInt16[np.ndarray, "H W"], guess: UInt16[np.ndarray, "H W"], classes: int) -> Int64[np.ndarray, "m 3"]:
    """Count one image.

    Args:
        truth: 0 … C − 1, or 65535 where a pixel is ignored.
        guess: 0 … C − 1; anything else is none of the classes.
        classes: C.

    Returns:
        Rows (t, p, pixels) with pixels > 0, sorted by t, then p; p = C for none. Cost O(H·W) time and two maps of memory.

    Raises:
        ShapeError: maps of two sizes. DataError: a truth that is no class.

    >>> count(np.array([[0, 1, 65535]], np.uint16), np.array([[0, 9, 0]], np.uint16), 2).tolist()
    [[0, 0, 1], [1, 2, 1]]
    """
    if truth.shape != guess.shape:
        raise ShapeError(f"Got a truth of {truth.shape} and a guess of {guess.shape}. Accepted are equal sizes. Score at the mask's size.")
    if truth.size == 0:
        return np.zeros((0, 3), np.int64)
    # Masks are regions: runs of equal pairs are some hundredths of the pixels, and all that is left to count.
    pairs = (truth.astype(np.uint32) << 16 | guess).ravel()
    starts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    pixels = np.diff(starts, append=pairs.size)
    found = pairs[starts].astype(np.int64)
    true, guessed = found >> 16, np.minimum(found & 0xFFFF, classes)
    kept = true != IGNORE
    _refuse_strangers(true[kept], classes)
    return _summed(true[kept], guessed[kept], pixels[kept], classes + 1)


def total(images: Iterable[Int64[np.ndarray, "_ 3"]], classes: int) -> Confusion:
    """Sum images up, one at a time.

    Args:
        images: what `count` gave for each.
        classes: C.
    """
    table = np.zeros((classes, classes + 1), np.int64)
    for found in images:
        np.add.at(table, (found[:, 0], found[:, 1]), found[:, 2])
    return Confusion(table)


def metrics(confusion: Confusion, average: str = "union") -> Metrics:
    """Score a data set from its confusion, never image by image.

    Args:
        confusion: of all images.
        average: ``"union"``: IoU_c = I/U, over the classes that are true or guessed anywhere; one that is only guessed scores 0 and counts
            (mmseg's metric, which SCLIP and its relatives use). ``"truth"``: IoU_c = I/(U + 1e-5), over the classes that are true
            somewhere (CLIPer's and iSeg's).

    Raises:
        OptionError: another average.
    """
    if average not in AVERAGES:
        raise OptionError(f"Got the average {average!r}. Accepted are {', '.join(AVERAGES)}. Choose one of them.")
    both, true, guessed = (part.astype(np.float64) for part in (confusion.both, confusion.true, confusion.guessed))
    union = true + guessed - both
    plain = _over(both, union)
    iou = plain if average == "union" else np.where(true > 0, both / (union + _SMOOTH), np.nan)
    accuracy = _over(both, true)
    pixels = true.sum()
    seen = true > 0
    return Metrics(
        iou=100 * iou,
        accuracy=100 * accuracy,
        miou=100 * _mean(iou),
        pixel_accuracy=float(100 * both.sum() / pixels) if pixels else float("nan"),
        mean_accuracy=100 * _mean(accuracy),
        weighted_iou=float(100 * (true[seen] * plain[seen]).sum() / pixels) if pixels else float("nan"),
    )


def _refuse_strangers(true: Int64[np.ndarray, " r"], classes: int) -> None:
    if true.size and int(true.max()) >= classes:
        wrong = int(true[true >= classes].min())
        raise DataError(f"Got a truth with the id {wrong}. Accepted are 0 to {classes - 1}, and {IGNORE} for ignored. Convert the mask.")


def _summed(
    true: Int64[np.ndarray, " r"], guessed: Int64[np.ndarray, " r"], pixels: Int64[np.ndarray, " r"], width: int
) -> Int64[np.ndarray, "m 3"]:
    """Sum runs up by their pair."""
    cells = true * width + guessed
    if width * width <= _DENSE:
        sums = np.bincount(cells, weights=pixels, minlength=1)  # whole numbers, exact in float64
        places = np.flatnonzero(sums)
        sums = sums[places]
    else:
        places, inverse = np.unique(cells, return_inverse=True)
        sums = np.bincount(inverse, weights=pixels)
    return np.stack([places // width, places % width, sums.astype(np.int64)], axis=1)


def _over(part: Float64[np.ndarray, " C"], whole: Float64[np.ndarray, " C"]) -> Float64[np.ndarray, " C"]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Float64[np.ndarray, " C"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
