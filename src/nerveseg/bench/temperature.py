"""Fit one temperature on a few labelled images, and validate it on others.

Images are parted in two as `nerveseg.bench.holdout` does. On one half T is where the mean of −ln p_y(T) over pixels is least, p_y the
score of the true label; that mean is convex in 1/T (Guo et al., 2017), so there is one such T. The other half is looked at once, with the
recipe as it was and with T. Only where the paired interval of what it gains leaves 0 out is the temperature kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nerveseg.bench import calibration
from nerveseg.bench.cache import Kept
from nerveseg.bench.calibration import Calibration
from nerveseg.bench.holdout import halves
from nerveseg.bench.job import Job
from nerveseg.bench.report.bootstrap import Interval, ratio
from nerveseg.bench.words import Asked, ask
from nerveseg.datasets import DataSet
from nerveseg.datasets.base import Mask
from nerveseg.errors import DataError
from nerveseg.masks.temperature import LEAST, MOST, sums
from nerveseg.reprs import brief
from nerveseg.runs.atomic_write import writing
from nerveseg.segmentation import Segmentation

__all__ = ["PIXELS", "Calibrated", "Labelled", "Measured", "Sample", "calibrate", "fit", "labelled", "loss", "measured", "sample"]

PIXELS = 4096
"""Pixels of an image that T is chosen on, drawn by its name; more than that say little new, as neighbours are alike."""

_FLOOR = 1e-12  # of the share of the true label: one pixel of no share would decide the mean alone
_CLOSE = 1e-4  # how far ln T may be from the least
_DIGITS = 4  # of T that are kept
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image's result beside its truth.

    Attributes:
        result: as it was segmented, without a temperature.
        truth: the result's id of each pixel's class; −1 where none is counted.
        counted: pixels whose class is known and was asked for.
    """

    result: Segmentation
    truth: Int64[Tensor, "H W"]
    counted: Bool[Tensor, "H W"]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Sample:
    """What T is chosen on, of one image.

    Attributes:
        logs: ln p of each label at some pixels, −∞ where a label has no share.
        truth: the label that each has.
        weight: labelled pixels that each stands for.
    """

    logs: Float[Tensor, "m K"]
    truth: Int64[Tensor, " m"]
    weight: float

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores of a temperature against the truth.

    Attributes:
        temperature: T.
        nll: −ln of the true label's score, the mean over labelled pixels, in nats. Less is better, and wrong and sure is worst.
        gain: NLL of the first temperature that was measured beside it − its own, with the paired 95 % interval over images.
        calibration: confidence against truth, for the ECE and the plot.
    """

    temperature: float
    nll: float
    gain: Interval
    calibration: Calibration


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What came of it.

    Attributes:
        before: the recipe as it was, on the images that had no say.
        after: the recipe with the temperature, there.
        images: how many chose T, and how many had no say.
        toml: the recipe with the temperature; nothing else is changed.
    """

    before: Measured
    after: Measured
    images: tuple[int, int]
    toml: str

    @property
    def real(self) -> bool:
        """Whether the gain is one: its interval lies above 0."""
        return self.after.gain.low > 0


def calibrate(
    job: Job, out: str | Path | None = None, *, cache: str | Path | None = None, said: Callable[[str, int], None] | None = None
) -> Calibrated:
    """Choose a recipe's temperature on half of some labelled images, and check it on the other half.

    Args:
        job: recipe, data set and split; the split should be one that nothing is reported on.
        out: the recipe's file, written where the gain is real; None writes nothing.
        cache: folder of encodings, which later calls and `nerveseg.bench.tune` read; None keeps none.
        said: called as ``said("fit" or "check", images done)``.

    Raises:
        DataError: fewer than eight images, or halves without a labelled pixel. What the recipe and the data set raise.

    Cost: every image is encoded and decoded once; memory `PIXELS` · K numbers an image of the first half.
    """
    data, recipe = job.open(), job.placed()
    seen, unseen = halves(data, job.limit)
    images = _Images(job, data, Kept(job.load(), None if cache is None else Path(cache)), said)
    chosen = fit([sample(one, seed=_seed(name)) for name, one in images.each("fit", seen)])
    before, after = measured((one for _, one in images.each("check", unseen)), (recipe.temperature, chosen))
    result = Calibrated(before, after, (len(seen), len(unseen)), recipe.changed({"masks.temperature": chosen}).to_toml())
    if out is not None and result.real:
        with writing(Path(out)) as file:
            file.write(_comment(result, job) + result.toml)
    return result


def labelled(result: Segmentation, asked: Asked, mask: Mask) -> Labelled:
    """Put a result beside a mask of the data set.

    Args:
        result: its segmentation by the words of ``asked``; a temperature that it has is taken off.
        asked: see there.
        mask: ids of the data set's classes. A pixel counts where its class is one that was asked for.
    """
    place = np.full(np.iinfo(np.uint16).max + 1, -1, np.int64)
    place[asked.ids] = np.arange(len(asked.ids))
    truth = torch.from_numpy(place[mask])
    return Labelled(dataclasses.replace(result, temperature=1.0), truth, truth >= 0)


def sample(one: Labelled, *, seed: int = 0, pixels: int = PIXELS) -> Sample:
    """Draw labelled pixels of an image and keep the shares of all labels there; all labelled pixels where they are fewer.

    Args:
        one: the image.
        seed: of the draw.
        pixels: at most so many. Larger: more memory, `PIXELS` · K numbers.
    """
    places = one.counted.flatten().nonzero()[:, 0]
    known = len(places)
    if known > pixels:
        drawn = np.random.default_rng(seed).choice(known, pixels, replace=False)
        places = places[torch.from_numpy(np.sort(drawn))]
    parts = [block.flatten(1)[:, places] for _, block in one.result.score_blocks()]
    return Sample(torch.cat(parts).T.clamp_min(0.0).log(), one.truth.flatten()[places], known / max(1, len(places)))


def fit(samples: Sequence[Sample]) -> float:
    """Find the temperature at which −ln p_y(T) is least in the mean over labelled pixels, by golden section on ln T.

    Args:
        samples: of each image.

    Returns:
        T to four digits, between `LEAST` and `MOST`; an end of that where it goes on falling, as where no sampled pixel is wrong.

    Raises:
        DataError: no labelled pixel.
    """
    if not sum(len(one.truth) for one in samples):
        raise _unlabelled(len(samples))
    low, high = math.log(LEAST), math.log(MOST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at = [_mean(samples, math.exp(left)), _mean(samples, math.exp(right))]
    while high - low > _CLOSE:
        if at[0] <= at[1]:
            high, right = right, left
            left = high - _GOLDEN * (high - low)
            at = [_mean(samples, math.exp(left)), at[0]]
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
            at = [at[1], _mean(samples, math.exp(right))]
    return min(MOST, max(LEAST, float(f"{math.exp((low + high) / 2):.{_DIGITS}g}")))


def loss(one: Labelled, temperature: float) -> Float[Tensor, "H W"]:
    """−ln of the true label's score at a temperature, in nats, computed by logarithms; 0 where a pixel does not count."""
    own = dataclasses.replace(one.result, segmentation=one.truth).confidence().clamp_min(_FLOOR)
    top, total = sums(one.result.score_blocks(), one.result.size, temperature)
    return (total.log() - (own / top).log() / temperature).masked_fill_(~one.counted, 0.0)


def measured(images: Iterable[Labelled], temperatures: Sequence[float]) -> tuple[Measured, ...]:
    """Measure some temperatures on the same images, each of which is looked at once and let go.

    Args:
        images: with their truths.
        temperatures: the first is what the others' gains are over.

    Raises:
        DataError: no labelled pixel.
    """
    rows: list[list[list[calibration.Row]]] = [[] for _ in temperatures]
    losses: list[list[float]] = []
    pixels: list[int] = []
    for one in images:
        counted = one.counted.numpy()
        right = (one.result.segmentation == one.truth).numpy()
        for found, temperature in zip(rows, temperatures, strict=True):
            sure = dataclasses.replace(one.result, temperature=temperature).confidence().numpy()
            found.append(calibration.bins(sure, right, counted))
        losses.append([float(loss(one, temperature).double().sum()) for temperature in temperatures])
        pixels.append(int(counted.sum()))
    if not sum(pixels):
        raise _unlabelled(len(pixels))
    each, counts = np.array(losses, np.float64), np.array(pixels, np.float64)
    return tuple(
        Measured(
            temperature,
            float(each[:, at].sum() / counts.sum()),
            ratio(each[:, 0] - each[:, at], counts),
            calibration.total(rows[at]),
        )
        for at, temperature in enumerate(temperatures)
    )


@dataclass(frozen=True)
class _Images:
    """Segments labelled images by a job's recipe."""

    job: Job
    data: DataSet
    kept: Kept
    said: Callable[[str, int], None] | None

    def each(self, part: str, names: Sequence[str]) -> Iterator[tuple[str, Labelled]]:
        """Name and result of each, one at a time."""
        items = {item.id: item for item in self.data.items}
        for done, name in enumerate(names, 1):
            image, mask = self.data.read(items[name])
            asked = ask(self.data, items[name], offer=self.job.offer, misses=self.job.rules.misses)
            encoding = self.kept.encode(image)
            yield name, labelled(self.kept.segmenter.decode(encoding, asked.vocabulary, background=asked.background), asked, mask)
            if self.said is not None:
                self.said(part, done)


def _mean(samples: Iterable[Sample], temperature: float) -> float:
    """Mean over labelled pixels of −ln p_y(T)."""
    total, count = 0.0, 0.0
    for one in samples:
        logs = one.logs.double() / temperature
        own = one.logs.double().gather(1, one.truth[:, None])[:, 0].clamp_min(math.log(_FLOOR)) / temperature
        total += one.weight * float((logs.logsumexp(1) - own).sum())
        count += one.weight * len(one.truth)
    return total / count


def _unlabelled(images: int) -> DataError:
    return DataError(
        f"Got {images} images without a labelled pixel of a class that is asked for. Accepted is one pixel and more. "
        "Check the masks and the names."
    )


def _seed(name: str) -> int:
    """The same pixels of an image, whatever the other images."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _comment(result: Calibrated, job: Job) -> str:
    before, after, gain = result.before, result.after, result.after.gain
    return (
        f"# masks.temperature of {job.recipe} from {result.images[0]} images of {job.data}; on {result.images[1]} others NLL "
        f"{before.nll:.4f} -> {after.nll:.4f}, less by {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}], "
        f"ECE {100 * before.calibration.ece:.1f} -> {100 * after.calibration.ece:.1f} %.\n"
    )
