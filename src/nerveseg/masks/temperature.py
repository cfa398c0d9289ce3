"""A temperature on ln p: it changes how confident shares are, never their order.

    p_c(T) = p_c^(1/T) / Σ_c p_c^(1/T)

As Guo et al. (2017) do with a network's logits; ln p are the logits of a softmax that gives p. Classes come in blocks, so that memory does
not grow with their number: a first pass finds the largest share and the sum at each pixel, a second makes the shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.masks.upsample import BUDGET, Blocks
from nerveseg.registry import shown

__all__ = ["LEAST", "MOST", "check", "of", "sums", "tempered"]

LEAST, MOST = 0.05, 20.0
"""Temperatures lie between these: 0.9 against 0.1 is 1 against nothing at the one, and 0.53 against 0.47 at the other."""

_TINY = torch.finfo(torch.float32).tiny


def check(temperature: Any, name: str = "temperature") -> float:
    """Give the temperature as a float; raise `OptionError` where it is none."""
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not number or not LEAST <= temperature <= MOST:
        raise OptionError(
            f"Got {name} = {shown(temperature)}. Accepted is a number from {LEAST:g} to {MOST:g}. Use 1 for the scores as they are; "
            "larger is less sure."
        )
    return float(temperature)


def sums(blocks: Blocks, size: tuple[int, int], temperature: float) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """What a share is divided by before and after its power.

    Args:
        blocks: the shares.
        size: (height, width) of the image.
        temperature: T.

    Returns:
        The largest share t of each pixel, and Σ (p/t)^(1/T), which lies between 1 and the number of classes: no power of a small share
        is too small for a float. Cost O(k·H·W), a few maps of memory beside the block.
    """
    power = 1.0 / temperature
    top, total = torch.zeros(size), torch.zeros(size)
    for _, block in _thin(blocks):
        higher = torch.maximum(top, block.amax(0)).clamp_min_(_TINY)
        total.mul_((top / higher).pow_(power)).add_((block / higher).pow_(power).sum(0))
        top = higher
    return top.clamp_min_(_TINY), total.clamp_min_(1.0)


def of(own: Float[Tensor, "H W"], top: Float[Tensor, "H W"], total: Float[Tensor, "H W"], temperature: float) -> Float[Tensor, "H W"]:
    """The tempered share of one class at each pixel.

    Args:
        own: its share without a temperature.
        top: from `sums`.
        total: from `sums`.
        temperature: T.
    """
    return (own / top).clamp_(0.0, 1.0).pow_(1.0 / temperature).div_(total)


def tempered(
    blocks: Callable[[], Blocks], size: tuple[int, int], temperature: float, *, budget: int = BUDGET
) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
    """Walk through the tempered shares; those of a pixel sum to 1.

    Args:
        blocks: gives the shares without a temperature, each time anew: they are gone through twice.
        size: (height, width) of the image.
        temperature: T. Larger: less sure. The order of the classes at a pixel stays.
        budget: bytes per block at most, whatever the blocks that are given. Smaller: more blocks, same numbers.

    Yields:
        The id of the block's first class, and the block.
    """
    top, total = sums(blocks(), size, temperature)
    for first, block in _thin(blocks(), budget):
        yield first, (block / top).clamp_(0.0, 1.0).pow_(1.0 / temperature).div_(total)


def _thin(blocks: Blocks, budget: int = BUDGET) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
    """The same in blocks of at most so many bytes, none below 0; a refiner's maps come in one."""
    for first, block in blocks:
        step = max(1, budget // (4 * block.shape[1] * block.shape[2]))
        for at in range(0, block.shape[0], step):
            yield first + at, block[at : at + step].float().clamp_min(0.0)
