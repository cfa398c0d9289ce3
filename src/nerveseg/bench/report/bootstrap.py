"""Bootstrap over images: confidence intervals of a data set's mIoU, and of the difference of two runs on it.

Each draw takes n images of n, with repetition, sums their pixels, and scores the sums as a data set is scored. Two runs are scored on the
same draws, so what makes an image hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.sparse import csr_array

from nerveseg.bench.confusion import AVERAGES
from nerveseg.bench.report.tallies import Tallies
from nerveseg.errors import OptionError, ShapeError

__all__ = ["DRAWS", "Interval", "difference", "interval", "miou", "ratio", "scores"]

DRAWS = 2000
"""Draws; the ends of a 95 % interval move by about 2 % of its width from seed to seed."""

_AT_ONCE = 1 << 18  # weights (draws × images) that are held at a time: 2 MiB
_SMOOTH = 1e-5  # CLIPer's, as in bench.confusion


@dataclass(frozen=True)
class Interval:
    """A value and the middle 95 % of its draws.

    Attributes:
        value: on the images as they are, in points of mIoU, or whatever was drawn.
        low: 2.5 % of the draws lie below it.
        high: 2.5 % lie above it.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def interval(tallies: Tallies, *, average: str = "union", draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % interval of a run's mIoU over images.

    Args:
        tallies: of the run.
        average: "union" or "truth", as in `nerveseg.bench.confusion.metrics`.
        draws: more: smoother ends; cost is linear in draws and in the entries of the tallies (about 2 s for 5,000 images of 171 classes).
        seed: of the draws.
    """
    (one,) = _drawn((tallies,), average, draws, seed)
    return _interval(scores(tallies, np.ones((1, tallies.images)), average=average)[0], one)


def difference(one: Tallies, other: Tallies, *, average: str = "union", draws: int = DRAWS, seed: int = 0) -> Interval:
    """Paired 95 % interval of mIoU(one) − mIoU(other), both over the same images in the same order.

    Args:
        one: of the first run.
        other: of the second.
        average: as in `interval`.
        draws: likewise.
        seed: likewise.

    Raises:
        ShapeError: runs over other numbers of images or classes.
    """
    if (one.images, one.classes) != (other.images, other.classes):
        raise ShapeError(
            f"Got {one.images} images of {one.classes} classes and {other.images} of {other.classes}. Accepted are the same images "
            "and classes. Pair runs over the same items."
        )
    plain = np.ones((1, one.images))
    whole = scores(one, plain, average=average)[0] - scores(other, plain, average=average)[0]
    left, right = _drawn((one, other), average, draws, seed)
    return _interval(whole, left - right)


def ratio(top: Float64[np.ndarray, " n"], bottom: Float64[np.ndarray, " n"], *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % interval over images of Σ top / Σ bottom: a mean over pixels, of which images hold other numbers each.

    Args:
        top: sum over each image's pixels; a difference of two runs' sums is a paired interval of the difference of their means.
        bottom: pixels of each image.
        draws: as in `interval`.
        seed: likewise.

    Raises:
        OptionError: no draw, or no image.
    """
    if draws < 1 or not len(top):
        raise OptionError(f"Got {draws} draws of {len(top)} images. Accepted are 1 and more of each. Give more.")
    found: list[Float64[np.ndarray, " d"]] = []
    for weights in _weights(len(top), draws, seed):
        below = weights @ bottom
        found.append(np.divide(weights @ top, below, out=np.full(len(weights), np.nan), where=below > 0))
    return _interval(float(top.sum() / bottom.sum()) if bottom.sum() > 0 else float("nan"), np.concatenate(found))


def scores(tallies: Tallies, weights: Float64[np.ndarray, "d n"], *, average: str = "union") -> Float64[np.ndarray, " d"]:
    """Data-set mIoU in percent, each image counted as often as its weight says; NaN where nothing is left to score."""
    return _scored(_parts(tallies, average), weights, average)


def miou(tallies: Tallies, *, average: str = "union") -> float:
    """Data-set mIoU in percent, each image once."""
    return float(scores(tallies, np.ones((1, tallies.images)), average=average)[0])


def _parts(tallies: Tallies, average: str) -> tuple[csr_array, ...]:
    if average not in AVERAGES:
        raise OptionError(f"Got the average {average!r}. Accepted are {', '.join(AVERAGES)}. Choose one of them.")
    parts = (tallies.both, tallies.union, *((tallies.true,) if average == "truth" else ()))
    return tuple(part.T.tocsr() for part in parts)


def _scored(parts: Sequence[csr_array], weights: Float64[np.ndarray, "d n"], average: str) -> Float64[np.ndarray, " d"]:
    # Whole numbers below 2^53 in floats: sums are exact, whatever their order.
    both, union, *rest = (part @ weights.T for part in parts)
    counted = rest[0] > 0 if rest else union > 0
    below = union + (_SMOOTH if average == "truth" else 0)
    iou = np.divide(both, below, out=np.zeros_like(both), where=counted)
    classes = counted.sum(0)
    return np.divide(100 * iou.sum(0), classes, out=np.full(weights.shape[0], np.nan), where=classes > 0)


def _drawn(runs: Sequence[Tallies], average: str, draws: int, seed: int) -> list[Float64[np.ndarray, " d"]]:
    """Scores of each run on the same draws."""
    if draws < 1 or runs[0].images < 1:
        raise OptionError(f"Got {draws} draws of {runs[0].images} images. Accepted are 1 and more of each. Give more.")
    parts = [_parts(run, average) for run in runs]
    found: list[list[Float64[np.ndarray, " d"]]] = [[] for _ in runs]
    for weights in _weights(runs[0].images, draws, seed):
        for kept, part in zip(found, parts, strict=True):
            kept.append(_scored(part, weights, average))
    return [np.concatenate(kept) for kept in found]


def _weights(images: int, draws: int, seed: int) -> Iterator[Float64[np.ndarray, "d n"]]:
    """How often each image is drawn, a few draws at a time; the stream is the same however many."""
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // images)
    for start in range(0, draws, step):
        yield rng.multinomial(images, np.full(images, 1 / images), size=min(step, draws - start)).astype(np.float64)


def _interval(value: float, drawn: Float64[np.ndarray, " d"]) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))
