"""The embedded world as a data set: scenes are drawn, nothing is downloaded, and every pixel's truth is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerveseg.datasets import classes
from nerveseg.datasets.base import DataSet, Item, Mask, table
from nerveseg.image import LoadedImage, load_image
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.score import labels_of
from nerveseg.words.vocabulary import Label

__all__ = ["background", "opened", "protocols", "splits"]

title = "The embedded world"
url = ""
licence = "Apache-2.0; drawn by this package"
background = False
count = len(NAMES)
splits = ("test", "val", "train")
protocols = ("sclip",)
archives = ()

_SCENES = 2000  # a split has no end; this many are listed


def opened(root: Path | None, split: str, protocol: str, class_names: str | Path) -> DataSet:
    """A split of scenes. The labels offered are the names in a scene and three that are not (`world.score.labels_of`)."""
    names = (
        classes.ClassNames(tuple(Label(name, (name,)) for name in NAMES), "official")
        if str(class_names) == "official"
        else classes.read("embedded", class_names, count=len(NAMES))
    )
    place = {name: index for index, name in enumerate(NAMES)}

    def offered(item: Item) -> tuple[int, ...]:
        number = int(item.id.rpartition("-")[2])
        return tuple(place[name] for name in labels_of(scenes.render(split, number), split, number))

    def draw(item: Item) -> tuple[LoadedImage, Mask]:
        scene = scenes.render(split, int(item.id.rpartition("-")[2]))
        return load_image(scene.image, name=item.id), scene.mask.astype(np.uint16)

    items = tuple(Item(f"{split}-{number:05d}") for number in range(_SCENES))
    identity = table({index: index for index in range(len(NAMES))})
    return DataSet("embedded", split, protocol, names, background, items, identity, None, draw, offered)
