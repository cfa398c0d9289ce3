"""Solve many variants of one image, and compute once what variants share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import transition
from nerveseg.bench.ablate.base import Variant
from nerveseg.bench.words import Asked
from nerveseg.masks.rules.base import score_grid_of
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.segmenter import Encoding, Labelling, Segmenter
from nerveseg.transition import Heads, TiledHeads, Transition

__all__ = ["Prepared", "Solved", "Solver", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A variant with its recipe composed, once for all images.

    Attributes:
        variant: what it varies.
        recipe: with its settings.
        encoded: the part of the recipe that passes the networks, as text; equal texts share an encoding.
    """

    variant: Variant
    recipe: Recipe
    encoded: str

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Solved:
    """One variant of one image, on the token grid.

    Attributes:
        P: after the walk or step; G where there is none.
        G: before it.
        grid: (h, w) of both.
        scale: m, see `Labelling.scale`.
        own: G on the label source's own grid, see `Labelling.own`.
    """

    P: Float[Tensor, "n k"]
    G: Float[Tensor, "n k"]
    grid: tuple[int, int]
    scale: float
    own: Float[Tensor, "k g v"] | None = None

    __repr__ = brief


def prepare(recipe: Recipe, variants: Sequence[Variant]) -> tuple[Prepared, ...]:
    """Compose every variant's recipe; raises what the recipe raises."""
    return tuple(_prepared(recipe.changed(variant.settings), variant) for variant in variants)


@dataclass(eq=False)
class Solver:
    """Solves variants of one image.

    Attributes:
        segmenter: with the networks; its recipe is that of the ablation.
        encode: recipe → the image's encoding by it.
        asked: variant → words for the image.
    """

    segmenter: Segmenter
    encode: Callable[[Recipe], Encoding]
    asked: Callable[[Variant], Asked]
    _kept: dict[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def __call__(self, variants: Sequence[Prepared]) -> Iterator[tuple[Prepared, Solved]]:
        """Solve one after the other; the caller takes what it needs from each before the next."""
        for prepared in variants:
            with torch.inference_mode():
                yield prepared, self._solve(prepared)

    def _solve(self, given: Prepared) -> Solved:
        recipe, variant = given.recipe, given.variant
        encoding: Encoding = self._once(["encoding", given.encoded], lambda: self.encode(recipe))
        asked = self.asked(variant)
        words = "as they are" if variant.names is None else variant.names.digest
        # Of [masks] only the grid of the class score is the labels' part.
        named = [
            "G",
            given.encoded,
            words,
            _tables(recipe, "labels", "calibration"),
            score_grid_of(recipe.rule.module, recipe.rule.options),
        ]
        start: Labelling = self._once(named, lambda: self._labels(encoding, recipe, asked))
        if encoding.heads is None and recipe.walk is not None and not variant.once:
            # Heads, if any, come with the words, from the label source itself: nothing is shared.
            inside = self._segmenter(recipe).label(encoding, asked.vocabulary, asked.background, recipe=recipe)
            return Solved(inside.P, inside.G, inside.grid, inside.scale, inside.own)
        if encoding.heads is None or recipe.walk is None:
            return Solved(start.G, start.G, start.grid, start.scale, start.own)
        heads = _some(encoding.heads, variant.heads)
        if recipe.walk.module.needs == "heads" and not variant.once:
            P = recipe.walk.module.solve(heads, start.G, recipe.walk.options).probabilities
            return Solved(P, start.G, start.grid, start.scale, start.own)
        graph = ["S", *named, list(variant.heads or ()), _tables(recipe, "transition", "kernel")]
        S: Transition = self._once(
            graph, lambda: transition.build(heads, start.G, options=recipe.transition, kernel_options=recipe.kernel.options)
        )
        P = S @ start.G if variant.once else recipe.walk.module.solve(S, start.G, recipe.walk.options).probabilities
        return Solved(P, start.G, start.grid, start.scale, start.own)

    def _labels(self, encoding: Encoding, recipe: Recipe, asked: Asked) -> Labelling:
        alone = recipe.changed({"walk.name": "none"})
        return self._segmenter(recipe).label(encoding, asked.vocabulary, asked.background, recipe=alone)

    def _segmenter(self, recipe: Recipe) -> Segmenter:
        return dataclasses.replace(self.segmenter, recipe=recipe)

    def _once(self, what: list[Any], make: Callable[[], Any]) -> Any:
        name = json.dumps(what, sort_keys=True, default=str)
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def _prepared(recipe: Recipe, variant: Variant) -> Prepared:
    free = recipe.labels.module.decode_options
    labels = {name: value for name, value in dataclasses.asdict(recipe.labels.options).items() if name not in free}
    graph: list[Any] | None = None if recipe.graph is None else [recipe.graph.name, dataclasses.asdict(recipe.graph.options)]
    return Prepared(variant, recipe, json.dumps([dict(recipe.weights), recipe.labels.name, labels, graph], sort_keys=True, default=str))


def _tables(recipe: Recipe, *names: str) -> list[Any]:
    tables: Mapping[str, Any] = recipe.table
    return [tables.get(name, {}) for name in names]


def _some(heads: Heads | TiledHeads, places: tuple[int, ...] | None) -> Heads | TiledHeads:
    if places is None:
        return heads
    index = list(places)
    return Heads(heads.queries[index], heads.keys[index], heads.grid)
