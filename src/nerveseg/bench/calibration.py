"""Calibration counts: twenty bins of confidence, each with its pixels, the correct ones, and the sum of confidence.

    ECE = Σ_b n_b/N · |right_b/n_b − confidence_b/n_b|

Pixels are dropped from the least sure bin on for the risk at a coverage: what is wrong among those that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from nerveseg.reprs import brief

__all__ = ["BINS", "Calibration", "Row", "bins", "total"]

BINS = 20
"""Equal bins of confidence from 0 to 1; the last holds 1."""

_DIGITS = 6  # of an image's sum of confidence, so that a line reads the same however it was added up

Row = tuple[int, int, int, float]
"""Bin, pixels, right ones, sum of confidence."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence against truth over a data set, bin by bin from the least sure.

    Attributes:
        pixels: n_b.
        right: those whose class is the true one.
        confidence: sum of confidence.
    """

    pixels: Int64[np.ndarray, " b"]
    right: Int64[np.ndarray, " b"]
    confidence: Float64[np.ndarray, " b"]

    __repr__ = brief

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 … 1; 0: a confidence of 0.7 is right 7 times of 10. NaN without a pixel."""
        if not self.pixels.any():
            return float("nan")
        return float(np.abs(self.right - self.confidence).sum() / self.pixels.sum())

    @property
    def risk_coverage(self) -> tuple[tuple[float, float, float], ...]:
        """(lowest confidence, coverage, risk) for each edge of a bin that has pixels, from the surest bin to all of them.

        Coverage: share of pixels at that confidence or above it. Risk: share of wrong ones among them.
        """
        whole = int(self.pixels.sum())
        points: list[tuple[float, float, float]] = []
        kept, good = 0, 0
        for place in reversed(range(len(self.pixels))):
            if self.pixels[place]:
                kept, good = kept + int(self.pixels[place]), good + int(self.right[place])
                points.append((place / len(self.pixels), kept / whole, 1 - good / kept))
        return tuple(points)

    @property
    def risk_area(self) -> float:
        """Area under risk over coverage, 0 … 1 (trapezoids; below the first point the risk of the first); NaN without a pixel."""
        points = self.risk_coverage
        if not points:
            return float("nan")
        area, before = 0.0, (0.0, points[0][2])
        for _, coverage, risk in points:
            area += (coverage - before[0]) * (risk + before[1]) / 2
            before = (coverage, risk)
        return area


def bins(confidence: Float32[np.ndarray, "H W"], right: Bool[np.ndarray, "H W"], counted: Bool[np.ndarray, "H W"]) -> list[Row]:
    """Sort one image's pixels into the bins.

    Args:
        confidence: 0 … 1.
        right: where the guess is the truth.
        counted: where the truth is not ignored.

    Returns:
        The bins that have pixels, in order.
    """
    sure, good = confidence[counted], right[counted]
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    pixels = np.bincount(place, minlength=BINS)
    rights = np.bincount(place[good], minlength=BINS)
    sums = np.bincount(place, weights=sure.astype(np.float64), minlength=BINS)
    return [(at, int(pixels[at]), int(rights[at]), round(float(sums[at]), _DIGITS)) for at in np.flatnonzero(pixels).tolist()]


def total(images: Iterable[Sequence[Sequence[float]]]) -> Calibration:
    """Sum images' rows up, one image at a time; the order does not matter to the last bit."""
    counts = np.zeros((2, BINS), np.int64)
    # Whole millionths: sums of floats would depend on the order.
    millionths = [0] * BINS
    for rows in images:
        for at, pixels, right, confidence in rows:
            counts[:, int(at)] += (int(pixels), int(right))
            millionths[int(at)] += round(confidence * 10**_DIGITS)
    return Calibration(counts[0], counts[1], np.array([part / 10**_DIGITS for part in millionths], np.float64))
