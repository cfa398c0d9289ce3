"""CLIP's own layers as the graph, no second network: queries and keys of vision blocks, class token dropped (for the paper's (8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nerveseg.backbones.clip import POSITIONS, Clip
from nerveseg.errors import OptionError
from nerveseg.graph import _tokens
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD, fit, to_tensor
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob
from nerveseg.transition import Heads

__all__ = ["Options", "heads", "needs"]

needs = ("clip",)
_SIDES = {"qk": (0, 1), "queries": (0, 0), "keys": (1, 1), "values": (2, 2)}


@dataclass(frozen=True)
class Options:
    """Knobs of the CLIP graph."""

    layers: tuple = knob(
        (-1, -2), "vision blocks whose heads are used, from the end: -1 is the last. More: more heads, which entropy weighs."
    )
    what: str = knob(
        "qk",
        "what a head gives: its queries and keys, or one of queries, keys and values as both.",
        choices=tuple(_SIDES),
        source="(8): qk",
    )
    size: int = _tokens.size_knob(336, "as the label source, so that one pass serves both")
    fit: str = _tokens.fit_knob()
    max_tokens: int = _tokens.tokens_knob()
    positions: str = knob(
        "bilinear",
        "how position embeddings reach another grid. The label source's own saves a pass.",
        choices=POSITIONS,
        source="CLIPer: bilinear",
    )


@torch.no_grad()
def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Tensor | None = None) -> Heads:
    """Read the heads of one image; those of all layers lie side by side, in the order of ``options.layers``.

    Args:
        image: any size.
        networks: their ``clip``. A pass that the label source made on the same pixels is not made again.
        options: see `Options`.
        noise: not read: nothing is drawn.

    Returns:
        Heads, float32, H the sum over layers, n patches.

    Raises:
        OptionError: layers that do not exist, or a square past ``max_tokens``.
    """
    clip: Clip = networks["clip"]
    depth = int(clip.model.config.vision_config.num_hidden_layers)
    layers = options.layers
    inside = all(isinstance(layer, int) and -depth <= layer < 0 for layer in layers)
    if not layers or len(set(layers)) != len(layers) or not inside:
        raise OptionError(
            f"Got layers = {layers!r}. Accepted are different ones of -{depth} to -1, from the end. Choose blocks that this CLIP has."
        )
    frame = fit(image.size, options.fit, options.size or clip.side, clip.patch, max_tokens=options.max_tokens)
    pixels = to_tensor(image, frame.fitted, CLIP_MEAN, CLIP_STD)[None]
    inputs = clip.vision(pixels, positions=options.positions, attention=False).inputs
    sides = [clip.qkv(inputs[layer], layer) for layer in layers]
    left, right = _SIDES[options.what]
    queries, keys = (torch.cat([side[at][:, 1:] for side in sides]) for at in (left, right))
    return Heads(queries, keys, frame.grid)
