"""A label source: a token is like a word whose colour has the direction of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from nerveseg.labels import base
from nerveseg.labels.base import score_cosines as score
from nerveseg.registry import knob

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

needs = ("palette",)
embeds = "palette"
text_conditioned = False
decode_options = ("scale", "join")


@dataclass(frozen=True)
class Options:
    """Knobs of the palette."""

    side: int = knob(32, "tokens along each side. Larger: finer, slower.", low=1, high=256)
    scale: float = knob(20.0, "factor on cosines before the softmax. Larger: harder decisions.", above=0, high=1000)
    join: str = base.join_knob()


def look(image, networks, options):
    """The mean colour of each token: there is no network to run."""
    pixels = torch.from_numpy(image.pixels.copy()).permute(2, 0, 1)[None].float() / 255
    yield F.adaptive_avg_pool2d(pixels, options.side)[0]


def encode(views, networks, options):
    """Colours as unit vectors, one layer of them."""
    (view,) = views
    return base.Features(base.unit(view.flatten(1).T)[None], tuple(view.shape[1:]))
