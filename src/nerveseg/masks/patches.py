"""Decide large images patch by patch, and skip labels that cannot win a patch.

Bilinear upsampling makes a pixel's share a weighted mean of four tokens, so the smallest and the largest token of a patch bound it. If the
rule is an increasing affine function of each map, its values are bounded too: a label is upsampled only where its upper bound reaches the
best lower bound. Of hundreds of labels a few remain on each patch, and the result is exactly that of upsampling all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nerveseg.masks.rules.base import Line
from nerveseg.masks.upsample import NOTHING, between, resample

__all__ = ["Patches"]

_CELLS = 4  # side of a patch in tokens. Smaller: closer bounds, more patches; each costs a dozen small operations
_FEW = 0.4  # of labels on a patch, on the average; with more, whole maps cost less (measured on a CPU)
_SLACK = 1e-5  # share of a bound that rounding may move it by


@dataclass(frozen=True)
class _Run:
    """Neighbouring pixels along one side, and the tokens that they lie between."""

    pixels: slice
    tokens: slice
    before: Int64[Tensor, " p"]
    after: Int64[Tensor, " p"]
    share: Float[Tensor, " p"]


class Patches:
    """Maps on the token grid, seen at the image's size patch by patch.

    Args:
        maps: (k, h, w) ≥ 0, float32.
        size: (height, width) of the image.
        divide: whether pixels are divided by their sum over the maps, as in `nerveseg.masks.upsample.shares`.
    """

    def __init__(self, maps: Float[Tensor, "k h w"], size: tuple[int, int], *, divide: bool = True) -> None:
        self._maps, self._size = maps, size
        self._rows, self._columns = (_runs(cells, pixels) for cells, pixels in zip(maps.shape[1:], size, strict=True))
        self._total: Tensor | None = None
        tokens = maps
        if divide:
            sums = maps.sum(0, keepdim=True)
            self._total = resample(sums, size)[0]
            tokens = maps / sums.clamp_min(NOTHING)
        self._high, self._low = (self._pooled(tokens, most=most) for most in (True, False))

    @staticmethod
    def fit(maps: Float[Tensor, "k h w"], *, divide: bool) -> bool:
        """Whether there are bounds at all: a token without any probability has no shares."""
        return not divide or float(maps.sum(0).min()) > NOTHING

    def top(self) -> Float[Tensor, " k"]:
        """The largest value of each map over the image's pixels."""
        return self._extreme(self._high, most=True)

    def low(self) -> Float[Tensor, " k"]:
        """The smallest value of each map over the image's pixels."""
        return -self._extreme(-self._low, most=False)

    def pay(self, line: Line) -> bool:
        """Whether so few labels are left on the patches that whole maps would cost more; maps of noise leave nearly all."""
        return float(self._contenders(line).float().mean()) <= _FEW

    def winners(
        self, line: Line, dropped: Bool[Tensor, " k"] | None = None, *, budget: int
    ) -> tuple[Int64[Tensor, "H W"], Float[Tensor, "H W"]]:
        """The class of the largest value at each pixel, the lowest id where several have it, and that value.

        Args:
            line: map → value, class by class.
            dropped: classes that take no part; None: all do.
            budget: bytes a block of maps.
        """
        there = self._contenders(line, dropped)
        ids = torch.empty(self._size, dtype=torch.int64)
        best = torch.full(self._size, -torch.inf)
        for number, (rows, columns) in enumerate(self._patches()):
            area = (rows.pixels, columns.pixels)
            most = max(1, budget // (4 * best[area].numel()))
            among = there[:, number].nonzero()[:, 0]
            for classes in (among[at : at + most] for at in range(0, len(among), most)):
                value, winner = line.of(classes)(self._seen(classes, rows, columns)).max(dim=0)
                better = value > best[area]
                ids[area] = torch.where(better, classes[winner], ids[area])
                best[area] = torch.where(better, value, best[area])
        return ids, best

    def _contenders(self, line: Line, dropped: Bool[Tensor, " k"] | None = None) -> Bool[Tensor, "k patches"]:
        """Which labels may win somewhere on which patch."""
        high, low = line(self._high), line(self._low)
        if dropped is not None:
            high, low = (values.masked_fill(dropped[:, None], -torch.inf) for values in (high, low))
        floor = low.amax(0)
        return high >= floor - _SLACK * floor.abs() - NOTHING

    def _patches(self) -> list[tuple[_Run, _Run]]:
        return [(rows, columns) for rows in self._rows for columns in self._columns]

    def _seen(self, classes: Int64[Tensor, " c"], rows: _Run, columns: _Run) -> Float[Tensor, "c p q"]:
        """Some maps on one patch of the image."""
        part = self._maps[:, rows.tokens, columns.tokens][classes]
        part = torch.lerp(part[:, rows.before], part[:, rows.after], rows.share[:, None])
        part = torch.lerp(part[..., columns.before], part[..., columns.after], columns.share)
        return part if self._total is None else part.div_(self._total[rows.pixels, columns.pixels])

    def _pooled(self, tokens: Float[Tensor, "k h w"], *, most: bool) -> Float[Tensor, "k patches"]:
        """The largest or smallest value at the tokens of each patch."""
        pool = torch.amax if most else torch.amin
        rows = torch.stack([pool(tokens[:, run.tokens], dim=1) for run in self._rows], dim=1)
        return torch.stack([pool(rows[..., run.tokens], dim=2) for run in self._columns], dim=2).flatten(1)

    def _extreme(self, bounds: Float[Tensor, "k patches"], *, most: bool) -> Float[Tensor, " k"]:
        """The largest value at pixels, of the maps or of them negated: on the patch that promises most, then on those that promise more."""
        found = torch.full((len(bounds),), -torch.inf)
        first = bounds.argmax(1)
        patches = self._patches()

        def look(number: int, classes: Tensor) -> None:
            if len(classes):
                seen = self._seen(classes, *patches[number])
                value = seen.amax((1, 2)) if most else -seen.amin((1, 2))
                found[classes] = torch.maximum(found[classes], value)

        for number in range(len(patches)):
            look(number, (first == number).nonzero()[:, 0])
        more = bounds > found[:, None]
        more[torch.arange(len(bounds)), first] = False
        for number in range(len(patches)):
            look(number, more[:, number].nonzero()[:, 0])
        return found


def _runs(cells: int, pixels: int) -> list[_Run]:
    before, after, share = between(cells, pixels, torch.device("cpu"))
    out: list[_Run] = []
    for first in range(0, cells, _CELLS):
        inside = ((before >= first) & (before < first + _CELLS)).nonzero()[:, 0]
        if len(inside):
            at = slice(int(inside[0]), int(inside[-1]) + 1)
            tokens = slice(int(before[at][0]), int(after[at][-1]) + 1)
            out.append(_Run(at, tokens, before[at] - tokens.start, after[at] - tokens.start, share[at]))
    return out
