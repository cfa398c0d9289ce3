"""`refine`: walk the label probabilities of any model on any graph.

`refine` is one call. For many images, load the graph's networks once with `walker` and give them as the recipe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import _renamed
from nerveseg import recipe as recipes
from nerveseg.backbones.shared_networks import SharedNetworks
from nerveseg.errors import OptionError, RecipeError, ShapeError
from nerveseg.image import arrays, load_image
from nerveseg.labels import saved
from nerveseg.labels.base import Features, Words
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter
from nerveseg.transition.rows import is_plain
from nerveseg.words.vocabulary import BACKGROUND, Background, Vocabulary, folded, need_background

__all__ = ["Columns", "prepare", "recipe_for", "refine", "settings_for", "walk_on", "walker"]

# The label source gives way to what is there; so do the calibration and the temperature, which are made for one label source.
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "labels.name": "saved",
        "labels.kind": "probabilities",
        "labels.scale": 1.0,
        "labels.join": "max",
        "calibration.name": "none",
        "masks.upsample": "probabilities",
        "masks.temperature": 1.0,
    }
)
_IDS = 65535


@dataclass(frozen=True, eq=False)
class Columns:
    """Probabilities that were checked, and what their maps are called.

    Attributes:
        features: the maps, as the label source ``saved`` holds them.
        vocabulary: the labels.
        background: what stands for the rest, or None.
    """

    features: Features
    vocabulary: Vocabulary
    background: Background | None

    __repr__ = brief


@_renamed.keywords(picture="image")
def refine(
    probabilities: Any,
    image: Any,
    *,
    recipe: str | Path | Recipe | Segmenter = "nerve",
    labels: Any = None,
    background: Any = None,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    offline: bool = False,
    seed: int | None = None,
    noise: Float[Tensor, "1 c h w"] | None = None,
) -> Segmentation:
    """Walk the label probabilities of any model on the graph of a recipe.

    Args:
        probabilities: (K, h, w), a NumPy array or tensor of any number type, or an .npz or .safetensors file as
            `nerveseg.labels.saved` reads it; on any grid that covers the whole image. (h, w, K) is read where the number of labels, the
            image's size or sums of 1 over the last axis say so. Values ≥ 0. Where they do not sum to 1, all are divided by one number, if
            a sum is larger, and the rest becomes the column ``rest``.
        image: as `Segmenter` takes it.
        recipe: a name, a file, a folder, a Recipe, or a Segmenter, whose networks then serve; its graph, transition, walk, rule and
            refiner are used, not its label source or calibration. Only the graph's networks are loaded.
        labels: K words, in the order of the maps (or any order, where a file names its maps); None: the file's names (without
            ``background``, where the next is given), or ``class 0`` ….
        background: None – every pixel gets one of the labels; "auto" – `rest` competes and becomes ``background``.
        settings: knobs by dotted name, as ``{"walk.alpha": 0.95, "labels.kind": "logits"}``.
        device: as `Segmenter.from_pretrained`; so are ``dtype``, ``revision`` and ``offline``. Not read where a Segmenter is given.
        dtype: see ``device``.
        revision: see ``device``.
        offline: see ``device``.
        seed: of the diffusion noise; None takes the recipe's.
        noise: the noise itself.

    Returns:
        A `Segmentation`, as `Segmenter` makes: label map, P on the graph's grid, the walk's bound.

    Raises:
        RecipeError: nothing walks in the recipe. ShapeError: probabilities that are none. LabelError: labels that do not fit them.
        SavedError: a file that cannot be read. WeightsNotFound: the graph's networks.

    Cost: the graph's networks once, one walk.
    """
    chosen = recipe_for(recipe.recipe if isinstance(recipe, Segmenter) else recipe, settings)
    loaded = load_image(image)
    columns = prepare(probabilities, chosen, labels=labels, background=background, size=loaded.size)
    if isinstance(recipe, Segmenter):
        ready = _sharing(recipe, chosen)
    else:
        ready = walker(recipe, settings=settings, device=device, dtype=dtype, revision=revision, offline=offline)
    return walk_on(ready, columns, loaded, seed=seed, noise=noise)


def walker(
    recipe: str | Path | Recipe = "nerve",
    *,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Segmenter:
    """Load a recipe's graph and nothing else, to give to `refine` as its recipe for any number of images.

    Args:
        recipe: a name, a file, a folder, or a Recipe.
        settings: knobs by dotted name.
        device: as `Segmenter.from_pretrained`; so are the others.
        dtype: see ``device``.
        revision: see ``device``.
        offline: see ``device``.

    Raises:
        RecipeError: nothing walks in the recipe. WeightsNotFound: the graph's networks.
    """
    recipe_for(recipe, settings)
    return Segmenter.from_pretrained(
        recipe, device=device, dtype=dtype, revision=revision, offline=offline, settings=settings_for(settings)
    )


def settings_for(settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The caller's knobs, on top of those that put saved scores in the place of a recipe's label source.

    Raises:
        OptionError: another label source is asked for.
    """
    source = (settings or {}).get("labels.name", "saved")
    if source != "saved":
        raise OptionError(f"Got labels.name = {source!r} to refine. Accepted is 'saved', the scores that are given. Leave it out.")
    return {**_SETTINGS, **(settings or {})}


def recipe_for(recipe: str | Path | Recipe, settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe whose labels are given from outside.

    Raises:
        RecipeError: it has no graph or no walk.
    """
    chosen = recipes.load(recipe, settings_for(settings))
    if chosen.graph is None or chosen.walk is None:
        lacking = "graph" if chosen.graph is None else "walk"
        raise RecipeError(
            f"Got the recipe {chosen.name!r}, which has no {lacking}: nothing would be refined. Accepted are recipes that walk. "
            "Use 'nerve' or 'mini', or set graph.name and walk.solver."
        )
    return chosen


def prepare(
    probabilities: Any, recipe: Recipe, *, labels: Any = None, background: Any = None, size: tuple[int, int] | None = None
) -> Columns:
    """Check probabilities and labels against each other; no network. Arguments as in `refine`; ``size``: (height, width) of the image."""
    given = None if labels is None else Vocabulary.parse(labels)
    features = _features(probabilities, recipe, size, None if given is None else len(given))
    names = (features.extra or {}).get("names", ())
    K = features.embeddings.shape[-1]
    _check_ids(K)
    if background is not None:  # the file's own background is then the rest, not a label beside it
        names = [name for name in names if folded(name) != BACKGROUND]
    vocabulary = Vocabulary.parse(list(names) or [f"class {at}" for at in range(K)]) if given is None else given
    beside = Background.parse(background, vocabulary)
    _check_ids(len(vocabulary) + (beside is not None))
    need_background(vocabulary, beside)
    nothing = features.embeddings.new_zeros(0, 0)
    words = Words(vocabulary.strings, vocabulary.groups, (), nothing, nothing)
    recipe.labels.module.score(features, words, {}, recipe.labels.options)  # refuses what does not fit, before a network is loaded
    return Columns(features, vocabulary, beside)


def walk_on(
    segmenter: Segmenter, columns: Columns, image: Any, *, seed: int | None = None, noise: Float[Tensor, "1 c h w"] | None = None
) -> Segmentation:
    """Encode an image by the graph alone, and decide from columns that `prepare` checked. ``segmenter``: from `walker`."""
    encoding = segmenter.encode(image, seed=seed, noise=noise, features=columns.features)
    return segmenter.decode(encoding, columns.vocabulary, background=columns.background)


def _sharing(segmenter: Segmenter, recipe: Recipe) -> Segmenter:
    """The same networks, those that the graph needs, under another recipe."""
    if dict(recipe.weights) != dict(segmenter.recipe.weights) or any(name not in segmenter.networks for name in recipe.needs):
        raise OptionError(
            f"Got networks of {segmenter.recipe.name!r} for a graph that needs {', '.join(recipe.needs) or 'none'} of other weights. "
            "Accepted are knobs that leave the networks as they are. Load them anew with nerveseg.refinement.walker."
        )
    networks = SharedNetworks({name: segmenter.networks[name] for name in recipe.needs}, segmenter.turn)
    folders = MappingProxyType({name: segmenter.folders[name] for name in recipe.needs if name in segmenter.folders})
    return dataclasses.replace(segmenter, recipe=recipe, networks=networks, folders=folders, _texts={})


def _check_ids(labels: int) -> None:
    """Refuse more labels than ids: 65535 stands for pixels that are not decided."""
    if labels > _IDS:
        raise ShapeError(
            f"Got {labels} maps of probabilities, background included. Accepted are {_IDS}: label maps have no more ids. Leave some out."
        )


def _features(given: Any, recipe: Recipe, size: tuple[int, int] | None, count: int | None) -> Features:
    if isinstance(given, (str, Path)):
        file = arrays.read(given, recipe.labels.options.array)
        scores = file.floats(recipe.labels.options.array, "K, h, w")
        came = f"Got {file.path} of shape {tuple(scores.shape)}"
        return saved.held(arrays.classes_first(scores, size, len(file.labels) or count, came), file.labels, origin=str(file.path))
    if not isinstance(given, (np.ndarray, torch.Tensor)):
        raise ShapeError(
            f"Got {type(given).__name__} for the probabilities. Accepted are an array or tensor (K, h, w), or a file. Give one of these."
        )
    if isinstance(given, torch.Tensor) and not is_plain(given):
        raise ShapeError(
            f"Got probabilities in {given.dtype} on {given.device}, laid out as {given.layout}. Accepted is a plain tensor (K, h, w). "
            "Call .to_dense() or the like."
        )
    came = f"Got probabilities of shape {tuple(given.shape)} in {str(given.dtype).removeprefix('torch.')}"
    number = given.dtype.kind in "fiub" if isinstance(given, np.ndarray) else True
    if not number or given.ndim != 3 or 0 in given.shape:
        raise ShapeError(f"{came}. Accepted are numbers of shape (K, h, w), no axis of length 0. Give one image's maps.")
    values = torch.as_tensor(given.astype(np.float32) if isinstance(given, np.ndarray) else given.detach().float().cpu())
    if not bool(values.isfinite().all()):
        at = tuple(int(place) for place in (~values.isfinite()).nonzero()[0])
        raise ShapeError(
            f"{came} with {float(values[at])} in map {at[0]}, row {at[1]}, column {at[2]}, which is not finite. "
            "Accepted are finite numbers. Mend the model that made them."
        )
    return saved.held(arrays.classes_first(values, size, count, came), origin="probabilities")
