"""Correct a result click by click, with undo."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import _renamed
from nerveseg.clicks.click import Click
from nerveseg.clicks.ground import Ground, Solved
from nerveseg.clicks.solve import solved
from nerveseg.reprs import brief

__all__ = ["Correction"]

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Correction(Generic[R]):
    """A result and the clicks that it has so far; adding and undoing give another one and leave this one as it is.

    Start with `Segmenter.correct`. S, the heads' weights and the words stay what they were; G takes up visual words; P is solved anew from
    where it was.

    Attributes:
        ground: what stays as it is.
        solved: P and what it was solved from.
        result: the labelling with the clicks.
        clicks: all so far, in order.
        seconds: stage → seconds of the last step.
        before: this without the last step; None at the start.
    """

    ground: Ground[R] = field(repr=False)
    solved: Solved = field(repr=False)
    result: R
    clicks: tuple[Click, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    before: Correction[R] | None = field(default=None, repr=False)

    __repr__ = brief
    seeds = _renamed.attribute("seeds", "clicks")

    @property
    def P(self) -> Float[Tensor, "n k"]:
        """Probabilities of the labels and ``rest`` on the token grid."""
        return self.solved.P

    @property
    def G(self) -> Float[Tensor, "n k"]:
        """The same before the walk, visual words included."""
        return self.solved.inside.G

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, new ones last."""
        return self.solved.vocabulary.names

    def add(self, *clicks: Click) -> Correction[R]:
        """Correct: one step with one click or several, which `undo` takes back together.

        Raises:
            LabelError: a label that cannot be one. OptionError: a click outside of the image.
        """
        if not clicks:
            return self
        every = (*self.clicks, *clicks)
        with torch.inference_mode():
            found = solved(self.ground, every, self.solved)
            started = time.perf_counter()
            result = self.ground.decide(found)
        seconds = {**found.seconds, "decide": time.perf_counter() - started}
        return Correction(self.ground, found, result, every, seconds, self)

    def undo(self) -> Correction[R]:
        """The correction before the last step, bit for bit; itself where there was none."""
        return self if self.before is None else self.before
