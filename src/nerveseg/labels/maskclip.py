"""MaskCLIP (ECCV 2022): the last block's attention replaced by its value path, so that a patch speaks for itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nerveseg.labels import base
from nerveseg.labels.base import look_clip as look
from nerveseg.labels.base import score_cosines as score
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
    join_windows: str = base.join_windows_knob()
    pad_to: int = base.pad_to_knob()
    scale: float = base.scale_knob()
    join: str = base.join_knob()
    residual: bool = knob(
        default=True,
        doc="add the block's input. On: the original; off: suits large models, whose residual drowns the values.",
        source="MaskCLIP",
    )
    ffn: bool = knob(default=True, doc="run the block's feed-forward part. On: the original.", source="MaskCLIP; ClearCLIP drops both")


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings of the value path O·v(LN1 x): one layer, n·E floats."""
    clip = networks["clip"]

    def embed(view: base.View) -> Tensor:
        return clip.project(clip.last_block(view.activations.inputs[-1], None, residual=options.residual, ffn=options.ffn))

    return base.dense(views, embed)
