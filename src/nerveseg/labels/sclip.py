"""SCLIP (ECCV 2024): in the last block a token looks at tokens that are like it, by its own queries and by its own keys.

    A_h = softmax(Q Qᵀ/√d) + softmax(K Kᵀ/√d),   x ← x + O·(A_h V),   x ← x + FFN(LN2 x)

Rows of A sum to 2, and the residual stays: what is mixed counts twice beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.clip import Clip, attention
from nerveseg.labels import base
from nerveseg.labels.base import look_clip as look
from nerveseg.labels.base import score_cosines as score
from nerveseg.registry import knob

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip",)
embeds = "clip"
decode_options = ("scale", "join")


@dataclass(frozen=True)
class Options:
    """Knobs of SCLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob("bicubic-offset")
    window: int = base.window_knob(224)
    stride: int = base.stride_knob()
    join_windows: str = base.join_windows_knob("pixels")
    pad_to: int = base.pad_to_knob()
    scale: float = base.scale_knob(40.0)
    join: str = base.join_knob()
    residual: bool = knob(default=True, doc="add the block's input. Off: suits large models.", source="SCLIP: on")
    ffn: bool = knob(default=True, doc="run the block's feed-forward part.", source="SCLIP: on")


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings: one layer, n·E floats, or those of every window."""
    clip: Clip = networks["clip"]
    return base.mixed(views, clip, options, lambda view: correlative(clip, view.activations.inputs[-1]))


def correlative(clip: Clip, x: Float[Tensor, "m D"]) -> Float[Tensor, "H m m"]:
    """Correlative self-attention of the last block on its input; rows sum to 2."""
    Q, K, _ = clip.qkv(x)
    return attention(Q, Q).add_(attention(K, K))
