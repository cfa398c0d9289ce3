"""Sparse pixel counts by image and class, from which the mIoU of any resampling of images follows.

An image holds few of a data set's classes, so 5,000 images of 171 classes are some hundred thousand entries.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from nerveseg.reprs import brief

__all__ = ["Tallies", "Tally"]


@dataclass(frozen=True, eq=False)
class Tallies:
    """Pixels of each image that are true, guessed, and both, class by class.

    Attributes:
        both: (images, classes), pixels where truth and guess agree.
        true: likewise, pixels of the class.
        guessed: likewise, pixels that were taken for it.
    """

    both: csr_array
    true: csr_array
    guessed: csr_array

    __repr__ = brief

    @property
    def images(self) -> int:
        """Images n."""
        return cast("tuple[int, int]", self.both.shape)[0]

    @property
    def classes(self) -> int:
        """Classes C."""
        return cast("tuple[int, int]", self.both.shape)[1]

    @property
    def union(self) -> csr_array:
        """Pixels that are true or guessed."""
        return self.true + self.guessed - self.both

    def ordered(self, places: Int64[np.ndarray, " n"]) -> Tallies:
        """The same images in another order."""
        return Tallies(self.both[places], self.true[places], self.guessed[places])


@dataclass
class Tally:
    """Collects images, one at a time.

    Attributes:
        classes: C.
    """

    classes: int
    _images: int = 0
    _places: array[int] = field(default_factory=lambda: array("q"))  # image, class: two numbers an entry
    _pixels: array[int] = field(default_factory=lambda: array("q"))  # both, true, guessed: three

    def add(self, found: Int64[np.ndarray, "m 3"]) -> Int64[np.ndarray, "m 3"]:
        """Take one image's rows (truth, guess, pixels), and give them back; the guess C stands for none of the classes."""
        truth, guess, pixels = found.T
        width = self.classes + 1
        agreed = truth == guess
        sums = [
            np.bincount(where, weights=count, minlength=width)[: self.classes]
            for where, count in ((truth[agreed], pixels[agreed]), (truth, pixels), (guess, pixels))
        ]
        seen = np.flatnonzero(sums[1] + sums[2])
        places = np.stack([np.full_like(seen, self._images), seen], axis=1)
        self._places.frombytes(places.astype(np.int64).tobytes())
        self._pixels.frombytes(np.stack([part[seen] for part in sums], axis=1).astype(np.int64).tobytes())
        self._images += 1
        return found

    def done(self) -> Tallies:
        """What was collected."""
        places = np.frombuffer(self._places, np.int64).reshape(-1, 2)
        pixels: Float64[np.ndarray, "m 3"] = np.frombuffer(self._pixels, np.int64).reshape(-1, 3).astype(np.float64)
        shape = (self._images, self.classes)
        return Tallies(*(csr_array((pixels[:, part], (places[:, 0], places[:, 1])), shape=shape) for part in range(3)))
