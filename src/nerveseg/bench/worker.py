"""Process one image of a benchmark: segment it by the words of its data set, compare with its mask, count."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from nerveseg.bench import calibration, confusion
from nerveseg.bench.job import Job
from nerveseg.bench.words import Asked, ask
from nerveseg.datasets import IGNORE, DataSet, Item
from nerveseg.datasets.base import Mask
from nerveseg.image import LoadedImage
from nerveseg.reprs import brief
from nerveseg.runs.worker import Record
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter

__all__ = ["Make", "Scoring", "line"]

_SIZE = 16  # digits of an image's digest that a line keeps


@dataclass(frozen=True)
class Make:
    """Makes a worker for a job, in whatever process it is called."""

    job: Job

    __repr__ = brief

    def __call__(self) -> Scoring:
        """A worker that has loaded nothing yet."""
        return Scoring(self.job)


class Scoring:
    """Scores the images of one job; the networks are loaded by `start`, once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._data: DataSet
        self._items: dict[str, Item]
        self._segmenter: Segmenter
        self._asked: Asked | None = None

    def start(self) -> None:
        """Open the data set and load the networks."""
        job = self._job
        self._data = job.open()
        self._items = {item.id: item for item in self._data.items}
        self._segmenter = job.load()
        if self._data.offered is None or job.offer == "all":
            self._asked = ask(self._data, offer=job.offer, misses=job.rules.misses)

    def read(self, item: str) -> tuple[LoadedImage, Mask]:
        """An image and its mask."""
        return self._data.read(self._items[item])

    def work(self, item: str, read: tuple[LoadedImage, Mask]) -> Record:
        """Segment it and count."""
        image, truth = read
        asked = self._asked or ask(self._data, self._items[item], offer=self._job.offer, misses=self._job.rules.misses)
        result = self._segmenter(image, asked.vocabulary, background=asked.background)
        started = time.perf_counter()
        found = line(result, asked, truth, self._data.classes)
        stages = {stage: seconds for stage, seconds in result.seconds.items() if stage != "read"}
        return Record(found, {**stages, "score": time.perf_counter() - started})

    def stop(self) -> None:
        """Nothing is held that has to be given back."""


def line(result: Segmentation, asked: Asked, truth: Mask, classes: int) -> dict[str, Any]:
    """What is kept of one image.

    Args:
        result: its segmentation by the words of ``asked``.
        asked: see there.
        truth: ids of the data set's classes, 65535 where a pixel is ignored; of the image's size.
        classes: C.

    Returns:
        ``image``: first digits of its digest; ``size``: [height, width]; ``confusion``: [truth, guess, pixels] sorted, guess C for none
        of the classes; ``calibration``: [bin, pixels, right, sum of confidence].
    """
    guess = asked.guess(result.segmentation.numpy())
    confidence = result.confidence().numpy()
    return {
        "picture": result.image.sha256[:_SIZE],
        "size": list(result.size),
        "confusion": confusion.count(truth, guess, classes).tolist(),
        "calibration": [list(row) for row in calibration.bins(confidence, guess == truth, truth != IGNORE)],
    }
