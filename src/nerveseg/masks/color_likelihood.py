"""Multiply the odds of labels at each pixel by a likelihood ratio of its colour, and normalise again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor
from torch.nn import functional

from nerveseg.reprs import brief

__all__ = ["BINS", "ColorLikelihoodRatio", "bins"]

BINS = 24
"""Steps of red, of green and of blue that colours are told apart by."""

_ROOM = 1 << 26  # bytes


@dataclass(frozen=True, eq=False)
class ColorLikelihoodRatio:
    """The factor of label l at a pixel, o_l = exp(near_l · t_l[bin]), made when it is asked for; that of labels without a table is 1.

    Attributes:
        codes: (H, W) the bin of each pixel's colour, from `bins`.
        tables: label → (BINS³,) t_l, the logarithm of the factor by colour.
        near: label → (h, w), from 0 to 1, how much of it counts, on any grid over the image; where it is 0 nothing changes.
    """

    codes: Int16[Tensor, "H W"]
    tables: Mapping[int, Float[Tensor, " b"]]
    near: Mapping[int, Float[Tensor, "h w"]]

    __repr__ = brief

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.codes.nbytes + sum(part.nbytes for part in (*self.tables.values(), *self.near.values()))

    def of(self, label: int, device: torch.device) -> Float[Tensor, "H W"]:
        """The factor of one label. Cost O(H·W)."""
        size = (self.codes.shape[0], self.codes.shape[1])
        near = functional.interpolate(self.near[label][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        return near.mul_(self.tables[label][self.codes.int()]).exp_().to(device)

    def factors(self, device: torch.device) -> Mapping[int, Float[Tensor, "H W"]]:
        """Label → its factor; made once where all together take little memory, else each time that one is asked for."""
        lazy = _Factors(self, device)
        return dict(lazy) if 4 * self.codes.numel() * len(self.tables) <= _ROOM else lazy


@dataclass(frozen=True, eq=False)
class _Factors(Mapping[int, Tensor]):
    odds: ColorLikelihoodRatio
    device: torch.device

    def __getitem__(self, label: int) -> Tensor:
        return self.odds.of(label, self.device)

    def __iter__(self) -> Iterator[int]:
        return iter(self.odds.tables)

    def __len__(self) -> int:
        return len(self.odds.tables)


def bins(pixels: UInt8[Tensor, "H W 3"]) -> Int16[Tensor, "H W"]:
    """The bin of each pixel's colour: its red, green and blue in steps, as one number.

    Args:
        pixels: RGB.
    """
    red, green, blue = (pixels[..., channel].short() * BINS // 256 for channel in range(3))
    return (red * BINS + green) * BINS + blue
