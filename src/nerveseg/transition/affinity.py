"""One head under one kernel: its rows, its thin pair, and the sharpness that a target spread asks for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerveseg.transition.heads import Heads
from nerveseg.transition.lengths import lengths
from nerveseg.transition.sample import entropy, sampled

__all__ = ["Affinity", "paired", "prepared", "solved"]

# Rows that the spread is estimated on, and how near (in log) it has to come.
_ROWS, _NEAR, _TRIES = 128, 0.005, 60


@dataclass(frozen=True, eq=False)
class Affinity:
    """One head, prepared for its kernel.

    Args:
        kernel: the kernel's module.
        options: the kernel's Options, sharpness of this head included.
        left: A of the kernel's contract, n rows; U with its rows normalised once ``ready``.
        right: B of the kernel's contract, n rows; V once ``ready``.
        ready: True where left and right are the thin pair itself.
        stuck: (n,) rows that sum to 0, known once ``ready``; None where there is none.
    """

    kernel: ModuleType
    options: Any
    left: Float[Tensor, "n f"]
    right: Float[Tensor, "n f"]
    ready: bool = False
    stuck: Bool[Tensor, " n"] | None = None

    def rows(self, index: slice | Int[Tensor, " b"]) -> tuple[Float[Tensor, "b n"], Bool[Tensor, " b"] | None]:
        """Give the row-normalised affinities of some tokens, zero where flagged: O(b·n·f)."""
        if self.kernel.low_rank:
            pair = self.thin()
            return pair.left[index] @ pair.right.mT, None if pair.stuck is None else pair.stuck[index]
        return self.kernel.rows(self.left[index] @ self.right.mT, self.options)

    def thin(self, into: Callable[[int], tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]] | None = None) -> Affinity:
        """Give U, V with the rows of U Vᵀ normalised (20, 21), rows of zeros where stuck: O(n·r); for kernels with a feature map.

        Args:
            into: given r, where U and V are to be written; None makes them anew.
        """
        if self.ready:
            return self
        left, right = self.kernel.features(self.left, self.right, self.options)
        U, V = (torch.empty_like(left), right) if into is None else into(left.shape[1])
        if V is not right:
            V.copy_(right)
        total = right.sum(dim=0)
        sums = left @ total
        stuck = sums == 0
        if self.kernel.stochastic:
            # A sum below its own round-off is a sum of zero: compare it with the size of what was added up.
            stuck = sums <= lengths(left) * (lengths(total) * 1e-6)
        if not bool(stuck.any()):
            return dataclasses.replace(self, left=torch.div(left, sums[:, None], out=U), right=V, ready=True)
        torch.div(left, sums.masked_fill(stuck, 1.0)[:, None], out=U).masked_fill_(stuck[:, None], 0.0)
        return dataclasses.replace(self, left=U, right=V, ready=True, stuck=stuck)


def paired(heads: Heads, head: int, pairing: str) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Give the two sides that are compared in float32; they are one and the same tensor for kk and qq."""
    sides = {"q": heads.queries, "k": heads.keys}
    left = sides[pairing[0]][head].float()
    return left, left if pairing[0] == pairing[1] else sides[pairing[1]][head].float()


def prepared(heads: Heads, head: int, pairing: str, kernel: ModuleType, options: Any) -> Affinity:
    """Prepare one head for its kernel."""
    left, right = kernel.prepare(*paired(heads, head, pairing), heads.grid, options)
    return Affinity(kernel, options, left, right)


def solved(affinity: Affinity, grid: tuple[int, int], neighbours: float, guess: float) -> float:
    """Find the sharpness at which the mean row perplexity is ``neighbours`` · n.

    Bracketed secant steps on the log of both, O(128·n) a step and about six steps; where the target is out of reach (a picture
    without any contrast) the nearer end of the knob's range is the answer.

    Args:
        affinity: the head.
        grid: (height, width) in tokens.
        neighbours: ν, in (0, 1]; smaller: sharper.
        guess: where to start, best the solution of the head before.
    """
    name: str = affinity.kernel.sharpness
    field = next(field for field in dataclasses.fields(affinity.options) if field.name == name)
    low, high = max(field.metadata["low"] or 0.0, 1e-3), field.metadata["high"] or 1e4
    index = sampled(grid, _ROWS, affinity.left.device)
    n = affinity.right.shape[0]
    products = None if affinity.kernel.low_rank else affinity.left[index] @ affinity.right.mT

    def excess(t: float) -> float:
        options = dataclasses.replace(affinity.options, **{name: math.exp(t)})
        at = dataclasses.replace(affinity, options=options)
        rows = at.rows(index)[0] if products is None else affinity.kernel.rows(products.clone(), options)[0]
        return math.log(float(entropy(rows).exp_().mean()) / (neighbours * n))

    return math.exp(_root(excess, math.log(low), math.log(high), math.log(min(max(guess, low), high))))


def _root(excess: Callable[[float], float], low: float, high: float, start: float) -> float:
    """Find where a monotone function is near 0, rising or falling: widen a bracket from ``start``, then Illinois steps."""
    a, fa = start, excess(start)
    if abs(fa) <= _NEAR:
        return a
    step = 0.3 if start + 0.3 <= high else -0.3
    b, fb = start + step, excess(start + step)
    if abs(fb) > abs(fa):
        a, fa, b, fb = b, fb, a, fa
    tries = 0
    while fa * fb > 0 and tries < _TRIES:
        if b <= low or b >= high or fa == fb:
            return b
        a, fa, b = b, fb, min(max(b + 2.0 * (b - a), low), high)
        fb = excess(b)
        tries += 1
    while abs(fb) > _NEAR and tries < _TRIES:
        c = (a * fb - b * fa) / (fb - fa)
        fc = excess(c)
        tries += 1
        # Illinois: halving the value of an end that stays put keeps the secant from creeping.
        a, fa = (b, fb) if fb * fc < 0 else (a, fa / 2)
        b, fb = c, fc
    return b
