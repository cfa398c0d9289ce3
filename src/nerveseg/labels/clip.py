"""Dense CLIP as it is: the last block whole, LN_post and the projection on every patch (the vanilla baseline)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from nerveseg.labels import base
from nerveseg.picture.load import Picture

__all__ = ["Options", "at_decode", "embeds", "encode", "look", "needs", "score", "words_in_network"]

words_in_network = False
needs = ("clip",)
embeds = "clip"
at_decode = ("scale", "join")


@dataclass(frozen=True)
class Options:
    """Knobs of dense CLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob()
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    scale: float = base.scale_knob()
    join: str = base.join_knob()


def look(picture: Picture, networks: base.Networks, options: Options) -> Iterator[base.View]:
    """The passes of CLIP over a picture: one, or one a window."""
    return base.look(picture, networks["clip"], options)


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings of the last block's own output: one layer, n·E floats."""
    clip = networks["clip"]
    embeddings, grid = base.average(views, lambda view: base.unit(clip.project(view.activations.output))[None, 1:])
    return base.Features(embeddings, grid)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """Softmax of scaled cosines over all strings; background strings are in the denominator only. Cost O(n·s·E).

    Args:
        features: from `encode`.
        words: with their vectors.
        networks: not read.
        options: ``scale`` and ``join`` act here.
    """
    cosines = features.embeddings[0] @ torch.cat([words.vectors, words.other_vectors]).T
    return base.from_cosines(cosines, words, features.grid, scale=options.scale, join=options.join)
