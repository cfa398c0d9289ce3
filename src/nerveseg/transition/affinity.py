"""Affinities of heads under one kernel: rows, low-rank features, and the sharpness that gives a wanted number of neighbours."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerveseg.reprs import brief
from nerveseg.transition.heads import Heads
from nerveseg.transition.lengths import lengths
from nerveseg.transition.sample import entropy, sampled
from nerveseg.transition.transfer import numbers, sent

__all__ = ["Affinity", "groups", "paired", "prepared", "solved"]

# Rows that the spread is estimated on, and how near (in log) it has to come.
_ROWS, _NEAR, _TRIES = 128, 0.005, 60

# Row sums of features that are zero: of those with signs, as a share of what was added up; of others, where float32 loses its digits.
_CANCELLED, _UNDERFLOWN = 2e-5, 1e-30


@dataclass(frozen=True, eq=False)
class Affinity:
    """Heads that are computed together (see `groups`), prepared for their kernel; of a low-rank kernel always one.

    Args:
        kernel: the kernel's module.
        options: the kernel's Options, sharpness of these heads included.
        left: A of the kernel's contract, n rows a head; U with its rows normalised once ``ready``.
        right: B of the kernel's contract, n rows a head; V once ``ready``.
        ready: True where left and right are the thin pair itself.
        stuck: rows that sum to 0, known once ``ready``; None where there is none.
    """

    kernel: ModuleType
    options: Any
    left: Float[Tensor, "H n f"]
    right: Float[Tensor, "H n f"]
    ready: bool = False
    stuck: Bool[Tensor, "H n"] | None = None

    __repr__ = brief

    def rows(self, index: slice | Int[Tensor, " b"]) -> tuple[Float[Tensor, "H b n"], Bool[Tensor, "H b"] | None]:
        """Give the row-normalised affinities of some tokens, zero where flagged: O(H·b·n·f)."""
        if self.kernel.low_rank:
            pair = self.thin()
            return pair.left[:, index] @ pair.right.mT, None if pair.stuck is None else pair.stuck[:, index]
        return self.kernel.rows(self.left[:, index] @ self.right.mT, self.options)

    def sharp(self, each: Sequence[float]) -> Affinity:
        """The same heads with a sharpness each."""
        t = each[0] if len(each) == 1 else sent(torch.tensor(each), self.left.device, torch.float32)[:, None, None]
        return dataclasses.replace(self, options=_changed(self.options, self.kernel.sharpness, t))

    def of(self, places: Sequence[int]) -> Affinity:
        """Some of the heads, by their places among these."""
        if len(places) == len(self.left):
            return self
        index = torch.tensor(places, device=self.left.device)
        left, name = self.left[index], self.kernel.sharpness
        t = getattr(self.options, name) if name else None
        options = _changed(self.options, name, t[index]) if isinstance(t, Tensor) else self.options
        return dataclasses.replace(self, options=options, left=left, right=left if self.right is self.left else self.right[index])

    def thin(self, into: Callable[[int], tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]] | None = None) -> Affinity:
        """Give U, V with the rows of U Vᵀ normalised (20, 21), rows of zeros where stuck: O(n·r); for kernels with a feature map.

        Args:
            into: given r, where U and V are to be written; None makes them anew.
        """
        if self.ready:
            return self
        A = self.left[0]
        left, right = self.kernel.features(A, A if self.right is self.left else self.right[0], self.options)
        U, V = (torch.empty_like(left), right) if into is None else into(left.shape[1])
        if V is not right:
            V.copy_(right)
        total = right.sum(dim=0)
        sums = left @ total
        # A sum below its own round-off is a sum of zero: compare it with the size of what was added up. Without signs nothing cancels out.
        signed = torch.stack([left.min(), right.min()]).min() < 0
        least = torch.where(signed, lengths(left) * (lengths(total) * _CANCELLED), _UNDERFLOWN)
        stuck = sums <= least if self.kernel.stochastic else sums == 0
        if not bool(stuck.any()):
            return dataclasses.replace(self, left=torch.div(left, sums[:, None], out=U)[None], right=V[None], ready=True)
        torch.div(left, sums.masked_fill(stuck, 1.0)[:, None], out=U).masked_fill_(stuck[:, None], 0.0)
        return dataclasses.replace(self, left=U[None], right=V[None], ready=True, stuck=stuck[None])


def _changed(options: Any, name: str, value: float | Tensor) -> Any:
    # A number a head in the place of one number: what a knob never is, and a kernel's products take as they take a number.
    changed = copy.copy(options)
    object.__setattr__(changed, name, value)
    return changed


def groups(heads: Sequence[int], device: torch.device, *, low_rank: bool = False) -> list[list[int]]:
    """Which heads are computed together: each for itself on a CPU, where a block of one fills the caches, all of them elsewhere."""
    return [[head] for head in heads] if low_rank or device.type == "cpu" else [list(heads)]


def paired(heads: Heads, which: Sequence[int], pairing: str) -> tuple[Float[Tensor, "H n d"], Float[Tensor, "H n d"]]:
    """Give the two sides that are compared in float32; they are one and the same tensor for kk and qq."""
    sides = {"q": heads.queries, "k": heads.keys}
    inside = slice(which[0], which[-1] + 1) if which[-1] - which[0] + 1 == len(which) else list(which)  # a slice copies nothing
    left = sides[pairing[0]][inside].float()
    return left, left if pairing[0] == pairing[1] else sides[pairing[1]][inside].float()


def prepared(heads: Heads, which: Sequence[int], pairing: str, kernel: ModuleType, options: Any) -> Affinity:
    """Prepare heads for their kernel."""
    left, right = paired(heads, which, pairing)
    if not kernel.low_rank:
        return Affinity(kernel, options, *kernel.prepare(left, right, heads.grid, options))
    only = left[0]
    A, B = kernel.prepare(only, only if right is left else right[0], heads.grid, options)
    left = A[None]
    return Affinity(kernel, options, left, left if B is A else B[None])


def solved(affinity: Affinity, grid: tuple[int, int], neighbours: float, guess: float) -> list[float]:
    """Find the sharpness of each head at which its mean row perplexity is ``neighbours`` · n.

    Bracketed secant steps on the log of both, O(H·128·n) a step for all heads and about six steps; where the target is out of reach (a
    image without any contrast) the nearer end of the knob's range is the answer.

    Args:
        affinity: the heads.
        grid: (height, width) in tokens.
        neighbours: ν, in (0, 1]; smaller: sharper.
        guess: where to start, best the solution of the head before.
    """
    name: str = affinity.kernel.sharpness
    field = next(field for field in dataclasses.fields(affinity.options) if field.name == name)
    low, high = max(field.metadata["low"] or 0.0, 1e-3), field.metadata["high"] or 1e4
    index = sampled(grid, _ROWS, affinity.left.device)
    n = affinity.right.shape[1]
    products = None if affinity.kernel.low_rank else affinity.left[:, index] @ affinity.right.mT

    def excess(at: Sequence[float]) -> list[float]:
        trial = affinity.sharp([math.exp(t) for t in at])
        rows = trial.rows(index)[0] if products is None else affinity.kernel.rows(products.clone(), trial.options)[0]
        # The one wait for the device in a step, whatever the number of heads.
        return [math.log(mean / (neighbours * n)) for mean in numbers(entropy(rows).exp_().mean(dim=-1))]

    start = math.log(min(max(guess, low), high))
    searches = [_root(math.log(low), math.log(high), start) for _ in affinity.left]
    at, going = [next(search) for search in searches], set(range(len(searches)))
    while going:
        found = excess(at)
        for head in sorted(going):
            try:
                at[head] = searches[head].send(found[head])
            except StopIteration as end:
                at[head] = end.value
                going.remove(head)
    return [math.exp(t) for t in at]


def _root(low: float, high: float, start: float) -> Generator[float, float, float]:
    """Find where a monotone function is near 0, rising or falling: widen a bracket from ``start``, then Illinois steps.

    Yields where the function is asked for, is sent its value there, and returns the place: so searches for many heads go in step.
    """
    a, fa = start, (yield start)
    if abs(fa) <= _NEAR:
        return a
    step = 0.3 if start + 0.3 <= high else -0.3
    b, fb = start + step, (yield start + step)
    if abs(fb) > abs(fa):
        a, fa, b, fb = b, fb, a, fa
    tries = 0
    while fa * fb > 0 and tries < _TRIES:
        if b <= low or b >= high or fa == fb:
            return b
        a, fa, b = b, fb, min(max(b + 2.0 * (b - a), low), high)
        fb = yield b
        tries += 1
    while abs(fb) > _NEAR and tries < _TRIES:
        c = (a * fb - b * fa) / (fb - fa)
        fc = yield c
        tries += 1
        # Illinois: halving the value of an end that stays put keeps the secant from creeping.
        a, fa = (b, fb) if fb * fc < 0 else (a, fa / 2)
        b, fb = c, fc
    return b
