"""Dense CLIP as it is: the last block whole, LN_post and the projection on every patch (the vanilla baseline)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from nerveseg.labels import base
from nerveseg.labels.base import look_clip as look
from nerveseg.labels.base import score_cosines as score

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip",)
embeds = "clip"
decode_options = ("scale", "join")


@dataclass(frozen=True)
class Options:
    """Knobs of dense CLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob()
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    join_windows: str = base.join_windows_knob()
    pad_to: int = base.pad_to_knob()
    scale: float = base.scale_knob()
    join: str = base.join_knob()


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings of the last block's own output: one layer, n·E floats."""
    clip = networks["clip"]
    return base.dense(views, lambda view: clip.project(view.activations.output))
