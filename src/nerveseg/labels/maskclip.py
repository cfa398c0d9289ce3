"""MaskCLIP (ECCV 2022): the last block's attention replaced by its value path, so that a patch speaks for itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nerveseg.labels import base
from nerveseg.picture.load import Picture
from nerveseg.registry import knob

__all__ = ["Options", "at_decode", "embeds", "encode", "look", "needs", "score", "words_in_network"]

words_in_network = False
needs = ("clip",)
embeds = "clip"
at_decode = ("scale", "join")


@dataclass(frozen=True)
class Options:
    """Knobs of MaskCLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob("bicubic")
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    scale: float = base.scale_knob()
    join: str = base.join_knob()
    residual: bool = knob(
        default=True,
        doc="add the block's input. On: the original; off: suits large models, whose residual drowns the values.",
        source="MaskCLIP",
    )
    ffn: bool = knob(default=True, doc="run the block's feed-forward part. On: the original.", source="MaskCLIP; ClearCLIP drops both")


def look(picture: Picture, networks: base.Networks, options: Options) -> Iterator[base.View]:
    """The passes of CLIP over a picture: one, or one a window."""
    return base.look(picture, networks["clip"], options)


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings of the value path O·v(LN1 x): one layer, n·E floats."""
    clip = networks["clip"]

    def embed(view: base.View) -> Tensor:
        y = clip.last_block(view.activations.inputs[-1], None, residual=options.residual, ffn=options.ffn)
        return base.unit(clip.project(y))[None, 1:]

    embeddings, grid = base.average(views, embed)
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
