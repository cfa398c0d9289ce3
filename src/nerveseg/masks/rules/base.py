"""What a rule is told about the classes it treats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ClassStats", "class_stats", "threshold_of"]


@dataclass(frozen=True)
class ClassStats:
    """One number a class, from the token grid.

    Attributes:
        score: ½·max P + ½·max G over the tokens: how sure the best token of the class is. In 0…1; small for absent labels.
    """

    score: Float[Tensor, " c"]

    def part(self, first: int, count: int) -> ClassStats:
        """The classes ``first`` … ``first + count − 1``."""
        return ClassStats(self.score[first : first + count])


def class_stats(P: Float[Tensor, "k h w"], G: Float[Tensor, "k g v"]) -> ClassStats:
    """Score every class: s_c = ½·max_i P_ic + ½·max_i G_ic (CLIPer's class score, with P in the place of its refined map)."""
    return ClassStats(0.5 * torch.amax(P.float(), dim=(1, 2)) + 0.5 * torch.amax(G.float(), dim=(1, 2)))


def threshold_of(rule: ModuleType, options: Any) -> float | None:
    """The rule's threshold, or None if it has none."""
    threshold: Callable[[Any], float] | None = getattr(rule, "threshold", None)
    return None if threshold is None else threshold(options)
