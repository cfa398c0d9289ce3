"""What `nerveseg explain` draws: G, the walk at several lengths, and how far each is from the walk without end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerveseg.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from nerveseg.recipe import Recipe, Stage
    from nerveseg.segmenter import Encoding, Labelling, Segmenter
    from nerveseg.walk import Walk
    from nerveseg.words.vocabulary import Background, Vocabulary

__all__ = ["STEPS", "Inside", "Snapshot", "check", "look"]

STEPS = (0, 1, 5, 10, 20, 40)
"""Lengths of the truncated walk that are shown, before the walk without end."""

_LONGEST = 720  # pixels on a side of a shown image: label maps are decided at that size, not at the image's own

_LAYERS = {-1: "last layer", -2: "last but one"}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The walk after some steps.

    Attributes:
        steps: L; None for the walk without end.
        ids: (h, w) label ids at the shown size.
        error: largest L1 distance of a row from the walk without end, as measured.
        moved: share of pixels whose label differs from that of the walk without end.
    """

    steps: int | None
    ids: np.ndarray
    error: float
    moved: float


@dataclass(frozen=True, eq=False)
class Inside:
    """Everything the figure shows.

    Attributes:
        name: the image's name.
        recipe: the recipe's name.
        pixels: (h, w, 3) uint8, the image at the shown size.
        names: labels, the background last where there is one.
        background: its id, or None.
        grid: tokens (h, w).
        prior: ids of G on the token grid.
        snapshots: the walk, shortest first, without end last.
        layers: name and number of heads of each layer, in the order of ``weights``.
        weights: w_h.
        entropies: of the heads in nats; empty where they were not measured.
        alpha: of the walk.
        tolerance: asked of the walk without end.
        certified: its bound after each step.
    """

    name: str
    recipe: str
    pixels: np.ndarray
    names: tuple[str, ...]
    background: int | None
    grid: tuple[int, int]
    prior: np.ndarray
    snapshots: tuple[Snapshot, ...]
    layers: tuple[tuple[str, int], ...]
    weights: tuple[float, ...]
    entropies: tuple[float, ...]
    alpha: float
    tolerance: float
    certified: tuple[float, ...]


def check(recipe: Recipe) -> Stage:
    """The recipe's walk, or a refusal, before any network is loaded.

    Raises:
        RecipeError: nothing walks, or the walk goes on attention heads: then there is no S, no weight of a head and no walk without end.
    """
    if recipe.walk is None or recipe.graph is None:
        raise RecipeError(
            f"Got the recipe {recipe.name!r}, in which nothing walks. Accepted is one with a graph and a walk. "
            "Choose another with --recipe."
        )
    if recipe.walk.module.needs != "S":
        raise RecipeError(
            f"Got the recipe {recipe.name!r}, whose walk {recipe.walk.name!r} goes on attention heads and makes no transition S. "
            "Accepted is a walk on S. Add --set walk.name=infinite, or choose another with --recipe."
        )
    return recipe.walk


def look(segmenter: Segmenter, encoding: Encoding, vocabulary: Vocabulary, background: Background | None = None) -> Inside:
    """Label an encoded image and keep what is inside.

    Raises:
        RecipeError: see `check`.
    """
    from nerveseg import walk

    recipe = segmenter.recipe
    on_S = check(recipe)
    labelling = segmenter.label(encoding, vocabulary, background)
    S, alpha = labelling.S, float(on_S.options.alpha)
    tolerance = float(getattr(on_S.options, "tolerance", 1e-4))
    endless = walk.infinite(S, labelling.G, alpha=alpha, tolerance=tolerance)  # type: ignore[arg-type]
    walks: list[tuple[int | None, Walk]] = [(steps, walk.truncated(S, labelling.G, alpha, steps)) for steps in STEPS]  # type: ignore[arg-type]
    shown = _shown(encoding.image.size)
    keeps = background is not None
    heads = [float(weight) for weight in S.weights]  # type: ignore[union-attr]
    return Inside(
        name=encoding.image.name,
        recipe=recipe.name,
        pixels=_thumbnail(encoding, shown),
        names=tuple(label.name for label in vocabulary) + ((background.name,) if background else ()),
        background=len(vocabulary) if keeps else None,
        grid=labelling.grid,
        prior=_ids(labelling, labelling.G, labelling.grid, recipe, keeps=keeps),
        snapshots=tuple(_snapshots([*walks, (None, endless)], labelling, shown, recipe, keeps=keeps)),
        layers=_layers(len(heads), recipe),
        weights=tuple(heads),
        entropies=tuple(float(value) for value in (S.entropies if S is not None and S.entropies is not None else ())),
        alpha=alpha,
        tolerance=tolerance,
        certified=endless.history,
    )


def _snapshots(
    walks: list[tuple[int | None, Walk]], labelling: Labelling, size: tuple[int, int], recipe: Any, *, keeps: bool
) -> Iterator[Snapshot]:
    final = walks[-1][1].probabilities
    last = _ids(labelling, final, size, recipe, keeps=keeps)
    for steps, walked in walks:
        ids = last if steps is None else _ids(labelling, walked.probabilities, size, recipe, keeps=keeps)
        error = float((walked.probabilities - final).abs().sum(1).max())
        yield Snapshot(steps, ids, error, float((ids != last).mean()))


def _ids(labelling: Labelling, columns: Tensor, size: tuple[int, int], recipe: Any, *, keeps: bool) -> np.ndarray:
    from nerveseg.masks.decide import decide

    P, G = (rows.T.unflatten(1, labelling.grid) for rows in (columns, labelling.G))
    return decide(P, G, size, background=keeps, rule=recipe.rule.name, options=recipe.rule.options, scale=labelling.scale).cpu().numpy()


def _shown(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _LONGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _thumbnail(encoding: Encoding, size: tuple[int, int]) -> np.ndarray:
    import numpy as np
    from PIL import Image

    height, width = size
    return np.asarray(encoding.image.to_pil().resize((width, height), Image.Resampling.LANCZOS))


def _layers(count: int, recipe: Any) -> tuple[tuple[str, int], ...]:
    """Names and heads of the layers; all heads as one where they do not divide evenly."""
    asked: tuple[Any, ...] = tuple(getattr(recipe.graph.options, "layers", ()))
    if not asked or count % len(asked):
        return (("all layers", count),)
    return tuple((_LAYERS.get(layer, f"layer {layer}"), count // len(asked)) for layer in asked)
