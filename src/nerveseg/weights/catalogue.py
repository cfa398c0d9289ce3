"""The catalogue of checkpoints: names, mirrors, licences and sizes, read from ``catalogue.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.resources import files as resources

__all__ = ["GENERIC", "Row", "alternatives", "catalogue", "find", "missing"]

_CLIP = ("config.json", "model.safetensors | pytorch_model.bin", "tokenizer.json | vocab.json")
_DIFFUSION = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
GENERIC = {"clip": _CLIP, "diffusion": _DIFFUSION}
"""What any folder of a kind must hold, whoever published it."""


@dataclass(frozen=True)
class Row:
    """One checkpoint of the catalogue.

    Attributes:
        name: how recipes and ``nerveseg weights fetch NAME`` call it.
        kind: ``clip`` or ``diffusion``.
        ids: hub ids of the same checkpoint, tried in order; empty for the pair that comes with the package.
        revision: hub revision.
        files: what is needed; ``"a | b"`` is either, the first by preference.
        bytes: approximate size of those files.
        licence: of the weights, as published.
        note: what it is.
    """

    name: str
    kind: str
    ids: tuple[str, ...]
    revision: str
    files: tuple[str, ...]
    bytes: int
    licence: str
    note: str


def catalogue() -> dict[str, Row]:
    """Read every row, by name.

    >>> catalogue()["clip-l14-336"].ids
    ('openai/clip-vit-large-patch14-336',)
    """
    text = resources("nerveseg.weights").joinpath("catalogue.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    return {name: Row(name=name, **{**row, "ids": tuple(row["ids"]), "files": tuple(row["files"])}) for name, row in rows.items()}


def find(ref: str) -> Row | None:
    """The row that a name or a hub id stands for, if any."""
    rows = catalogue()
    if ref in rows:
        return rows[ref]
    return next((row for row in rows.values() if ref in row.ids), None)


def missing(needed: Iterable[str], present: Collection[str]) -> tuple[str, ...]:
    """The entries of ``needed`` of which ``present`` holds no alternative.

    >>> missing(["config.json", "a.safetensors | a.bin"], {"a.bin"})
    ('config.json',)
    """
    return tuple(entry for entry in needed if not any(name in present for name in alternatives(entry)))


def alternatives(entry: str) -> tuple[str, ...]:
    """Split ``"a | b"`` into its names."""
    return tuple(name.strip() for name in entry.split("|"))
