"""The graph of DINO: heads of its last blocks, self-supervised attention at patches of 8 or 16 pixels (for the paper's (8))."""

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

needs = ("dino",)


@dataclass(frozen=True)
class Options:
    """Knobs of the DINO graph."""

    layers: tuple = _tokens.layers_knob()
    what: str = _tokens.what_knob()
    size: int = _tokens.size_knob(336, "ProxyCLIP: 336")
    fit: str = _tokens.fit_knob()
    max_tokens: int = _tokens.tokens_knob()
    positions: str = knob(
        "",
        "how position embeddings reach another grid; empty: as transformers does for this model.",
        choices=("", *POSITIONS),
        source="DINO's published program: bicubic-offset",
    )


def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Tensor | None = None) -> Heads:
    """Read the heads of one image; those of all layers lie side by side, in the order of ``options.layers``.

    Args:
        image: any size.
        networks: their ``dino``.
        options: see `Options`.
        noise: not read: nothing is drawn.

    Returns:
        Heads, float32, H the sum over layers (one a layer for ``what = "tokens"``); class token and registers are dropped.
        One pass up to the last block asked for; memory O(H·n·d).

    Raises:
        OptionError: layers that do not exist, or a square past ``max_tokens``.
    """
    return _tokens.read(image, networks["dino"], options)
