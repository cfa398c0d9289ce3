"""Upsample the logits of each string, then take the softmax and join strings to labels, for methods that upsample *before* their softmax.

    x = upsampled logits,  p_s = softmax_s(scale · x) over all strings,  share of a class = max (or sum) of p_s over its strings

Upsampling and softmax do not commute: this is what the SCLIP family does, where a walk upsamples probabilities. Classes come in blocks,
so that the memory does not grow with their number; each string is upsampled once for the softmax's denominator and once or twice more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.labels.base import Logits
from nerveseg.masks.upsample import BUDGET, NOTHING, resample

__all__ = ["UpsampledLogits", "early"]


@dataclass(frozen=True, eq=False)
class UpsampledLogits:
    """Logits that become labels at image size.

    Args:
        logits: maps of every string on their own grid, background strings last.
        background: None – no label for the rest; "rest" – what the classes leave is the last label; "best" – the background's strings join
            like those of a class, and what is left belongs to nobody (where there are no such strings: as "rest").
    """

    logits: Logits
    background: str | None = None

    @property
    def count(self) -> int:
        """Labels K, the background included."""
        return self._classes + (self.background is not None)

    @property
    def _classes(self) -> int:
        return max(self.logits.groups, default=-1) + 1

    def blocks(self, size: tuple[int, int], *, budget: int = BUDGET) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
        """Walk through the labels' probabilities as the softmax leaves them: they sum to at most 1 at a pixel.

        Args:
            size: (height, width) of the image.
            budget: bytes a block. Smaller: more blocks, same numbers.

        Yields:
            The id of the block's first label, and the block; the background, where there is one, comes last. Cost O(s·H·W).
        """
        maps = self.logits.maps.float()
        top, total = _denominator(maps, self.logits.scale, size, budget)
        rest = torch.ones_like(top)
        for first, block in self._classes_of(maps, top, total, size, budget):
            rest -= block.sum(0)
            yield first, block
        if self.background is not None:
            yield self._classes, self._other(maps, top, total, size, budget, rest.clamp_min_(0))[None]

    def shares(self, size: tuple[int, int], *, budget: int = BUDGET) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
        """The same, divided by their sum at each pixel: what scores and confidences are made of."""
        total = torch.zeros(size, device=self.logits.maps.device)
        for _, block in self.blocks(size, budget=budget):
            total += block.sum(0)
        for first, block in self.blocks(size, budget=budget):
            yield first, torch.where(total > NOTHING, block / total.clamp_min(NOTHING), torch.full_like(total, 1.0 / self.count))

    def _classes_of(
        self, maps: Tensor, top: Tensor, total: Tensor, size: tuple[int, int], budget: int
    ) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
        groups = torch.tensor(self.logits.groups)
        for first, last in _runs(self.logits.groups, max(1, budget // (4 * size[0] * size[1]))):
            index = ((groups >= first) & (groups < last)).nonzero()[:, 0]
            p = self._softmax(maps[index.to(maps.device)], top, total, size)
            own = (groups[index] - first).to(p.device).view(-1, 1, 1).expand(p.shape)
            yield first, p.new_zeros(last - first, *size).scatter_reduce_(0, own, p, "amax" if self.logits.join == "max" else "sum")

    def _other(self, maps: Tensor, top: Tensor, total: Tensor, size: tuple[int, int], budget: int, rest: Tensor) -> Float[Tensor, "H W"]:
        strings = maps[len(self.logits.groups) :]
        if self.background != "best" or len(strings) == 0:
            return rest
        out = torch.zeros_like(rest)
        step = max(1, budget // (4 * size[0] * size[1]))
        for first in range(0, len(strings), step):
            p = self._softmax(strings[first : first + step], top, total, size)
            out = torch.maximum(out, p.amax(0)) if self.logits.join == "max" else out + p.sum(0)
        return out

    def _softmax(self, strings: Tensor, top: Tensor, total: Tensor, size: tuple[int, int]) -> Float[Tensor, "s H W"]:
        return resample(strings, size).mul(self.logits.scale).sub_(top).exp_().div_(total)


def early(logits: Logits) -> Logits:
    """One map a class, that of its largest logit at each place, and one for all strings of the background, where a method says so."""
    if not logits.early:
        return logits
    owners = torch.tensor(logits.groups, device=logits.maps.device)
    classes = max(logits.groups, default=-1) + 1
    maps = [logits.maps[: len(owners)][owners == c].amax(0) for c in range(classes)]
    others = logits.maps[len(owners) :]
    return replace(logits, maps=torch.stack([*maps, *([others.amax(0)] if len(others) else [])]), groups=tuple(range(classes)), early=False)


def _denominator(maps: Tensor, scale: float, size: tuple[int, int], budget: int) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """The largest logit at each pixel, and the sum of exp(logit − it) over all strings, in one pass over blocks of strings."""
    step = max(1, budget // (4 * size[0] * size[1]))
    top = torch.full(size, -torch.inf, device=maps.device)
    total = torch.zeros(size, device=maps.device)
    for first in range(0, len(maps), step):
        x = resample(maps[first : first + step], size).mul(scale)
        higher = torch.maximum(top, x.amax(0))
        total = total * torch.exp(top - higher) + torch.exp(x - higher).sum(0)
        top = higher
    return top, total


def _runs(groups: tuple[int, ...], most: int) -> Iterator[tuple[int, int]]:
    """Runs of classes whose strings are at most ``most`` together, or one class."""
    sizes = [0] * (max(groups, default=-1) + 1)
    for group in groups:
        sizes[group] += 1
    first, held = 0, 0
    for place, size in enumerate(sizes):
        if held and held + size > most:
            yield first, place
            first, held = place, 0
        held += size
    yield first, len(sizes)
