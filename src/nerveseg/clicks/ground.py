"""The state that clicks share (S, the words, the image), and what is kept after each click."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor

from nerveseg.clicks.edges import colours, edged
from nerveseg.clicks.options import BESIDE, EDGED, Options
from nerveseg.clicks.smoothing import calm
from nerveseg.clicks.visual_words import even
from nerveseg.image import LoadedImage
from nerveseg.labels.base import Words
from nerveseg.masks.color_likelihood import ColorLikelihoodRatio, bins
from nerveseg.reprs import brief
from nerveseg.transition.base import Transition
from nerveseg.transition.resolvent import Resolvent, resolvent
from nerveseg.walk import Outcome, Walk
from nerveseg.words.vocabulary import Background, Vocabulary

__all__ = ["Ground", "Reach", "Solved", "prepare"]

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Ground(Generic[R]):
    """One image and its words before any click.

    Attributes:
        vocabulary, background: the words.
        words: as the label source is told them.
        size: (height, width) of the image.
        grid: (h, w) of the walk's tokens.
        P: after the walk.
        inside: the rest of the labelling; its ``G``, ``scale`` and ``own`` are read.
        walk: how the walk ended; None where nothing walked.
        S: what stays frozen; None: clicks keep to their own tokens.
        walk_alpha: of the walk; None where P comes from no walk on S.
        Z: (m, E) token vectors for visual words; None where the label source has none.
        source_grid: (h, w), h·w = m.
        score: words and how many labels → a labelling without a walk.
        again: a labelling → its P, where P comes from no walk on S.
        decide: what was solved → the result.
        options: knobs.
        level: of Z, see `nerveseg.clicks.visual_words.even`.
        image: whose edges clicks keep to; None: those of S alone.
        edged: what clicks walk on, made by `prepare`; None: S.
        codes: the colours of the image's pixels, made by `prepare`; None: they do not count.
        resolvents: (I − αS)⁻¹ by name, where they are worth their making: ``"clicks"`` on their graph with their α, ``"walk"`` on S with
            the walk's.
    """

    vocabulary: Vocabulary
    background: Background | None
    words: Words
    size: tuple[int, int]
    grid: tuple[int, int]
    P: Float[Tensor, "n k"]
    inside: Any
    walk: Walk | None
    S: Any
    walk_alpha: float | None
    Z: Float[Tensor, "m E"] | None
    source_grid: tuple[int, int]
    score: Callable[[Words, int], Any]
    again: Callable[[Any], Tensor]
    decide: Callable[[Solved], R]
    options: Options
    level: Float[Tensor, " E"] | None = None
    image: LoadedImage | None = None
    edged: Any = None
    codes: Int16[Tensor, "H W"] | None = None
    resolvents: Mapping[str, Resolvent] = field(default_factory=dict)

    __repr__ = brief

    @property
    def carrier(self) -> Any:
        """What clicks walk on."""
        return self.S if self.edged is None else self.edged

    @property
    def within(self) -> bool:
        """Whether clicks join the walk itself; they cannot where it is none on S."""
        return self.options.system == "within" and self.walk_alpha is not None

    @property
    def alpha(self) -> float:
        """α of clicks."""
        if self.options.alpha is not None:
            return self.options.alpha
        if self.within and self.walk_alpha is not None:
            return self.walk_alpha
        return BESIDE if self.edged is None else EDGED


@dataclass(frozen=True, eq=False)
class Reach:
    """The chances that a walk with the α of clicks ends at each label's clicks before it stops.

    Attributes:
        labels: the columns of P that have clicks.
        H: a column for each of them, then that of walks that stop elsewhere; rows sum to 1.
        bound: largest L1 error of a row of H.
        outcome: how the walk to the clicks ended.
        steps: applications of S.
        columns: token → its column of (I − αS)⁻¹, of all tokens that were clicks so far; empty without a resolvent.
    """

    labels: tuple[int, ...]
    H: Float[Tensor, "n l"]
    bound: float = 0.0
    outcome: Outcome = Outcome.EXACT
    steps: int = 0
    columns: Mapping[int, Float[Tensor, " n"]] = field(default_factory=dict)

    __repr__ = brief

    @property
    def elsewhere(self) -> Float[Tensor, "n 1"]:
        """1 − h."""
        return self.H[:, -1:]


@dataclass(frozen=True, eq=False)
class Solved:
    """P with clicks.

    Attributes:
        vocabulary: the labels, new ones last.
        inside: the labelling that it was solved from, visual words included.
        P: (n, k), k − 1 labels and ``rest``.
        walk: how the walks ended; None where nothing walked.
        pinned: click by click, the image's pixels and the id that they have.
        seconds: stage → seconds.
        free: the walk's P with the same visual words and without clicks, where it is known.
        reach: how far the clicks reach; None where there is no S.
        odds: what the colours of pixels say of the labels with clicks; None where they do not count.
    """

    vocabulary: Vocabulary
    inside: Any
    P: Float[Tensor, "n k"]
    walk: Walk | None = None
    pinned: tuple[tuple[Int64[Tensor, " _"], int], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    free: Float[Tensor, "n k"] | None = None
    reach: Reach | None = None
    odds: ColorLikelihoodRatio | None = None

    __repr__ = brief


def prepare(given: Ground[R], *, often: bool) -> Ground[R]:
    """Make what clicks share once.

    Args:
        given: what stays over clicks.
        often: whether many are to come: I − αS is then factorised where S is held whole, for clicks and for the walk.
    """
    speaks = given.Z is not None and given.options.visual != "off"
    level = even(given.Z) if given.Z is not None and speaks else None
    given = dataclasses.replace(given, level=level, edged=_edged(given), codes=_codes(given), resolvents={})
    if not often or given.S is None or given.within:
        return given
    found = {"clicks": resolvent(given.carrier, given.alpha)}
    if given.walk_alpha is not None and speaks:
        same = given.edged is None and given.walk_alpha == given.alpha
        found["walk"] = found["clicks"] if same else resolvent(given.S, given.walk_alpha)
    return dataclasses.replace(given, resolvents={name: N for name, N in found.items() if N is not None})


def _edged(given: Ground[Any]) -> Any:
    knobs = given.options
    off = given.image is None or given.within or knobs.contrast == 0
    if off or given.image is None or not isinstance(given.S, Transition) or given.S.stencil is None:
        return None
    return edged(given.S, colours(given.image, given.grid), sharpness=knobs.contrast, beta=knobs.beta)


def _codes(given: Ground[Any]) -> Int16[Tensor, "H W"] | None:
    silent = given.image is None or given.within or given.options.colours == 0 or not given.options.absorb
    return None if silent or given.image is None else bins(calm(torch.tensor(given.image.pixels)))
