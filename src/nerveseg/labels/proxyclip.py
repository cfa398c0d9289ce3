"""ProxyCLIP (ECCV 2024): the last block mixes CLIP's values by the likeness of a vision model's tokens, on that model's grid.

With unit tokens F̂ of DINO over one window and S = F̂F̂ᵀ:

    M = γ(S − β·mean(S)),  entries < 0 → −∞,  A = softmax(M)          the same for all heads; mean over all pairs, each with itself too
    y = O·(A v_h)                                                       v of LN1(x), class token dropped, bilinearly on DINO's grid
    f = LN_post(y)·P                                                    no residual, no feed-forward part
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.clip import Clip
from nerveseg.backbones.dino import PARTS
from nerveseg.labels import _with_dino, base
from nerveseg.labels._windows import Part
from nerveseg.labels._with_dino import Seen, look
from nerveseg.labels.base import score_cosines as score
from nerveseg.registry import knob

__all__ = ["Options", "decode_options", "embed", "embeds", "encode", "look", "mixed", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip", "dino")
embeds = "clip"
decode_options = ("scale", "join")
_BLOCK = 1 << 24  # entries of A held at once: 64 MiB


@dataclass(frozen=True)
class Options:
    """Knobs of ProxyCLIP."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob("bicubic-offset")
    dino_positions: str = _with_dino.dino_positions_knob()
    window: int = base.window_knob(336)
    stride: int = base.stride_knob(112)
    pad_to: int = base.pad_to_knob(56)
    scale: float = base.scale_knob(40.0)
    join: str = base.join_knob()
    what: str = knob("output", "which of DINO's tensors are compared.", choices=PARTS, source="ProxyCLIP: output tokens of the last block")
    layer: int = knob(-1, "DINO's block, from the end.", high=-1, source="ProxyCLIP: -1")
    beta: float = knob(1.2, "β: share of the mean that is taken off. Larger: fewer tokens mix.", low=0, high=100, source="ProxyCLIP: 1.2")
    gamma: float = knob(3.0, "γ: factor on what is left. Larger: sharper.", above=0, high=1000, source="ProxyCLIP: 3.0")


@torch.no_grad()
def encode(views: Iterable[Seen], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit embeddings of every window on DINO's grid: windows · m · E floats.

    Args:
        views: from `look`.
        networks: their ``clip`` and ``dino``.
        options: ``beta`` and ``gamma`` act here, ``what`` and ``layer`` did in `look`.
    """
    clip: Clip = networks["clip"]
    parts: list[Part] = []
    size = (1, 1)
    for seen in _with_dino.listed(views):
        size = seen.view.grid
        parts.append(Part(base.unit(embed(clip, seen, options)), seen.grid, seen.box))
    side = networks["dino"].patch
    grid = (max(1, round(size[0] / side)), max(1, round(size[1] / side)))
    return base.Features(parts[0].embeddings[None, :0], grid, parts=tuple(parts), pixels=size)


@torch.no_grad()
def embed(clip: Clip, seen: Seen, options: Options) -> Float[Tensor, "m E"]:
    """Projected embeddings of one window's DINO tokens, not normalised."""
    _, _, values = clip.qkv(seen.view.activations.inputs[-1])
    own = values[:, 1:].transpose(1, 2).unflatten(2, seen.view.activations.grid)
    v = F.interpolate(own, size=seen.grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    projection = clip.model.vision_model.encoder.layers[-1].self_attn.out_proj
    y = mixed(seen.tokens, v, beta=options.beta, gamma=options.gamma).transpose(0, 1).flatten(1)
    return clip.project(projection(y.to(projection.weight.dtype)))


def mixed(tokens: Float[Tensor, "m d"], v: Float[Tensor, "H m c"], *, beta: float, gamma: float) -> Float[Tensor, "H m c"]:
    """A·v of every head. Cost O(m²·(d + H·c)) time, 64 MiB at a time.

    A token of which nothing is left, not even itself (all alike: the mean is near 1), has no rule in the source: it keeps its own value.
    """
    f = base.unit(tokens)
    m = len(f)
    mean = f.sum(0).square().sum() / m**2  # of all m² cosines, those with itself too
    columns = v.transpose(0, 1).flatten(1)
    step = max(1, _BLOCK // m)
    out: list[Tensor] = []
    for first in range(0, m, step):
        M = (f[first : first + step] @ f.T).sub_(beta * mean).mul_(gamma)
        M.masked_fill_(M < 0, -torch.inf)
        here = columns[first : first + step]
        empty = M.amax(1, keepdim=True) == -torch.inf
        out.append(torch.where(empty, here, M.masked_fill_(empty, 0).softmax(1) @ columns))
    return torch.cat(out).unflatten(1, (v.shape[0], -1)).transpose(0, 1)
