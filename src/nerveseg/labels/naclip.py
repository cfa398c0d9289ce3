"""NACLIP (WACV 2025): keys among themselves, drawn to a patch's surroundings by a Gaussian that is added to the logits.

A_h = softmax(K Kᵀ/√d + W),   W_ij = peak·exp(−‖p_i − p_j‖²/(2σ²)) between patches, 0 to and from the class token,   y = O·(A_h V)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.clip import Clip
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
    """Knobs of NACLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob("bicubic-offset")
    window: int = base.window_knob(224)
    stride: int = base.stride_knob()
    join_windows: str = base.join_windows_knob("pixels")
    pad_to: int = base.pad_to_knob()
    scale: float = base.scale_knob(40.0)
    join: str = base.join_knob()
    sigma: float = knob(5.0, "σ of the Gaussian, in patches. Larger: wider surroundings.", above=0, high=1000, source="NACLIP: 5")
    peak: float = knob(
        1.0, "what the Gaussian adds at a patch itself. Larger: more local; 0: not at all.", low=0, high=1000, source="NACLIP: 1"
    )
    residual: bool = knob(default=False, doc="add the block's input.", source="NACLIP: off")
    ffn: bool = knob(default=False, doc="run the block's feed-forward part.", source="NACLIP: off")


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings: one layer, n·E floats, or those of every window."""
    clip: Clip = networks["clip"]
    return base.mixed(views, clip, options, lambda view: neighbourly(clip, view.activations.inputs[-1], view.activations.grid, options))


def neighbourly(clip: Clip, x: Float[Tensor, "m D"], grid: tuple[int, int], options: Options) -> Float[Tensor, "H m m"]:
    """Key-key attention of the last block on its input with the Gaussian in its logits; rows sum to 1."""
    _, K, _ = clip.qkv(x)
    logits = K @ K.mT / math.sqrt(K.shape[-1])
    logits[:, 1:, 1:] += options.peak * _gaussian(grid, options.sigma).to(K)
    return logits.softmax(-1)


def _gaussian(grid: tuple[int, int], sigma: float) -> Float[Tensor, "n n"]:
    # A Gaussian of both distances is the product of one of each.
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    near = [torch.exp(-((side[:, None] - side[None, :]) ** 2) / (2 * sigma**2)) for side in (rows, columns)]
    return torch.kron(near[0], near[1])
