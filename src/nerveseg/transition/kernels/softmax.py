"""exp(q·k/(T·√d)): the attention that the network itself uses (7). No feature map; sharp for small T."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nerveseg.registry import knob

__all__ = ["Options", "prepare", "rows"]

low_rank = False
stochastic = True
sharpness = "temperature"


@dataclass(frozen=True)
class Options:
    """Knobs of the attention kernel."""

    temperature: float = knob(
        1.0, "T: divides the logits; smaller: sharper, 1 is the network's own attention.", low=1e-6, high=1e4, source="(7)"
    )


def prepare(
    queries: Float[Tensor, "*H n d"], keys: Float[Tensor, "*H n d"], grid: tuple[int, int], options: Options
) -> tuple[Float[Tensor, "*H n d"], Float[Tensor, "*H n d"]]:
    """Divide the queries by √d, as attention does."""
    return queries * queries.shape[-1] ** -0.5, keys


def rows(products: Float[Tensor, "*H b n"], options: Options) -> tuple[Float[Tensor, "*H b n"], Bool[Tensor, "*H b"] | None]:
    """Normalise exp(logits/T); torch's softmax takes the row maximum off first."""
    return torch.softmax(products.div_(options.temperature), dim=-1), None
