"""Load the networks lazily, at the first readable image, and process each image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nerveseg.cli._console import still, waiting

if TYPE_CHECKING:
    from pathlib import Path

    from nerveseg.cli._places import Place
    from nerveseg.clicks import Click
    from nerveseg.image.load import LoadedImage
    from nerveseg.recipe import Recipe
    from nerveseg.segmentation import Segmentation
    from nerveseg.segmenter import Encoding, Segmenter
    from nerveseg.words.vocabulary import Background, Vocabulary

__all__ = ["Networks", "Session", "save"]


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of one recipe.

    Attributes:
        recipe: a name, a file or a folder.
        device: None has it chosen.
        dtype: None has it chosen.
        offline: never ask the network.
        settings: knobs by dotted name.
        low_memory: keep only one stage's networks on the device.
    """

    recipe: str
    device: str | None = None
    dtype: str | None = None
    offline: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    low_memory: bool = False
    _made: list[tuple[Segmenter, float]] = field(default_factory=list)

    def check(self) -> Recipe:
        """Compose the recipe, so that a wrong knob is told before any image is read."""
        from nerveseg import recipe

        with waiting("reading the recipe"):
            return recipe.load(self.recipe, self.settings)

    def segmenter(self) -> Segmenter:
        """The networks, loaded on first use."""
        if not self._made:
            started = time.perf_counter()
            with waiting(f"loading the networks of {self.recipe!r}"):
                from nerveseg.segmenter import Segmenter

                still()
                made = Segmenter.from_pretrained(
                    self.recipe,
                    device=self.device,
                    dtype=self.dtype,
                    offline=self.offline,
                    low_memory=self.low_memory,
                    settings=self.settings,
                )
            self._made.append((made, time.perf_counter() - started))
        return self._made[0][0]

    @property
    def seconds(self) -> float:
        """How long loading took, imports included; 0 before."""
        return self._made[0][1] if self._made else 0.0


@dataclass(frozen=True, eq=False)
class Session:
    """One list of labels for any number of images.

    Attributes:
        networks: what reads the images.
        vocabulary: the labels.
        background: what stands for the rest, or None.
        seed: of the diffusion noise; None takes the recipe's.
        tile: side in pixels of tiles; None: images as a whole.
        overlap: share of a tile's side that its neighbour has, too.
        clicks: pixels whose labels are known.
        knobs: of clicks, by dotted name.
        abstain: pixels less probable than this get the ignored id; None: none do.
    """

    networks: Networks
    vocabulary: Vocabulary
    background: Background | None = None
    seed: int | None = None
    tile: int | None = None
    overlap: float = 0.25
    clicks: tuple[Click, ...] = ()
    knobs: Mapping[str, Any] = field(default_factory=dict)
    abstain: float | None = None

    def check(self) -> None:
        """Refuse a tile, an overlap or a threshold out of range before any network is loaded."""
        from nerveseg.errors import OptionError
        from nerveseg.image.tiles import check

        if self.abstain is not None and not 0.0 <= self.abstain <= 1.0:
            raise OptionError(f"Got abstain = {self.abstain:g}. Accepted is 0 to 1. Try 0.6.")
        if self.tile is not None:
            check(self.tile, self.overlap)

    def encode(self, image: LoadedImage) -> Encoding:
        """Pass an image through the networks."""
        return self.networks.segmenter().encode(image, seed=self.seed, tile=self.tile, overlap=self.overlap)

    def segment(self, image: LoadedImage) -> Segmentation:
        """Label every pixel."""
        encoding = self.encode(image)
        result = self.networks.segmenter().decode(
            encoding, self.vocabulary, background=self.background, clicks=self.clicks, settings=self.knobs
        )
        return result if self.abstain is None else result.abstain(self.abstain)


def save(result: Segmentation, place: Place) -> tuple[tuple[Path, ...], dict[str, float]]:
    """Write the label map, its record and, where the place has one, the overlay; gives the files, and stage → seconds."""
    started = time.perf_counter()
    files = result.save(place.ids)
    written = time.perf_counter()
    if place.overlay is None:
        return files, {"write": written - started}
    files = (*files, *result.save(place.overlay))
    return files, {"write": written - started, "overlay": time.perf_counter() - written}
