"""The catalogue of checkpoints: names, mirrors, files, licences and sizes, read from ``catalogue.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files as resources
from types import MappingProxyType

from nerveseg.reprs import brief

__all__ = ["GENERIC", "Row", "alternatives", "catalogue", "chosen", "find", "forms", "missing", "of_tensors", "shards"]

_TOKENIZER = ("tokenizer.json | vocab.json", "tokenizer.json | merges.txt")
_NETWORK = ("config.json", "model.safetensors")
_TEXT_HALF = (
    "text_encoder/config.json | empty_prompt.safetensors",
    "text_encoder/model.safetensors | empty_prompt.safetensors",
    "tokenizer/tokenizer.json | tokenizer/vocab.json | empty_prompt.safetensors",
    "tokenizer/tokenizer.json | tokenizer/merges.txt | empty_prompt.safetensors",
)
_UNET = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
_VAE = ("vae/config.json", "vae/diffusion_pytorch_model.safetensors")
GENERIC: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "clip": (*_NETWORK, *_TOKENIZER),
    "groupvit": (*_NETWORK, *_TOKENIZER),
    "diffusion": (*_UNET, *_VAE, "scheduler/scheduler_config.json", *_TEXT_HALF),
    "dino": _NETWORK,
    "dinov2": _NETWORK,
    "taesd": ("config.json", "diffusion_pytorch_model.safetensors"),
})  # fmt: skip
"""Kind → what any folder of it must hold, whoever published it."""


@dataclass(frozen=True)
class Row:
    """One checkpoint of the catalogue.

    Attributes:
        name: how recipes and ``nerveseg weights fetch NAME`` call it.
        kind: one of `GENERIC`: which backbone reads it.
        ids: hub ids of the same checkpoint, tried in order; empty for the pair that comes with the package.
        revision: hub revision of those that `revisions` does not name.
        files: what is needed; ``"a | b"`` is either, the first by preference, and a ``.safetensors`` stands for its `forms` too.
        bytes: approximate size of those files, in float32.
        licence: of the weights, as their publishers state it.
        note: what it is.
        revisions: hub id → revision, where one mirror keeps what is needed elsewhere than the others.
        digests: file → sha256, where they are known.
    """

    name: str
    kind: str
    ids: tuple[str, ...]
    revision: str
    files: tuple[str, ...]
    bytes: int
    licence: str
    note: str
    revisions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    __repr__ = brief

    def revision_of(self, hub_id: str) -> str:
        """The revision asked of one mirror."""
        return self.revisions.get(hub_id, self.revision)


def catalogue() -> dict[str, Row]:
    """Read every row, by name.

    >>> catalogue()["clip-l14-336"].ids
    ('openai/clip-vit-large-patch14-336',)
    """
    text = resources("nerveseg.weights").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: _row(name, row) for name, row in tomllib.loads(text).items()}


def _row(name: str, row: dict) -> Row:
    files = tuple(row.get("files") or GENERIC[row["kind"]])
    return Row(name=name, **{"revision": "main", **row, "ids": tuple(row["ids"]), "files": files})


def find(ref: str) -> Row | None:
    """The row that a name or a hub id stands for, if any."""
    rows = catalogue()
    if ref in rows:
        return rows[ref]
    return next((row for row in rows.values() if ref in row.ids), None)


def missing(needed: Iterable[str], present: Collection[str]) -> tuple[str, ...]:
    """The entries of ``needed`` of which ``present`` holds no alternative in any form.

    >>> missing(["config.json", "a.safetensors | b.txt"], {"a.fp16.safetensors"})
    ('config.json',)
    """
    return tuple(entry for entry in needed if not chosen(entry, present))


def chosen(entry: str, present: Collection[str], *, half: bool = False) -> tuple[str, ...]:
    """The files by which ``present`` answers an entry: the first alternative that is there, in its preferred form, with its shards.

    Args:
        entry: ``"a | b"``.
        present: names of files.
        half: prefer the float16 form, where there is one.

    >>> chosen("m.safetensors", {"m.safetensors", "m.fp16.safetensors"}, half=True)
    ('m.fp16.safetensors',)
    >>> chosen("m.safetensors", {"m.safetensors.index.json", "m-00001-of-00001.safetensors"})
    ('m.safetensors.index.json', 'm-00001-of-00001.safetensors')
    """
    for name in alternatives(entry):
        for form in forms(name, half=half):
            if form in present:
                return (form, *shards(form, present))
    return ()


def alternatives(entry: str) -> tuple[str, ...]:
    """Split ``"a | b"`` into its names."""
    return tuple(name.strip() for name in entry.split("|"))


def of_tensors(entry: str) -> bool:
    """Whether an entry stands for weights, rather than for a configuration or a tokenizer."""
    return alternatives(entry)[0].endswith(".safetensors")


def forms(name: str, *, half: bool = False) -> tuple[str, ...]:
    """The names under which a weight file may lie: whole, sharded (its index), and both in float16; any other file has one name.

    >>> forms("a/model.safetensors")[1:3]
    ('a/model.safetensors.index.json', 'a/model.fp16.safetensors')
    """
    stem, dot, _ = name.rpartition(".safetensors")
    if not dot:
        return (name,)
    full = (name, f"{name}.index.json")
    short = (f"{stem}.fp16.safetensors", f"{name}.index.fp16.json")
    return (*short, *full) if half else (*full, *short)


def shards(index: str, present: Collection[str]) -> tuple[str, ...]:
    """The files in ``present`` that, by their names, belong to an index; none where the name is no index."""
    stem, dot, end = index.rpartition(".safetensors.index")
    if not dot:
        return ()
    middle = ".fp16" if end == ".fp16.json" else ""
    pattern = re.compile(re.escape(stem + middle) + r"-\d{5}-of-\d{5}\.safetensors")
    return tuple(sorted(name for name in present if pattern.fullmatch(name)))
