"""The last stage: label probabilities on the token grid → a `Segmentation` at the image's size, and the timer of all stages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from nerveseg.clicks import Solved
from nerveseg.errors import RecipeError
from nerveseg.image import LoadedImage
from nerveseg.labels.base import Logits, Scores
from nerveseg.masks.rules.base import through_of
from nerveseg.masks.upsample import resample
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.segmentation import Segmentation, WalkInfo
from nerveseg.transition import Heads, TiledHeads, Transition
from nerveseg.walk import Walk
from nerveseg.weights.folder import Folder
from nerveseg.words.vocabulary import Background

__all__ = ["Digests", "Labelling", "StageTimer", "decided", "logits_of"]


@dataclass(frozen=True, eq=False)
class Labelling:
    """The token-grid half of a decode: G, S and P, for those who want to look inside.

    Attributes:
        G: (n, k) rows that walked: the labels in the caller's order, then ``rest``.
        S: the transition; None where nothing walks.
        walk: P and its bound; None where nothing walks.
        grid: (h, w), h·w = n.
        logits: what is upsampled in place of P, where the recipe does so.
        scale: m, what the label source's scores were divided by to become G; 1 where a calibration gave them a scale of its own.
        own: G as maps on the label source's own grid, where the rule looks there for class scores and it is not the walk's.
        heads: what S is built from; None where there is no graph.
    """

    G: Float[Tensor, "n k"]
    S: Transition | None
    walk: Walk | None
    grid: tuple[int, int]
    logits: Logits | None = None
    scale: float = 1.0
    own: Float[Tensor, "k g v"] | None = None
    heads: Heads | TiledHeads | None = None

    __repr__ = brief

    @property
    def P(self) -> Float[Tensor, "n k"]:
        """Probabilities after the walk; G where nothing walks."""
        return self.G if self.walk is None else self.walk.probabilities


def decided(
    found: Solved, image: LoadedImage, background: Background | None, recipe: Recipe, weights: Mapping[str, str], watch: StageTimer
) -> Segmentation:
    """Decide every pixel by the recipe's rule; pixels under clicks have their clicks' labels.

    Args:
        found: P, and the `Labelling` that it was solved from.
        image: gives the size.
        background: what stands for the rest, or None.
        recipe: rule, refiner and the rest of [masks].
        weights: model → digest.
        watch: counts the seconds.
    """
    inside: Labelling = found.inside
    maps = [columns.T.unflatten(1, inside.grid) for columns in (found.P, inside.G)]
    through = through_of(recipe.rule.module, recipe.rule.options)
    with watch("decide"):
        result = Segmentation.build(
            resample(maps[0], (through, through)) if through else maps[0],
            maps[1] if inside.own is None else inside.own,
            found.vocabulary,
            image,
            background=background,
            rule=recipe.rule.name,
            options=recipe.rule.options,
            refiner=recipe.refiner.name,
            refiner_options=recipe.refiner.options,
            min_area=recipe.min_area,
            logits=inside.logits,
            background_map=recipe.background,
            scale=inside.scale,
            odds=None if inside.logits is not None else found.odds,
            temperature=recipe.temperature,
            recipe=recipe.name,
            walk=_info(inside, found.walk),
            weights=weights,
        )
        for places, label in found.pinned:
            result.segmentation.view(-1)[places] = label
    return dataclasses.replace(result, seconds=MappingProxyType({**watch.seconds, **found.seconds}))


class StageTimer:
    """Seconds by stage.

    Args:
        told: called with a stage's name when it begins, for progress bars.
    """

    def __init__(self, told: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._told = told

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the seconds of a block."""
        if self._told is not None:
            self._told(stage)
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


class Digests(Mapping[str, str]):
    """Backbone → digest of its weights, read when somebody asks: a writer does, most callers never do, and it takes seconds a gigabyte."""

    def __init__(self, folders: Mapping[str, Folder]) -> None:
        self._folders = folders

    def __getitem__(self, name: str) -> str:
        return self._folders[name].digest

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


def logits_of(scores: Scores, recipe: Recipe) -> Logits | None:
    """The logits that a recipe upsamples in place of P; None where it does not.

    Raises:
        RecipeError: it does, and the label source ends in none.
    """
    if recipe.upsample != "logits":
        return None
    if scores.logits is None:
        raise RecipeError(
            f"Got masks.upsample = 'logits' with the label source {recipe.labels.name!r}, which ends in no logits. "
            "Accepted are sources that compare one vector a token with each word. Set it to 'probabilities'."
        )
    return scores.logits


def _info(inside: Labelling, walk: Walk | None) -> WalkInfo | None:
    if walk is None:
        return None
    heads = tuple(float(w) for w in inside.S.weights) if inside.S is not None else ()
    return WalkInfo(walk.steps, walk.bound, walk.outcome.name.lower(), heads)
