"""ClearCLIP (ECCV 2024): the last block is its attention alone, of queries among themselves; residual and feed-forward part are left out.

A_h = softmax(Q Qᵀ/√d),   y = O·(A_h V);   of several last blocks, each on its own input, the sum
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.clip import Clip, ClipActivations, attention
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
    """Knobs of ClearCLIP."""

    short_side: int = base.short_side_knob(448)
    positions: str = base.positions_knob("bicubic-offset")
    window: int = base.window_knob(448)
    stride: int = base.stride_knob(224)
    join_windows: str = base.join_windows_knob("pixels")
    pad_to: int = base.pad_to_knob(1)
    scale: float = base.scale_knob(50.0)
    join: str = base.join_knob()
    pairing: str = knob(
        "qq",
        "what a head compares with itself: queries, keys or values; qk is CLIP's own attention.",
        choices=("qq", "kk", "vv", "qk"),
        source="ClearCLIP: qq",
    )
    residual: bool = knob(default=False, doc="add the block's input.", source="ClearCLIP: off")
    ffn: bool = knob(default=False, doc="run the block's feed-forward part.", source="ClearCLIP: off")
    last_blocks: int = knob(
        1,
        "last blocks whose outputs are summed; the network itself goes on as it is. More: earlier, coarser meaning is mixed in.",
        low=1,
        high=64,
        source="ClearCLIP: 1",
    )


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings: one layer, n·E floats, or those of every window."""
    clip: Clip = networks["clip"]
    return base.dense(views, lambda view: clip.project(summed(clip, view.activations, options)))


def summed(clip: Clip, x: ClipActivations, options: Options) -> Float[Tensor, "m D"]:
    """The last blocks' outputs with their attention replaced, each on what entered it, summed."""
    y = torch.zeros_like(x.output)
    for at in range(-min(options.last_blocks, len(x.inputs)), 0):
        mixing = self_attention(clip, x.inputs[at], options.pairing, at)
        y = y + clip.last_block(x.inputs[at], mixing, residual=options.residual, ffn=options.ffn, at=at)
    return y


def self_attention(clip: Clip, x: Float[Tensor, "m D"], pairing: str, at: int = -1) -> Float[Tensor, "H m m"]:
    """Attention of a block on its input between two of its queries, keys and values; rows sum to 1."""
    sides = dict(zip("qkv", clip.qkv(x, at), strict=True))
    return attention(sides[pairing[0]], sides[pairing[1]])
