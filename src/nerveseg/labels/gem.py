"""GEM (CVPR 2024): a second stream beside the last blocks, in which tokens gather by self-self attention of queries, keys and values.

    g = x at the first of the last blocks;  for each of them, u = LN1(x):
    z ∈ {Q, K, V} of u, unit length per head;  repeat: z ← unit(softmax(z zᵀ/τ) z);  A_z = softmax(z zᵀ/τ)
    g ← g + O·⅓(A_Q + A_K + A_V) V,   1/τ = mean_i ‖u_i‖₂/√d

The network's own stream x goes on untouched beside it; the feed-forward parts do not enter g.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.clip import Clip, ClipActivations
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
    """Knobs of GEM."""

    short_side: int = base.short_side_knob(448)
    positions: str = base.positions_knob("bicubic-antialias")
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    join_windows: str = base.join_windows_knob()
    pad_to: int = base.pad_to_knob()
    scale: float = base.scale_knob(100.0)
    join: str = base.join_knob()
    fit: str = knob(
        "square",
        "square: both sides become short_side; aspect: the other follows the image. With join_windows = pixels always aspect.",
        choices=("square", "aspect"),
        source="GEM: square",
    )
    blocks: int = knob(
        6, "last blocks beside which the second stream runs. More: smoother.", low=1, high=64, source="GEM: depth 7, that is 6"
    )
    iterations: int = knob(
        1, "times that tokens gather before the attention is taken. More: larger groups.", low=0, high=20, source="GEM: 1"
    )
    temperature: float = knob(
        0.0, "τ of self-self attention. Larger: softer groups; 0: √d over the mean length of the tokens.", low=0, high=100, source="GEM: 0"
    )


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings: one layer, n·E floats, or those of every window."""
    clip: Clip = networks["clip"]
    return base.dense(views, lambda view: clip.project(stream(clip, view.activations, options)))


def stream(clip: Clip, x: ClipActivations, options: Options) -> Float[Tensor, "m D"]:
    """The second stream after the last block."""
    layers = clip.model.vision_model.encoder.layers
    first = max(0, len(layers) - options.blocks)
    g = x.inputs[first]
    for index in range(first, len(layers)):
        Q, K, V = clip.qkv(x.inputs[index], index)
        length = layers[index].layer_norm1(x.inputs[index]).float().norm(dim=-1).mean()
        gain = 1 / options.temperature if options.temperature else float(length) / math.sqrt(Q.shape[-1])
        A = sum((_gathered(z, gain, options.iterations) for z in (Q, K, V)), torch.zeros(())) / 3
        mixed = (A @ V).transpose(0, 1).flatten(1)
        g = g + layers[index].self_attn.out_proj(mixed.to(g.dtype))
    return g


def _gathered(z: Float[Tensor, "H m d"], gain: float, iterations: int) -> Float[Tensor, "H m m"]:
    z = base.unit(z)
    for _ in range(iterations):
        z = base.unit((gain * z @ z.mT).softmax(-1) @ z)
    return (gain * z @ z.mT).softmax(-1)
