"""Shared by label sources that read a diffusion model's cross-attention: the noised latent, levels, token maps, class scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.stable_diffusion import RESIZES, CrossHeads, Latents, StableDiffusion
from nerveseg.errors import OptionError, ShapeError
from nerveseg.image.load import LoadedImage
from nerveseg.labels.base import Features, Networks, Scores, Words
from nerveseg.registry import knob
from nerveseg.words.prompts import PLACE

__all__ = [
    "batch_knob",
    "brought",
    "encode",
    "fit_knob",
    "join_knob",
    "level_mean",
    "levels",
    "look",
    "noised",
    "parts",
    "resize_knob",
    "scores",
    "seed_knob",
    "size_knob",
    "stretched",
    "t_knob",
    "weighted_levels",
    "weights_knob",
]

_FLAT = 1e-6  # share of a map's largest value below which its range is rounding, not a shape


def look(image: LoadedImage, networks: Networks, options: Any) -> Iterator[Latents]:
    """The one pass of the VAE's encoder over an image; shared with a graph that sees the same pixels."""
    backbone: StableDiffusion = networks["diffusion"]
    yield backbone.latents(backbone.pixels(image, size=options.size, fit=options.fit, resize=options.resize))


def encode(
    views: Iterable[Latents], networks: Networks, options: Any, *, sample: bool, noise: Tensor | None = None, draw: Tensor | None = None
) -> Features:
    """Noise the latent to step t; it is the one thing kept, as ``noised`` in ``extra``: c·h·w floats, and no embeddings.

    Args:
        views: from `look`.
        networks: their ``diffusion``.
        options: ``t`` and ``seed`` act here.
        sample: x_0 is a sample of the VAE's answer, not its mean.
        noise: ε of the step in place of the seed.
        draw: ε of the sample in place of the seed, which draws it after the step's.

    Raises:
        ShapeError: no view, or a tensor of another shape than the latent's.
    """
    found = next(iter(views), None)
    if found is None:
        raise ShapeError("Got no view. Accepted is what look() yields. Pass it unchanged.")
    backbone: StableDiffusion = networks["diffusion"]
    shape = found.mean.shape
    generator = torch.Generator("cpu").manual_seed(options.seed)
    drawn = [torch.randn(shape, generator=generator) for _ in range(2)]
    x_0 = found.mean
    if sample:
        draw = drawn[1] if draw is None else draw
        if draw.shape != shape:
            raise ShapeError(f"Got a draw of shape {tuple(draw.shape)}. Accepted is the latent's, {tuple(shape)}. Draw it in that shape.")
        x_0 = x_0 + found.deviation * draw.to(x_0)
    x_t = backbone.noised(x_0, t=options.t, noise=drawn[0] if noise is None else noise)
    finest = min(levels(backbone))
    grid = (shape[-2] >> finest, shape[-1] >> finest)
    return Features(x_t.new_zeros(0, grid[0] * grid[1], 0), grid, extra={"noised": x_t})


def noised(features: Features) -> Float[Tensor, "1 c h w"]:
    """The latent at step t that `encode` kept; ShapeError where another source made the features."""
    kept = (features.extra or {}).get("noised")
    if not isinstance(kept, Tensor):
        raise ShapeError("Got features without a latent. Accepted are this source's own. Encode the image with it.")
    return kept


def levels(backbone: StableDiffusion) -> Mapping[int, tuple[str, ...]]:
    """Depth of each level that reads words → its cross-attention layers in the order of a pass; the coarsest level first."""
    found: dict[int, list[str]] = {}
    for layer in backbone.cross_layers:
        found.setdefault(backbone.depth(layer), []).append(layer)
    return {depth: tuple(found[depth]) for depth in sorted(found, reverse=True)}


def weighted_levels(backbone: StableDiffusion, weights: Sequence[float]) -> tuple[tuple[float, int, tuple[str, ...]], ...]:
    """(weight, depth, layers) of the levels that count, coarse to fine: weights meet levels from the coarse end.

    Raises:
        OptionError: weights that are no numbers ≥ 0, fewer than the U-Net has levels, or all 0 on the levels that it has.
    """
    known = levels(backbone)
    fits = all(isinstance(w, (int, float)) and not isinstance(w, bool) and w >= 0 for w in weights)
    # A deep U-Net uses all of them; a shallow one has no use for the last.
    found = tuple((float(w), depth, layers) for w, (depth, layers) in zip(weights, known.items(), strict=False) if w) if fits else ()
    if not found or len(weights) < len(known):
        raise OptionError(
            f"Got weights = {tuple(weights)!r} for a U-Net of {len(known)} levels. "
            "Accepted are numbers of at least 0, one a level from coarse to fine, not all 0. Give one for each level."
        )
    return found


def parts(template: str) -> tuple[str, str]:
    """The text before and after the one place of the words in a prompt."""
    if template.count(PLACE) != 1:
        raise OptionError(f"Got the template {template!r}. Accepted is a sentence with {PLACE} exactly once. Put it between spaces.")
    before, _, after = template.partition(PLACE)
    return before.strip(), after.strip()


def level_mean(layers: Sequence[CrossHeads], heads: Sequence[int] = ()) -> Float[Tensor, "n L"]:
    """Mean over the heads of layers of one grid, counted through in the order of a pass, or over some of them.

    Args:
        layers: of one level.
        heads: which; none takes all.

    Raises:
        OptionError: a head that is not there.
    """
    first, count = 0, sum(len(layer.queries) for layer in layers)
    chosen = set(heads) or set(range(count))
    if min(chosen) < 0 or max(chosen) >= count:
        raise OptionError(f"Got the heads {sorted(chosen)} of a level. Accepted are 0 to {count - 1}. Choose heads that it has.")
    total: Tensor | None = None
    for layer in layers:
        mine = [head - first for head in sorted(chosen) if first <= head < first + len(layer.queries)]
        first += len(layer.queries)
        if mine:
            part = CrossHeads(layer.layer, layer.queries[mine], layer.keys[mine], layer.grid).probabilities().sum(0)
            total = part if total is None else total + part
    return (total if total is not None else layers[0].queries.new_zeros(0, 0)) / len(chosen)


def brought(maps: Float[Tensor, "n L"], source: tuple[int, int], target: tuple[int, int]) -> Float[Tensor, "m L"]:
    """Bring maps to another grid, bilinearly, half-pixel centres."""
    if source == target:
        return maps
    return F.interpolate(maps.T.unflatten(1, source)[None], size=target, mode="bilinear", align_corners=False)[0].flatten(1).T


def stretched(maps: Float[Tensor, "n s"]) -> Float[Tensor, "n s"]:
    """Every column from 0 to 1 over the image; a column that is the same everywhere, but for rounding, is 0."""
    low, high = maps.amin(0), maps.amax(0)
    flat = high - low <= _FLAT * torch.maximum(high.abs(), low.abs())
    return ((maps - low) / (high - low).masked_fill(flat, 1)).masked_fill(flat, 0)


def scores(columns: Mapping[str, Float[Tensor, " n"]], words: Words, join: str, grid: tuple[int, int]) -> Scores:
    """One column a string → one a class: the best of its strings, or their sum."""
    rows = torch.stack([columns[string] for string in words.strings])
    out = rows.new_zeros(words.classes, rows.shape[1])
    index = torch.tensor(words.groups, device=rows.device)[:, None].expand_as(rows)
    return Scores(out.scatter_reduce(0, index, rows, "amax" if join == "max" else "sum").T.contiguous(), grid)


def size_knob() -> Any:
    """The knob ``size``."""
    doc = "pixels of the shorter side, 0: as trained; rounded to what the U-Net takes. Larger: finer, n grows by its square."
    return knob(512, doc, low=0, high=4096, source="DiffSegmenter, iSeg: 512")


def fit_knob() -> Any:
    """The knob ``fit``."""
    doc = "square: squash, as the originals; aspect: keep the image's proportions."
    return knob("square", doc, choices=("square", "aspect"), source="DiffSegmenter, iSeg: square")


def resize_knob() -> Any:
    """The knob ``resize``."""
    doc = "bicubic: smoothed where the image shrinks; bilinear, nearest: by the nearest pixels alone, so that fine things alias."
    return knob("bicubic", doc, choices=RESIZES, source="DiffSegmenter, iSeg: bilinear")


def t_knob() -> Any:
    """The knob ``t``."""
    return knob(100, "noise step. Larger: coarser things decide, edges blur.", low=0, high=999, source="DiffSegmenter, iSeg: 100")


def seed_knob(default: int = 0, source: str = "") -> Any:
    """The knob ``seed``."""
    doc = "of the noise, drawn anew for every image, so that images do not depend on their order."
    return knob(default, doc, low=0, high=2**63 - 1, source=source)


def batch_knob() -> Any:
    """The knob ``batch``."""
    doc = "prompts a U-Net pass. Larger: faster on an accelerator, more memory; it changes the last digits alone."
    return knob(4, doc, low=1, high=256, source="ours")


def join_knob() -> Any:
    """The knob ``join``."""
    doc = "how strings of one class make one score, each of them from 0 to 1: the best, or all of them."
    return knob("max", doc, choices=("max", "sum"), source="the field's synonym rule: max")


def weights_knob(default: tuple[float, ...], source: str) -> Any:
    """The knob ``weights``."""
    doc = (
        "weight of each level of the U-Net, from the coarsest grid to the finest; a U-Net with fewer levels has no use for the last ones. "
        "More at the front: surer of what, less of where."
    )
    return knob(default, doc, source=source)
