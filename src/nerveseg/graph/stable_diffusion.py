"""The graph of Stable Diffusion: queries and keys of its last self-attention layers at one noise level (for the paper's (8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.stable_diffusion import RESIZES, LayerHeads, StableDiffusion
from nerveseg.errors import OptionError
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob
from nerveseg.transition import Heads

__all__ = ["Options", "concat_layers", "heads", "needs"]

needs = ("diffusion",)


@dataclass(frozen=True)
class Options:
    """Knobs of the diffusion graph."""

    layers: tuple = knob(
        (-1, -2),
        "self-attention layers whose heads are used: indices in the order of a pass, negative from the end, or module paths.",
        source="the paper: the last two; CLIPer: up_blocks.3.attentions.0 and .1",
    )
    t: int = knob(100, "noise step. Larger: coarser things decide, edges blur.", low=0, high=999, source="iSeg: 100; CLIPer: 101")
    size: int = knob(
        512,
        "pixels of the shorter side, 0: as trained; rounded to what the U-Net takes. Larger: finer, n grows by its square.",
        low=0,
        high=4096,
        source="CLIPer, iSeg: 512",
    )
    fit: str = knob("square", "square: squash, as the paper; aspect: keep the image's proportions.", choices=("square", "aspect"))
    resize: str = knob(
        "bicubic",
        "bicubic: smoothed where the image shrinks; bilinear, nearest: by the nearest pixels alone, so that fine things alias.",
        choices=RESIZES,
        source="CLIPer: nearest; iSeg: bilinear",
    )
    seed: int = knob(0, "of the noise, drawn anew for every image, so that images do not depend on their order.", low=0, high=2**63 - 1)
    mix_grids: bool = knob(
        default=False,
        doc="bring queries and keys of coarser layers to the finest grid bilinearly. Off: layers of different grids are refused.",
        source="ours: the papers stay on one grid",
    )


@torch.no_grad()
def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Float[Tensor, "1 c h w"] | None = None) -> Heads:
    """Read the heads of one image; those of all layers lie side by side, in the order of ``options.layers``.

    Args:
        image: any size.
        networks: their ``diffusion``.
        options: see `Options`.
        noise: ε itself in place of the seed, of the latent's shape.

    Returns:
        Heads, float32, H the sum over layers (10 for SD 2.1's last two), n = h·w tokens of those layers' grid (64 × 64 at 512 pixels).
        One unfinished U-Net pass; memory O(H·n·d).

    Raises:
        OptionError: layers of different grids where ``mix_grids`` is off.
    """
    backbone: StableDiffusion = networks["diffusion"]
    pixels = backbone.pixels(image, size=options.size, fit=options.fit, resize=options.resize)
    return concat_layers(backbone.attention(pixels, t=options.t, layers=options.layers, seed=options.seed, noise=noise), options)


def concat_layers(found: tuple[LayerHeads, ...], options: Options) -> Heads:
    """The heads of several layers side by side, on one grid.

    Raises:
        OptionError: layers of different grids where ``mix_grids`` is off.
    """
    if options.mix_grids:
        found = _on_one_grid(found)
    grids = {layer.layer: layer.grid for layer in found}
    if len(set(grids.values())) > 1 or len({layer.queries.shape[-1] for layer in found}) > 1:
        said = ", ".join(f"{name} {grid[0]}×{grid[1]}" for name, grid in grids.items())
        raise OptionError(
            f"Got layers that differ in grid or head width: {said}. Accepted are layers of one grid. "
            "Choose them from one level, or set graph.mix_grids."
        )
    return Heads(torch.cat([layer.queries for layer in found]), torch.cat([layer.keys for layer in found]), found[0].grid)


def _on_one_grid(layers: tuple[LayerHeads, ...]) -> tuple[LayerHeads, ...]:
    grid = max((layer.grid for layer in layers), key=lambda grid: grid[0] * grid[1])
    width = max(layer.queries.shape[-1] for layer in layers)
    return tuple(
        LayerHeads(layer.layer, _brought(layer.queries, layer.grid, grid, width), _brought(layer.keys, layer.grid, grid, width), grid)
        for layer in layers
    )


def _brought(x: Float[Tensor, "H n d"], source: tuple[int, int], target: tuple[int, int], width: int) -> Float[Tensor, "H m w"]:
    """Resize to a grid and widen by zeros; cosines stay, and (width/d)^¼ on both sides keeps q·k/√d what it was."""
    if source != target:
        x = F.interpolate(x.mT.unflatten(-1, source), size=target, mode="bilinear", align_corners=False).flatten(2).mT
    d = x.shape[-1]
    return F.pad(x * (width / d) ** 0.25, (0, width - d)).contiguous() if d < width else x.contiguous()
