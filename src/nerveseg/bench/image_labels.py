"""Image-level labels: the classes in an image, from its mask, from a file, or from a tagger.

A file has one image a line, its id first: ``2007_000032 aeroplane; person`` with names or other strings of the classes, or
``2007_000032 0 14`` with numbers that count the classes without the background from 0 (TagCLIP's format). A line with the id alone says
that none of the classes is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from nerveseg import backbones, text_files
from nerveseg import recipe as recipes
from nerveseg.backbones.device import device_and_dtype
from nerveseg.datasets import IGNORE, DataSet, Item
from nerveseg.datasets.base import Mask
from nerveseg.errors import DataError, OptionError
from nerveseg.image import LoadedImage
from nerveseg.image.names import stem as stem_of
from nerveseg.labels import tagclip
from nerveseg.labels.base import Words
from nerveseg.recipe import Recipe, with_absolute_paths
from nerveseg.reprs import brief
from nerveseg.weights.locate import Folder, locate
from nerveseg.words.prompts import clean, template_set

__all__ = ["Tagger", "digest", "from_mask", "read", "stem", "tagging"]


def from_mask(truth: Mask, data: DataSet) -> tuple[int, ...]:
    """The classes that a mask has, in the order of their ids; neither the background nor what is ignored."""
    first = 1 if data.background else 0
    return tuple(int(index) for index in np.unique(truth) if first <= index != IGNORE)


def stem(item: Item) -> str:
    """What an image's files are called: as the image, or as the item where it is a part of one or is drawn."""
    return item.id.replace("/", "_") if item.image is None or item.box is not None else stem_of(item.image.name)


def read(path: str | Path, data: DataSet, items: Iterable[Item]) -> dict[str, tuple[int, ...]]:
    """Read a file of labels: item → ids of classes, sorted.

    Args:
        path: the file, see above. Ids are those of the items, or names of the images, with their ending or without.
        data: whose classes are meant.
        items: that need a line.

    Raises:
        DataError: a file that cannot be read, a line that names no class, an image twice, or images without a line.
    """
    place = Path(path)
    known = _strings(data)
    found: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(_lines(place), start=1):
        name, _, rest = line.strip().partition(" ")
        if not name:
            continue
        key = PurePosixPath(stem_of(name)).name if stem_of(name) != name else name
        if key in found:
            raise DataError(f"Got {key!r} twice in {place}, line {number}. Accepted is one line an image. Take one out.")
        found[key] = _classes(rest, known, data, f"line {number} of {place}")
    return {item.id: _of(found, item, place) for item in items}


def digest(path: str | Path) -> str:
    """Sha256 of a file of labels, the first 16 digits."""
    return hashlib.sha256("\n".join(_lines(Path(path))).encode()).hexdigest()[:16]


def _lines(path: Path) -> list[str]:
    return [line.replace("\t", " ") for line in text_files.read(path, "the labels", DataError).split("\n")]


def _strings(data: DataSet) -> dict[str, int]:
    known: dict[str, int] = {}
    for index, label in enumerate(data.names.labels):
        if index or not data.background:
            for string in (label.name, *label.strings):
                known.setdefault(clean(string).casefold(), index)
    return known


def _classes(rest: str, known: Mapping[str, int], data: DataSet, where: str) -> tuple[int, ...]:
    words = rest.split()
    if words and all(word.isdigit() for word in words):
        first = 1 if data.background else 0
        numbers = {int(word) + first for word in words}
        if max(numbers) >= data.classes:
            raise DataError(
                f"Got the number {max(numbers) - first} in {where}. Accepted are 0 to {data.classes - first - 1}, the classes of "
                f"{data.name} without its background. Number them from 0."
            )
        return tuple(sorted(numbers))
    parts = [part.strip() for part in rest.split(";") if part.strip()]
    for part in parts:
        if clean(part).casefold() not in known:
            raise DataError(
                f"Got {part!r} in {where}, which is no class of {data.name}. Accepted are the names {data.names.origin}, parted by ';', or "
                "numbers from 0. Mend the line."
            )
    return tuple(sorted({known[clean(part).casefold()] for part in parts}))


def _of(found: Mapping[str, tuple[int, ...]], item: Item, path: Path) -> tuple[int, ...]:
    for name in (item.id, stem(item)):
        if name in found:
            return found[name]
    raise DataError(
        f"Got no line for {item.id!r} in {path}. Accepted is one for every image, with its id alone where no class is in it. Add it."
    )


@dataclass(frozen=True)
class Tagger:
    """TagCLIP with the words of a data set, loaded.

    Attributes:
        clip: the network.
        options: TagCLIP's knobs.
        words: of all classes but the background, whose strings act in denominators.
        ids: class of each column.
        threshold: classes with a larger score are in the image; None: TagCLIP's own, relative one. The surest class always is.
    """

    clip: Any
    options: tagclip.Options
    words: Words
    ids: tuple[int, ...]
    threshold: float | None

    __repr__ = brief

    @torch.no_grad()
    def __call__(self, image: LoadedImage) -> tuple[int, ...]:
        """The classes in an image, in the order of their ids; one or more."""
        networks = {"clip": self.clip}
        features = tagclip.encode(tagclip.look(image, networks, self.options), networks, self.options)
        scores = tagclip.class_scores(features, self.words, networks, self.options)
        low, high = float(scores.min()), float(scores.max())
        edge = low + self.options.relative * (high - low) if self.threshold is None else self.threshold
        best = int(scores.argmax())
        return tuple(self.ids[c] for c, score in enumerate(scores.tolist()) if score > edge or c == best)

    @classmethod
    def load(
        cls, recipe: Recipe, data: DataSet, *, threshold: float | None, device: str | None, dtype: str | None, offline: bool
    ) -> Tagger:
        """Load the CLIP of a recipe and encode the classes of a data set.

        Args:
            recipe: from `tagging`.
            data: its classes.
            threshold: see above.
            device: None has it chosen.
            dtype: None has it chosen.
            offline: never ask the network.
        """
        place, precision = device_and_dtype(device, dtype)
        with torch.random.fork_rng(devices=[]):
            clip = backbones.load("clip", weights(recipe, offline=offline).path, device=place, dtype=precision)
        first = 1 if data.background else 0
        labels = data.names.labels[first:]
        strings = tuple(string for label in labels for string in label.strings)
        taken = {clean(string).casefold() for string in strings}
        others = tuple(string for string in (data.names.labels[0].strings if first else ()) if clean(string).casefold() not in taken)
        rows = clip.text([*strings, *others], template_set(recipe.templates))
        groups = tuple(index for index, label in enumerate(labels) for _ in label.strings)
        words = Words(strings, groups, others, rows[: len(strings)], rows[len(strings) :])
        return cls(clip, recipe.labels.options, words, tuple(range(first, data.classes)), threshold)


def tagging(recipe: str) -> Recipe:
    """TagCLIP on the CLIP of a recipe, with the recipe's sentences and those of its knobs that TagCLIP has too.

    Raises:
        OptionError: a recipe without a CLIP.
    """
    chosen = with_absolute_paths(recipe, recipes.load(recipe))
    if "clip" not in chosen.weights:
        raise OptionError(f"Got the tagger {chosen.name!r}, a recipe without a CLIP. Accepted is one with it. Choose maskclip, or mini.")
    return chosen.changed({"labels.name": "tagclip"})


def weights(recipe: Recipe, *, offline: bool) -> Folder:
    """Where the tagger's CLIP is."""
    return locate(recipe.weights["clip"], offline=offline, kind="clip")
