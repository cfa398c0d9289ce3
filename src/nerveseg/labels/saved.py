"""Scores from another program, one file per image: the logits or probabilities of any model.

A file is .npz or .safetensors and holds one array ``scores`` of shape (K, h, w), K classes on any grid that covers the whole
image, and, where it can, the names of its classes (``labels``: an array of strings, or a JSON list in the metadata). With names,
classes are looked up by the words of a decode, whatever the order; without, class i of the file is label i.

    probabilities   s = the file's values                                   (≥ 0; what a row lacks to 1 becomes ``rest``)
    logits          s = softmax(scale · x) over every class of the file     (classes that no word asks for are left out afterwards)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import LabelError, ShapeError
from nerveseg.image import arrays, names
from nerveseg.image.load import LoadedImage
from nerveseg.labels import base
from nerveseg.registry import knob
from nerveseg.reprs import brief
from nerveseg.words.prompts import clean

__all__ = ["KINDS", "Options", "View", "decode_options", "embeds", "encode", "held", "look", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ()
embeds = None
decode_options = ("kind", "scale", "join")
KINDS = ("probabilities", "logits")


@dataclass(frozen=True)
class Options:
    """Knobs of saved scores."""

    path: str = knob(".", "a folder with one file an image, named by the image's stem (a.jpg → a.npz), or one file.")
    array: str = knob("scores", "name of the array (K, h, w); where a file holds one array only, its name does not matter.")
    kind: str = knob(
        "probabilities", "what the values are. logits: softmax over the file's classes makes them probabilities.", choices=KINDS
    )
    scale: float = knob(1.0, "factor on logits before the softmax. Larger: harder decisions. 1: as the model said.", above=0, high=1000)
    join: str = knob("max", "how several of the file's classes that mean one label make its score.", choices=("max", "sum"))


@dataclass(frozen=True, eq=False)
class View:
    """The scores of one file.

    Attributes:
        maps: one map a class of the file, float32.
        names: of the classes; empty where the file names none.
        origin: where they came from, for messages.
    """

    maps: Float[Tensor, "K h w"]
    names: tuple[str, ...]
    origin: str

    __repr__ = brief


def look(image: LoadedImage, networks: base.Networks, options: Options) -> Iterator[View]:
    """Read the image's file; no network.

    Raises:
        SavedError: no such file, or one that cannot be read. ShapeError: another layout; the message has path and shape.
    """
    saved = arrays.read(arrays.beside(options.path, names.stem(image.name)), options.array)
    scores = saved.floats(options.array, "K, h, w")
    scores = arrays.classes_first(scores, image.size, len(saved.labels) or None, f"Got {saved.path} of shape {tuple(scores.shape)}")
    yield View(scores.contiguous(), saved.labels, str(saved.path))


def encode(views: Iterable[View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the scores as they are: K·h·w floats.

    Raises:
        LabelError: not as many names as maps. ShapeError: no view.
    """
    for view in views:
        return held(view.maps, view.names, origin=view.origin)
    raise ShapeError("Got no view. Accepted is what look() yields. Pass it unchanged.")


def held(maps: Float[Tensor, "K h w"], names: tuple[str, ...] = (), *, origin: str = "scores in memory") -> base.Features:
    """Features of this source from maps that are in memory: ``embeddings`` are (1, h·w, K); names and origin go to ``extra``."""
    if names and len(names) != len(maps):
        raise LabelError(
            f"Got {origin} with {len(maps)} maps and {len(names)} names. Accepted is one name a map. Save as many names as maps."
        )
    return base.Features(maps.flatten(1).T.contiguous()[None], (maps.shape[1], maps.shape[2]), extra={"names": names, "origin": origin})


def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """The file's classes in the order of the words. Cost O(n·K).

    Args:
        features: from `encode` or `held`.
        words: every class needs one string, at least, that is a name of the file (case, spaces and underscores do not count);
            background strings are not looked up.
        networks: not read.
        options: ``kind``, ``scale`` and ``join`` act here.

    Raises:
        LabelError: labels that the file has no class for, or, without names, another number of labels than classes.
        ShapeError: probabilities below 0.
    """
    extra = features.extra or {}
    origin = str(extra.get("origin", "scores"))
    values = features.embeddings[0].float()
    columns = _columns(tuple(extra.get("names", ())), words, values.shape[1], origin)
    if options.kind == "logits":
        values = (options.scale * values).softmax(1)
    elif float(values.min()) < 0:
        raise ShapeError(
            f"Got {origin} with probabilities down to {float(values.min()):g}. Accepted are values of at least 0. "
            "Save probabilities, or say that they are logits (labels.kind = 'logits')."
        )
    parts = [values[:, at].amax(1) if options.join == "max" else values[:, at].sum(1) for at in columns]
    return base.Scores(torch.stack(parts, dim=1), features.grid)


def _columns(names: tuple[str, ...], words: base.Words, K: int, origin: str) -> list[list[int]]:
    """The file's classes of each class of the words."""
    if not names:
        if words.classes != K:
            raise LabelError(
                f"Got {words.classes} labels for {origin} with {K} classes and no names. Accepted are as many labels as classes, in "
                "their order. Give that many, or save the names of the classes as 'labels'."
            )
        return [[at] for at in range(K)]
    place: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        for part in name.split(";"):
            place.setdefault(_key(part), []).append(at)
    found: list[list[int]] = [[] for _ in range(words.classes)]
    for string, group in zip(words.strings, words.groups, strict=True):
        found[group] += [at for at in place.get(_key(string), []) if at not in found[group]]
    lacking = [string for string, group in zip(words.strings, words.groups, strict=True) if not found[group]]
    if lacking:
        has = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise LabelError(
            f"Got {', '.join(map(repr, dict.fromkeys(lacking)))}, which {origin} has no class for. "
            f"Accepted are its own names: {has}. Rename the labels, or add a name of the file as a synonym with ';'."
        )
    return found


def _key(name: str) -> str:
    return clean(name).casefold()
