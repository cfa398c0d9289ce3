"""Detect images unlike those that a checkpoint was trained on (out of distribution), and say so.

The embedded pair knows drawn scenes; of a photograph it speaks as surely, and wrongly. So its folders say what their scenes look like:
``images.safetensors`` holds mean and scatter of some statistics of colour and texture. An image further from the mean, in units of the
scatter (Mahalanobis), than nearly all scenes that were held back is told. No photograph was looked at to make it, and published
checkpoints have no such file.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray
from PIL import Image

from nerveseg.backbones.reading import reading
from nerveseg.errors import WeightsError
from nerveseg.image import LoadedImage
from nerveseg.reprs import brief

__all__ = ["FILE", "NOTE", "Familiar", "UnfamiliarImageWarning", "fit", "noted", "of_folders", "read", "statistics"]

FILE = "pictures.safetensors"
NOTE = (
    "The embedded networks know drawn scenes only, and this image is unlike those: its labels mean nothing. "
    "For photographs take a recipe of published weights, such as nerve (nerveseg weights fetch nerve)."
)
_SHORT = 160  # pixels of the shorter side, at most: about what the networks see
_BLOCK = 8
_FEWEST = 48  # blocks; statistics of fewer say little
_SHRINK = 0.5  # of correlations towards none, so that a few hundred scenes are enough for 160 statistics
_RARE = 0.002  # share of the scenes held back that may be further than the bound, before the slack
_SLACK = 1.05
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


class UnfamiliarImageWarning(UserWarning):
    """An image unlike those that the networks were trained on, so that its labels mean nothing."""


@dataclass(frozen=True, eq=False)
class Familiar:
    """What the images of a training look like.

    Attributes:
        mean: of each statistic.
        deviation: of each statistic.
        precision: inverse of the correlations.
        bound: largest distance of an image that is like them.
    """

    mean: Float64[np.ndarray, " f"]
    deviation: Float64[np.ndarray, " f"]
    precision: Float64[np.ndarray, "f f"]
    bound: float

    __repr__ = brief

    def distance(self, image: LoadedImage) -> float:
        """How far an image is from them: about 0.5 for most of them, `bound` at most; NaN where it is too small to say."""
        found = statistics(image)
        return float("nan") if found is None else self._distance(found)

    def _distance(self, found: Float64[np.ndarray, " f"]) -> float:
        z = (found - self.mean) / self.deviation
        return float(np.sqrt(z @ self.precision @ z / len(z)))

    def save(self, folder: Path) -> None:
        """Write `FILE` into a checkpoint's folder."""
        from safetensors.numpy import save_file

        held = {"mean": self.mean, "deviation": self.deviation, "precision": self.precision, "bound": np.array([self.bound])}
        save_file({name: np.ascontiguousarray(each, dtype=np.float32) for name, each in held.items()}, folder / FILE)


def read(path: Path) -> Familiar:
    """Read what `Familiar.save` wrote.

    Raises:
        WeightsError: the file is another.
    """
    from safetensors.numpy import load_file

    with reading(path, "statistics of images"):
        held = {name: np.asarray(each, dtype=np.float64) for name, each in load_file(path).items()}
        count = len(held["mean"])
        shapes = {"mean": (count,), "deviation": (count,), "precision": (count, count), "bound": (1,)}
        if count != _COUNT or any(held[name].shape != shape for name, shape in shapes.items()):
            raise WeightsError(f"Got {path}, whose tensors are not those of {_COUNT} statistics. Fetch it again, or take the file away.")
        return Familiar(held["mean"], held["deviation"], held["precision"], float(held["bound"][0]))


def of_folders(folders: Sequence[Path]) -> Familiar | None:
    """What the first of some checkpoints that says it says of its training's images; None where none does.

    Raises:
        WeightsError: as `read`.
    """
    for folder in folders:
        if (path := folder / FILE).is_file():
            return read(path)
    return None


def noted(image: LoadedImage, known: Familiar | None) -> LoadedImage:
    """The image, with a note and a warning where it is unlike those that are known."""
    if known is None or NOTE in image.notes or not known.distance(image) > known.bound:
        return image
    warnings.warn(NOTE, UnfamiliarImageWarning, stacklevel=2)
    return replace(image, notes=(*image.notes, NOTE))


def fit(seen: Sequence[LoadedImage], held_back: Sequence[LoadedImage]) -> Familiar:
    """Fit to images of a training, and set the bound past nearly all of some others of the same kind."""
    rows = np.stack([found for image in seen if (found := statistics(image)) is not None])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-6
    correlations = np.corrcoef(rows.T) * (1 - _SHRINK) + np.eye(rows.shape[1]) * _SHRINK
    made = Familiar(mean, deviation, np.linalg.inv(correlations), float("inf"))
    far = float(np.nanquantile([made.distance(image) for image in held_back], 1 - _RARE))
    return Familiar(mean, deviation, made.precision, far * _SLACK)


def statistics(image: LoadedImage) -> Float64[np.ndarray, " f"] | None:
    """Statistics of an image's textures and colours, at a short side of at most 160 pixels; None of fewer than 48 blocks of 8 × 8.

    In order: of each of three planes (grey, red − green, blue − yellow) and each of 14 bands of the cosine transform of 8 × 8 blocks
    (u + v = 1 … 14) the logarithms of the root mean square, the mean and the median over blocks; how the planes go together within
    blocks (mean, deviation and mean size of three correlations); seven quantiles of grey, its fourth and third moments, the entropy of its
    histogram; three quantiles of each of two colour differences; mean and deviation of the saturation, share of clipped pixels.
    """
    pixels = _reduced(image)
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    if rows * columns < _FEWEST:
        return None
    x = pixels[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    return np.asarray([*_textures(x, rows, columns), *_tones(x)])


def _reduced(image: LoadedImage) -> UInt8[np.ndarray, "h w 3"]:
    short = min(image.size)
    if short <= _SHORT:
        return image.pixels
    height, width = (max(_BLOCK, round(side * _SHORT / short)) for side in image.size)
    return np.asarray(image.to_pil().resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))


def _cosines() -> Float64[np.ndarray, "8 8"]:
    k = np.arange(_BLOCK)
    return np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * _BLOCK)) * np.where(
        k[:, None] == 0, np.sqrt(1 / _BLOCK), np.sqrt(2 / _BLOCK)
    )


def _textures(x: NDArray[Any], rows: int, columns: int) -> list[float]:
    planes = np.stack([x.mean(2), x[..., 0] - x[..., 1], x[..., 2] - (x[..., 0] + x[..., 1]) / 2])
    blocks = planes.reshape(3, rows, _BLOCK, columns, _BLOCK).transpose(1, 3, 0, 2, 4).reshape(-1, 3, _BLOCK, _BLOCK)
    cosines = _cosines()
    waves = (cosines @ blocks @ cosines.T).reshape(-1, 3, _BLOCK * _BLOCK)
    band = np.add.outer(np.arange(_BLOCK), np.arange(_BLOCK)).ravel()
    found: list[float] = []
    for plane in range(3):
        for each in range(1, 2 * _BLOCK - 1):
            energy = np.square(waves[:, plane, band == each]).mean(1)
            sizes = np.sqrt(energy)
            found += [0.5 * np.log(energy.mean() + 0.3), np.log(sizes.mean() + 0.3), np.log(np.median(sizes) + 0.3)]
    waves = waves[:, :, 1:]
    energies = np.square(waves).sum(2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        together = (waves[:, one] * waves[:, other]).sum(1) / np.sqrt(energies[:, one] * energies[:, other] + 100)
        found += [together.mean(), together.std(), np.abs(together).mean()]
    return found


def _tones(x: NDArray[Any]) -> list[float]:
    grey = x.mean(2)
    centred = (grey - grey.mean()) / (grey.std() + 4)
    shares = np.histogram(grey, 16, (0, 256))[0] / grey.size
    found = [*np.log(np.quantile(grey, _QUANTILES) + 8)]
    found += [np.log1p((centred**4).mean()), (centred**3).mean(), -(shares * np.log(shares + 1e-9)).sum()]
    for difference in (x[..., 0] - x[..., 1], x[..., 2] - x[..., 1]):
        found += [*np.quantile(difference, (0.1, 0.5, 0.9)) / 40]
    most, least = x.max(2), x.min(2)
    saturation = (most - least) / (most + 1)
    found += [saturation.mean(), saturation.std(), np.log((most >= 254).mean() + 0.003), np.log((least <= 2).mean() + 0.003)]
    return found


_COUNT = 3 * 14 * 3 + 9 + 7 + 3 + 6 + 4
