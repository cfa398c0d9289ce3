"""The settings of a batch that decide its masks; plain values, so that they can be sent to another process."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nerveseg import __version__, registry
from nerveseg import recipe as recipes
from nerveseg.backbones.device import device_and_dtype
from nerveseg.errors import OptionError
from nerveseg.image import tiles
from nerveseg.image.samples import Choice
from nerveseg.recipe import Recipe, with_absolute_paths
from nerveseg.reprs import brief
from nerveseg.runs.plan import canonical
from nerveseg.segmenter import Segmenter
from nerveseg.weights.locate import locate_all
from nerveseg.words.vocabulary import Background, Vocabulary, need_background
from nerveseg.writers import base

__all__ = ["KIND", "Job", "identity"]

KIND = "nerveseg-batch-1"
"""What the plan and the record of a batch say they are."""

_PACKAGES = ("torch", "transformers", "diffusers", "numpy", "pillow")


@dataclass(frozen=True)
class Job:
    """Words, a recipe and a format.

    Attributes:
        labels: as `Segmenter.__call__` takes them.
        background: likewise.
        recipe: a name, a .toml file, or a folder with ``recipe.toml``.
        settings: knobs by dotted name.
        format: name in the registry kind ``writers``.
        writer: knobs of the writer.
        abstain: pixels less probable than this get the ignored id; None, or 0: none do. Larger: more of them.
        tile: side in pixels of tiles, for big images; None: images as a whole.
        overlap: share of a tile's side that its neighbour has, too.
        seed: of the diffusion noise; None: the recipe's.
        device: None: the best there is.
        dtype: of the networks; None: that of the device.
        offline: take no weights from the network.
        low_memory: keep one stage's networks on the device at a time.
        threads: of the processor, for each worker; None: what torch takes.
        bands: of files, that become red, green and blue; see `nerveseg.image.load`.
        value_range: values that become 0 and 255; likewise.
    """

    labels: Any
    background: Any = None
    recipe: str = "nerve"
    settings: Mapping[str, Any] = field(default_factory=dict)
    format: str = "png"
    writer: Mapping[str, Any] = field(default_factory=dict)
    abstain: float | None = None
    tile: int | None = None
    overlap: float = tiles.OVERLAP
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    offline: bool = False
    low_memory: bool = False
    threads: int | None = None
    bands: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None

    __repr__ = brief

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels."""
        return Vocabulary.parse(self.labels)

    @property
    def writes(self) -> ModuleType:
        """The writer's file."""
        return registry.load("writers", self.format)

    @property
    def writer_options(self) -> Any:
        """The writer's knobs, checked."""
        return registry.options(self.writes.Options, self.writer, f"writers.{self.format}")

    def compose(self) -> Recipe:
        """The recipe with the settings."""
        return recipes.load(self.recipe, self.settings)

    def check(self, folder: Path) -> None:
        """Refuse what no image could be labelled with, before any is read.

        Raises:
            LabelError: the words. OptionError: a knob. RegistryError: no such format. OutputError: too many labels for it.
        """
        background = Background.parse(self.background, self.vocabulary)
        need_background(self.vocabulary, background)
        base.check_holds(self.writes, len(self.vocabulary) + (background is not None), folder)
        _ = self.writer_options
        _ = Choice(self.bands, self.value_range)
        if self.tile is not None:
            tiles.check(self.tile, self.overlap)
        if self.abstain is not None and not 0.0 <= self.abstain <= 1.0:
            raise OptionError(f"Got abstain = {self.abstain:g}. Accepted is 0 to 1. Try 0.6.")

    def load(self) -> Segmenter:
        """Load the networks, and keep to the job's threads: what every worker does first."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        placed = with_absolute_paths(self.recipe, self.compose())
        return Segmenter.from_pretrained(placed, device=self.device, dtype=self.dtype, offline=self.offline, low_memory=self.low_memory)


def identity(job: Job) -> dict[str, Any]:
    """What must be equal for masks to belong in one folder; reads the weights for their digests (seconds a gigabyte)."""
    recipe = job.compose()
    placed = with_absolute_paths(job.recipe, recipe)
    refs = {kind: placed.weights[kind] for kind in recipe.needs if kind in recipe.weights}
    folders = locate_all(refs, offline=job.offline, asked=recipe.fetched_as)
    background = Background.parse(job.background, job.vocabulary)
    labels: Sequence[Any] = job.vocabulary.labels
    found = {
        "kind": KIND,
        "labels": [{"id": at, "name": label.name, "strings": list(label.strings)} for at, label in enumerate(labels)],
        "background": None if background is None else list(background.strings),
        "recipe": {"name": recipe.name, "knobs": recipe.tables(), "digest": recipe.digest, "toml": recipe.to_toml()},
        "weights": {kind: folder.digest for kind, folder in folders.items()},
        "dtype": str(device_and_dtype(job.device, job.dtype)[1]).removeprefix("torch."),
        "seed": job.seed,
        "tile": None if job.tile is None else [job.tile, job.overlap],
        "abstain": job.abstain,
        **{name: value for name, value in (("bands", job.bands), ("value_range", job.value_range)) if value is not None},
        "format": {
            "name": job.format,
            "knobs": {knob.name: getattr(job.writer_options, knob.name) for knob in registry.knobs(job.writes.Options)},
        },
        # Files name the versions that made them, so one folder has one set of them.
        "versions": {"python": platform.python_version(), "nerveseg": __version__, **{name: _version(name) for name in _PACKAGES}},
    }
    return json.loads(canonical(found, what="a batch's settings"))  # as it is read back


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
