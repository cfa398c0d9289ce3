"""The graph of DINOv2: heads of its last blocks, also with registers, which are dropped (for the paper's (8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nerveseg.backbones.clip import POSITIONS
from nerveseg.graph import _tokens
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob
from nerveseg.transition import Heads

__all__ = ["Options", "heads", "needs"]

needs = ("dinov2",)


@dataclass(frozen=True)
class Options:
    """Knobs of the DINOv2 graph."""

    layers: tuple = _tokens.layers_knob()
    what: str = _tokens.what_knob()
    size: int = _tokens.size_knob(0, "as trained: 518 pixels, 37 × 37 tokens")
    fit: str = _tokens.fit_knob()
    max_tokens: int = _tokens.tokens_knob()
    positions: str = knob(
        "",
        "how position embeddings reach another grid; empty: as transformers does for this model.",
        choices=("", *POSITIONS),
        source="DINOv2's published program: bicubic-offset, with registers bicubic-antialias",
    )


def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Tensor | None = None) -> Heads:
    """Read the heads of one image; those of all layers lie side by side, in the order of ``options.layers``.

    Args:
        image: any size.
        networks: their ``dinov2``.
        options: see `Options`.
        noise: not read: nothing is drawn.

    Returns:
        Heads, float32, H the sum over layers (one a layer for ``what = "tokens"``); class token and registers are dropped.
        One pass up to the last block asked for; memory O(H·n·d).

    Raises:
        OptionError: layers that do not exist, or a square past ``max_tokens``.
    """
    return _tokens.read(image, networks["dinov2"], options)
