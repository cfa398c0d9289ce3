"""The settings of a benchmark run: the recipe, the data set, and everything else that decides its numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nerveseg import __version__, datasets, registry
from nerveseg import recipe as recipes
from nerveseg.backbones.device import device_and_dtype
from nerveseg.bench.protocol import Protocol, protocol
from nerveseg.bench.words import ask
from nerveseg.datasets import DataSet
from nerveseg.recipe import Recipe, with_absolute_paths
from nerveseg.reprs import brief
from nerveseg.segmenter import Segmenter
from nerveseg.weights.locate import locate_all

__all__ = ["KIND", "Job", "about", "identity"]

KIND = "nerveseg-bench-1"
"""What ``run.json`` of a benchmark's run says it is."""

_PACKAGES = ("torch", "transformers", "diffusers", "numpy", "scipy", "pillow")


@dataclass(frozen=True)
class Job:
    """A recipe on a split of a data set; plain values, so that it can be sent to another process.

    Attributes:
        recipe: a name, a .toml file, or a folder with ``recipe.toml``.
        data: registry name of the data set.
        root: folder of the data sets' folders; None for one that is drawn.
        split: None: the one that scores are published on.
        protocol: "sclip" or "cliper".
        class_names: a list that ships, or a path.
        offer: "listed": the labels that the data set offers in an image, where it says so; "all": every class in every image.
        limit: the first so many items of the list; None: all.
        settings: knobs by dotted name, after the recipe's own for this benchmark.
        seed: of all noise; None: the recipe's.
        device: None: the best there is.
        dtype: of the networks; None: that of the device.
        offline: take no weights from the network.
        low_memory: keep one stage's networks on the device at a time.
        threads: of the processor, for each worker; None: what torch takes.
    """

    recipe: str
    data: str
    root: str | None = None
    split: str | None = None
    protocol: str = "sclip"
    class_names: str = "official"
    offer: str = "listed"
    limit: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    offline: bool = False
    low_memory: bool = False
    threads: int | None = None

    __repr__ = brief

    @property
    def rules(self) -> Protocol:
        """How masks are scored."""
        return protocol(self.protocol)

    def open(self) -> DataSet:
        """Open the data set, and check that its names can be asked for.

        Raises:
            DataError: files or names. RegistryError: no such data set. OptionError: the protocol or the offer.
        """
        misses = self.rules.misses
        data = datasets.open(self.data, self.root, split=self.split, protocol=self.protocol, class_names=self.class_names)
        ask(data, offer=self.offer, misses=misses)
        return data

    def compose(self) -> Recipe:
        """The recipe with its settings for this benchmark, then with those of the job, then with its seed wherever there is noise.

        Weights that lie beside a recipe's file stay named as they are there; `nerveseg.recipe.with_absolute_paths` finds them.
        """
        chosen = recipes.load(self.recipe).for_benchmark(self.data.replace("_", "-")).changed(self.settings)
        return chosen if self.seed is None else chosen.changed(_seeds(chosen, self.seed))

    def placed(self) -> Recipe:
        """The same with weights that can be found from anywhere."""
        return with_absolute_paths(self.recipe, self.compose())

    def load(self) -> Segmenter:
        """Load the networks where the job says, and keep to its threads: what every worker does first."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return Segmenter.from_pretrained(
            self.placed(), device=self.device, dtype=self.dtype, offline=self.offline, low_memory=self.low_memory
        )


def identity(job: Job, data: DataSet) -> dict[str, Any]:
    """What must be equal for results to belong together; reads the weights for their digests (seconds a gigabyte)."""
    recipe, placed = job.compose(), job.placed()
    refs = {kind: placed.weights[kind] for kind in recipe.needs if kind in recipe.weights}
    folders = locate_all(refs, offline=job.offline, asked=recipe.fetched_as)
    return {
        "kind": KIND,
        "recipe": {"name": recipe.name, "knobs": recipe.tables(), "digest": recipe.digest, "toml": recipe.to_toml()},
        "data": {"name": data.name, "split": data.split, "protocol": data.protocol, "classes": data.classes, "about": dict(data.about)},
        "names": {"origin": data.names.origin, "digest": data.names.digest, "classes": list(data.names.names)},
        "offer": job.offer,
        "weights": {kind: folder.digest for kind, folder in folders.items()},
        "dtype": str(device_and_dtype(job.device, job.dtype)[1]).removeprefix("torch."),
        "seed": job.seed,
        "limit": job.limit,
    }


def about(job: Job, *, command: str = "", **more: Any) -> dict[str, Any]:
    """What a reader wants to know of where it ran; nothing of it decides whether a run may go on."""
    return {
        "command": command,
        "root": job.root,
        "device": str(device_and_dtype(job.device, job.dtype)[0]),
        "threads": job.threads,
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count(), "processor": _processor()},
        "versions": {"python": platform.python_version(), "nerveseg": __version__, **{name: _version(name) for name in _PACKAGES}},
        **more,
    }


def _seeds(recipe: Recipe, seed: int) -> dict[str, int]:
    stages = {"labels": recipe.labels, "graph": recipe.graph}
    return {
        f"{part}.seed": seed
        for part, stage in stages.items()
        if stage and "seed" in {knob.name for knob in registry.knobs(stage.module.Options)}
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
