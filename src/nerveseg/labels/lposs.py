"""LPOSS (CVPR 2025) as a label source: MaskCLIP's cosines, spread over the patches of all windows at once by DINO's likeness.

Y = cosines of MaskCLIP (residual and feed-forward part kept) with the words, (I − αŴ)X = Y as in `nerveseg.walk.lposs`, Ŵ over the
patches of all windows jointly: two windows that see one place hold two patches there, at distance 0. The patches are DINO's; where CLIP's
are of another size its unit embeddings are brought to DINO's grid. Then X of each window goes bilinearly to its pixels, and windows are
averaged. LPOSS has neither softmax nor scale: the largest X wins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.clip import Clip
from nerveseg.backbones.dino import PARTS
from nerveseg.errors import ShapeError
from nerveseg.labels import _with_dino, base
from nerveseg.labels._windows import Box, Part
from nerveseg.labels._with_dino import Seen, look
from nerveseg.registry import knob
from nerveseg.walk.lposs import Affinity, affinity, alpha_knob, centres, propagate, steps_knob, tolerance_knob

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip", "dino")
embeds = "clip"
decode_options = ("scale", "join", "alpha", "steps", "tolerance")


@dataclass(frozen=True)
class Options:
    """Knobs of LPOSS."""

    short_side: int = base.short_side_knob(448)
    positions: str = base.positions_knob("bicubic")
    dino_positions: str = _with_dino.dino_positions_knob()
    window: int = base.window_knob(224)
    stride: int = base.stride_knob(112)
    pad_to: int = base.pad_to_knob(0)
    scale: float = base.scale_knob(100.0)
    join: str = base.join_knob()
    what: str = knob("v", "which of DINO's tensors are compared.", choices=PARTS, source="LPOSS: values, heads side by side")
    layer: int = knob(-1, "DINO's block, from the end.", high=-1, source="LPOSS: -1")
    alpha: float = alpha_knob()
    neighbours: int = knob(400, "k: nearest patches that each is joined with, itself counted. Larger: farther.", low=1, source="LPOSS: 400")
    power: float = knob(3.0, "γ: exponent on cosines. Larger: sharper.", above=0, high=100, source="LPOSS: 3")
    sigma: float = knob(0.01, "σ: decay a pixel of the resized image. Larger: more local.", low=0, source="LPOSS: 0.01")
    steps: int = steps_knob()
    tolerance: float = tolerance_knob()


@torch.no_grad()
def encode(views: Iterable[Seen], networks: base.Networks, options: Options) -> base.Features:
    """Keep MaskCLIP's unit embeddings of every window on DINO's grid, and Ŵ over all of them.

    ``extra`` holds its ``indices`` and ``values``: up to 2·n·k entries of 20 bytes, n the patches of all windows together (20 windows of
    196 for an image of 4:3, at most 63 MB).

    Args:
        views: from `look`.
        networks: their ``clip`` and ``dino``.
        options: ``neighbours``, ``power`` and ``sigma`` act here, ``what`` and ``layer`` did in `look`.
    """
    clip: Clip = networks["clip"]
    patch: int = networks["dino"].patch
    parts: list[Part] = []
    features: list[Tensor] = []
    places: list[Tensor] = []
    size = (1, 1)
    for seen in _with_dino.listed(views):
        activations, size = seen.view.activations, seen.view.grid
        y = clip.last_block(activations.inputs[-1], None, residual=True, ffn=True)
        parts.append(Part(_on_grid(base.unit(clip.project(y))[1:], activations.grid, seen.grid), seen.grid, seen.box))
        features.append(seen.tokens)
        places.append(_places(seen.box, seen.grid, patch, features[-1].device))
    graph = affinity(torch.cat(features), torch.cat(places), neighbours=options.neighbours, power=options.power, sigma=options.sigma)
    grid = (max(1, round(size[0] / patch)), max(1, round(size[1] / patch)))
    extra = {"indices": graph.indices, "values": graph.values}
    return base.Features(parts[0].embeddings[None, :0], grid, parts=tuple(parts), pixels=size, extra=extra)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """Propagate the cosines of all strings and join the windows: logits (1 − α)X on the pixels that CLIP saw, tokens their mean.

    The factor 1 − α brings X near the range of cosines, so that ``scale`` means what it does elsewhere; it moves no maximum.

    Args:
        features: from `encode`.
        words: with their vectors.
        networks: not read.
        options: ``alpha``, ``steps`` and ``tolerance``, then ``scale`` and ``join``: LPOSS's argmax is the same for every scale.

    Cost O(steps·n²·s), n the patches of all windows together.

    Raises:
        ShapeError: features of another source.
    """
    if features.extra is None or features.pixels is None:
        raise ShapeError("Got features without a graph of patches. Accepted are this source's own. Encode the image with it.")
    vectors = torch.cat([words.vectors, words.other_vectors])
    Y = torch.cat([part.embeddings for part in features.parts]) @ vectors.T
    graph = Affinity(features.extra["indices"], features.extra["values"], len(Y))
    X, _ = propagate(graph, Y, alpha=options.alpha, steps=options.steps, tolerance=options.tolerance)
    rows = X.mul_(1 - options.alpha).split([len(part.embeddings) for part in features.parts])
    scores = base.score_refined(features, words, options, lambda _, number: rows[number])
    # LPOSS joins the background's strings on the network's image, before maps reach the image's size.
    early = None if scores.logits is None else dataclasses.replace(scores.logits, early=options.join == "max")
    return dataclasses.replace(scores, logits=early)


def _on_grid(rows: Float[Tensor, "n d"], grid: tuple[int, int], wanted: tuple[int, int]) -> Float[Tensor, "m d"]:
    """Unit rows on another grid, where the two networks' patches differ, and unit rows there again."""
    if grid == wanted:
        return rows
    return base.unit(F.interpolate(rows.T.unflatten(1, grid)[None], size=wanted, mode="bilinear", align_corners=False)[0].flatten(1).T)


def _places(box: Box, grid: tuple[int, int], patch: int, device: torch.device) -> Float[Tensor, "n 2"]:
    """Middles of a window's patches in pixels of the resized image."""
    return centres(grid, patch, device) + torch.tensor([box.top - box.before[0], box.left - box.before[1]], device=device)
