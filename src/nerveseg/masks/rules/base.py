"""What a rule is told about the classes it treats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["ClassStats", "class_stats", "divides", "least_of", "threshold_of"]


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

    def part(self, first: int, count: int) -> ClassStats:
        """The classes ``first`` … ``first + count − 1``."""
        block = slice(first, first + count)
        return ClassStats(self.score[block], None if self.rest is None else self.rest[block])


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


def divides(rule: ModuleType, options: Any) -> bool:
    """Whether the rule compares shares of a pixel; True where it does not say."""
    says: Callable[[Any], bool] | None = getattr(rule, "divides", None)
    return says is None or says(options)


def threshold_of(rule: ModuleType, options: Any) -> float | None:
    """The rule's threshold, or None if it has none."""
    threshold: Callable[[Any], float] | None = getattr(rule, "threshold", None)
    return None if threshold is None else threshold(options)


def least_of(rule: ModuleType, options: Any) -> float:
    """The share of the labelled pixels that a label must win to stay, or 0 if the rule has none."""
    least: Callable[[Any], float] | None = getattr(rule, "least", None)
    return 0.0 if least is None else least(options)
