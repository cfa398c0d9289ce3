"""The scenes that `nerveseg demo` segments: PNG files beside this one, with their labels in ``scenes.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nerveseg.reprs import brief

__all__ = ["SPLIT", "THINGS", "BundledScene", "scenes"]

SPLIT = "test"
THINGS = (2, 4)
"""Fewest and most things that the bundled scenes were rendered with."""


@dataclass(frozen=True)
class BundledScene:
    """One bundled scene.

    Attributes:
        name: the file's name without its ending.
        path: the PNG.
        index: its number in the test split, from which its mask can be rendered again.
        labels: names that are in it, then names that are not.
    """

    name: str
    path: Path
    index: int
    labels: tuple[str, ...]

    __repr__ = brief


def scenes() -> tuple[BundledScene, ...]:
    """Every bundled scene, in the order of the list.

    >>> [scene.name for scene in scenes()]
    ['cat-and-hat', 'rooster', 'rabbit-and-apple', 'tractor']
    """
    folder = Path(str(files("nerveseg.synthetic.bundled")))
    rows = tomllib.loads((folder / "scenes.toml").read_text("utf-8"))
    return tuple(BundledScene(name, folder / f"{name}.png", row["index"], tuple(row["labels"])) for name, row in rows.items())
