"""What a rule is told about the classes it treats."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nerveseg.reprs import brief

__all__ = [
    "ClassStats",
    "Extremes",
    "Line",
    "MapExtremes",
    "class_stats",
    "divides",
    "least_of",
    "line_of",
    "plain",
    "score_grid_of",
    "threshold_of",
    "through_of",
]


@dataclass(frozen=True)
class ClassStats:
    """One number a class, from the token grid.

    Attributes:
        score: m·(½·max P + ½·max G) over the tokens: how sure the best token of the class is. In 0…1 where the label source's scores
            are; small for absent labels.
        rest: True for the column `rest` where it competes as the background; None where there is no background.
    """

    score: Float[Tensor, " c"]
    rest: Bool[Tensor, " c"] | None = None

    __repr__ = brief

    def part(self, first: int, count: int) -> ClassStats:
        """The classes ``first`` … ``first + count − 1``."""
        block = slice(first, first + count)
        return ClassStats(self.score[block], None if self.rest is None else self.rest[block])


@runtime_checkable
class Extremes(Protocol):
    """The largest and the smallest value of each map over the image's pixels; worked out where a rule asks for them."""

    def top(self) -> Float[Tensor, " c"]:
        """Largest values."""
        ...

    def low(self) -> Float[Tensor, " c"]:
        """Smallest values."""
        ...


@dataclass(frozen=True)
class MapExtremes:
    """`Extremes` of maps at the image's size."""

    maps: Float[Tensor, "c H W"]

    __repr__ = brief

    def top(self) -> Float[Tensor, " c"]:
        """Largest values."""
        return torch.amax(self.maps, dim=(1, 2))

    def low(self) -> Float[Tensor, " c"]:
        """Smallest values."""
        return torch.amin(self.maps, dim=(1, 2))


@dataclass(frozen=True)
class Line:
    """A rule that treats every pixel by itself: value = (map − start)·gain + shift, one line a class.

    Attributes:
        start: where the line crosses ``shift``.
        gain: ≥ 0.
        shift: the value there.
    """

    start: Float[Tensor, " c"]
    gain: Float[Tensor, " c"]
    shift: Float[Tensor, " c"]

    __repr__ = brief

    def __call__(self, maps: Float[Tensor, "c ..."]) -> Float[Tensor, "c ..."]:
        """Values of maps, or of any other numbers a class."""
        start, gain, shift = (part.to(maps)[(..., *[None] * (maps.ndim - 1))] for part in (self.start, self.gain, self.shift))
        return (maps - start).mul_(gain).add_(shift)

    @property
    def plain(self) -> bool:
        """Whether values are the maps themselves."""
        return not bool(self.start.any()) and not bool(self.shift.any()) and bool((self.gain == 1).all())

    def of(self, classes: Int64[Tensor, " b"]) -> Line:
        """The lines of some classes."""
        return Line(self.start[classes], self.gain[classes], self.shift[classes])


def class_stats(P: Float[Tensor, "k h w"], G: Float[Tensor, "k g v"], *, background: bool = False, scale: float = 1.0) -> ClassStats:
    """Score every class: s_c = ½·max_i P_ic + ½·max_i G_ic (CLIPer's class score, with P in the place of its refined map).

    Args:
        P: the columns that are shown, after the walk.
        G: the same before it.
        background: whether the last of them is `rest`.
        scale: m, what the label source's scores were divided by to become G; class scores are on their scale, as thresholds are.
    """
    score = scale * (0.5 * torch.amax(P.float(), dim=(1, 2)) + 0.5 * torch.amax(G.float(), dim=(1, 2)))
    return ClassStats(score, torch.arange(len(score), device=score.device) == len(score) - 1 if background else None)


def plain(stats: ClassStats) -> Line:
    """The line of a rule that leaves maps as they are."""
    none = torch.zeros_like(stats.score)
    return Line(none, torch.ones_like(none), none)


def line_of(rule: ModuleType, stats: ClassStats, extremes: Extremes, options: Any) -> Line | None:
    """The rule as one line a class, or None if it looks at more than a pixel of one map."""
    return None if rule.line is None else rule.line(stats, extremes, options)


def divides(rule: ModuleType, options: Any) -> bool:
    """Whether the rule compares shares of a pixel; True where it does not say."""
    return rule.divides is None or rule.divides(options)


def threshold_of(rule: ModuleType, options: Any) -> float | None:
    """The rule's threshold, or None if it has none."""
    return None if rule.threshold is None else rule.threshold(options)


def least_of(rule: ModuleType, options: Any) -> float:
    """The share of the labelled pixels that a label must win to stay, or 0 if the rule has none."""
    return 0.0 if rule.least is None else rule.least(options)


def score_grid_of(rule: ModuleType, options: Any) -> str:
    """The grid that the rule looks for class scores on: "walk", where it does not say, or "source"."""
    return "walk" if rule.score_grid is None else rule.score_grid(options)


def through_of(rule: ModuleType, options: Any) -> int:
    """Side of the square that maps are resized to on their way to the image's size; 0, where the rule does not say, for none."""
    return 0 if rule.through is None else rule.through(options)
