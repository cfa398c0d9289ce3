"""What the graphs of DINO and DINOv2 share: parts of blocks → heads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.dino import MEAN, STD, Dino
from nerveseg.errors import OptionError
from nerveseg.image.geometry import fit, to_tensor
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob
from nerveseg.transition import Heads

__all__ = ["WHAT", "fit_knob", "layers_knob", "read", "size_knob", "tokens_knob", "what_knob"]

WHAT = ("keys", "queries", "values", "tokens", "qk")
"""What is compared: a block's keys, queries or values among themselves, its output tokens (one head), or queries with keys."""

_PARTS = {"keys": ("k", "k"), "queries": ("q", "q"), "values": ("v", "v"), "tokens": ("output", "output"), "qk": ("q", "k")}


@torch.no_grad()
def read(image: LoadedImage, backbone: Dino, options: Any) -> Heads:
    """Heads of one image, float32, layer by layer in the order of ``options.layers``. One pass up to the last block asked for.

    Args:
        image: any size.
        backbone: DINO or DINOv2.
        options: a graph's own, with ``layers``, ``what``, ``size``, ``fit``, ``max_tokens`` and ``positions``.

    Raises:
        OptionError: no layer, one twice, one that does not exist, or a square past ``max_tokens``.
    """
    layers = options.layers
    if not layers or len(set(layers)) != len(layers):
        raise OptionError(f"Got layers = {layers!r}. Accepted are one or more different layers, from the end. Name each of them once.")
    frame = fit(image.size, options.fit, options.size or backbone.side, backbone.patch, max_tokens=options.max_tokens)
    pixels = to_tensor(image, frame.fitted, MEAN, STD)[None]
    left, right = _PARTS[options.what]
    wanted = tuple(dict.fromkeys((layer, part) for layer in layers for part in (left, right)))
    found = dict(zip(wanted, backbone.parts(pixels, wanted, positions=options.positions), strict=True))
    queries, keys = (torch.cat([_headed(found[layer, part]) for layer in layers]) for part in (left, right))
    return Heads(queries, keys, frame.grid)


def _headed(x: Tensor) -> Float[Tensor, "H n d"]:
    return x if x.ndim == 3 else x[None]


def layers_knob() -> Any:
    """The knob ``layers``."""
    return knob(
        (-1,), "blocks whose heads are used, from the end: -1 is the last. More: more heads, which entropy weighs.", source="LPOSS: -1"
    )


def what_knob(default: str = "keys") -> Any:
    """The knob ``what``."""
    doc = "what is compared: keys, queries, values or output tokens among themselves, or queries with keys."
    return knob(default, doc, choices=WHAT, source="keys: object discovery on DINO (LOST, TokenCut); LPOSS: values; ProxyCLIP: tokens")


def size_knob(default: int, source: str) -> Any:
    """The knob ``size``."""
    doc = "pixels of the shorter side, 0: as trained; rounded to the patch. Larger: finer, n grows by its square."
    return knob(default, doc, low=0, high=4096, source=source)


def fit_knob() -> Any:
    """The knob ``fit``."""
    return knob("aspect", "aspect: keep the image's proportions; square: squash.", choices=("aspect", "square"), source="ProxyCLIP: aspect")


def tokens_knob(default: int = 4096) -> Any:
    """The knob ``max_tokens``."""
    doc = "most tokens n; a longer image is made smaller. Larger: finer, attention takes n² work."
    return knob(default, doc, low=1, high=65536, source="64 × 64, the grid of Stable Diffusion at 512 pixels")
