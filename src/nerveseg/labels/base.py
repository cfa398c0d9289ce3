"""What label sources share: views of an image, features, class scores, and G with its ``rest`` column (the paper's (11))."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.clip import AS_TRAINED, POSITIONS, Blocks, Clip, ClipActivations
from nerveseg.backbones.dino import MEAN, STD
from nerveseg.errors import ShapeError
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD, fit, to_tensor
from nerveseg.image.load import LoadedImage
from nerveseg.image.tiles import Plan
from nerveseg.labels import _windows
from nerveseg.labels._windows import Box, Part, starts
from nerveseg.registry import knob
from nerveseg.reprs import brief
from nerveseg.transition import Heads, TiledHeads

__all__ = [
    "Features",
    "Logits",
    "Networks",
    "Scores",
    "View",
    "Words",
    "average",
    "blocks_of",
    "dense",
    "from_cosines",
    "join_knob",
    "join_windows_knob",
    "look",
    "look_clip",
    "mixed",
    "pad_to_knob",
    "positions_knob",
    "probabilities",
    "scale_knob",
    "score_cosines",
    "score_refined",
    "short_side_knob",
    "starts",
    "stride_knob",
    "to_G",
    "unit",
    "window_knob",
]

Networks = Mapping[str, Any]
"""Backbone → the network, those that a source names in ``needs``."""

_BATCH = 16  # windows a pass: enough to fill two cores, little beside one whole-image pass


@dataclass(frozen=True)
class View:
    """One pass of CLIP over the whole image or a window of it.

    Attributes:
        activations: what it left.
        top, left: where it lies, in tokens on the image's ``grid`` (h, w).
        whole: whether it is the whole image.
        box: where it lies in pixels, for windows that are joined pixel by pixel; ``grid`` is then the image's size in pixels.
    """

    activations: ClipActivations
    top: int
    left: int
    grid: tuple[int, int]
    whole: bool
    box: Box | None = None


@dataclass(frozen=True)
class Features:
    """All of an image that a label source keeps: it holds for any words.

    Attributes:
        embeddings: patch embeddings a layer, unit length (means of unit vectors where windows overlap), float32.
        grid: (h, w), h·w = n.
        attention: head-mean attention between patches, where the source uses it.
        windows: a second stack from windows, where the source mixes both.
        parts: windows kept apart, for sources that join them pixel by pixel; ``embeddings`` then has no rows.
        pixels: (h, w) of the image that CLIP saw, for those.
        extra: what else a source keeps, by name; its own file says what.
        tiles: of an image in tiles, each tile's own, where they cannot be joined before words come; ``embeddings`` then has no rows.
        plan: where the tiles lie, for those.
    """

    embeddings: Float[Tensor, "L n E"]
    grid: tuple[int, int]
    attention: Float[Tensor, "n n"] | None = None
    windows: Float[Tensor, "L n E"] | None = None
    parts: tuple[Part, ...] = ()
    pixels: tuple[int, int] | None = None
    extra: Mapping[str, Any] | None = None
    tiles: tuple[Features, ...] = ()
    plan: Plan | None = None

    __repr__ = brief

    @property
    def bytes(self) -> int:
        """Memory it holds."""
        more = (self.extra or {}).values()
        held = (self.embeddings, self.attention, self.windows, *(part.embeddings for part in self.parts), *more)
        return sum(x.nbytes for x in held if isinstance(x, Tensor)) + sum(tile.bytes for tile in self.tiles)


@dataclass(frozen=True)
class Words:
    """The words of one decode, as label sources are told them.

    Attributes:
        strings: of all classes, class by class in the caller's order.
        groups: class of each string, 0 … C − 1.
        others: strings of the background; they act in denominators only.
        vectors: unit rows of ``strings`` by the backbone that the source names in ``embeds``; no rows where it names none.
        other_vectors: unit rows of ``others``, likewise.
    """

    strings: tuple[str, ...]
    groups: tuple[int, ...]
    others: tuple[str, ...]
    vectors: Float[Tensor, "s E"]
    other_vectors: Float[Tensor, "b E"]

    __repr__ = brief

    @property
    def classes(self) -> int:
        """Classes C."""
        return max(self.groups, default=-1) + 1


@dataclass(frozen=True)
class Logits:
    """What a method upsamples *before* its softmax, string by string (`masks.upsample = "logits"`).

    Attributes:
        maps: cosines or other logits, strings of the classes, then of the background, on the token grid or the network's image.
        groups: class of each of the first strings.
        scale: factor before the softmax over all strings.
        join: how strings of one class make one share: max or sum.
        early: the largest logit of a class's strings stands for it before anything is upsampled, and so for the background's strings.
    """

    maps: Float[Tensor, "s h w"]
    groups: tuple[int, ...]
    scale: float
    join: str
    early: bool = False

    __repr__ = brief


@dataclass(frozen=True)
class Scores:
    """Class scores on a label source's own token grid.

    Attributes:
        values: non-negative; they need not sum to 1, larger is more certain.
        grid: (h, w), h·w = n.
        logits: for methods that upsample before the softmax; None where the source has no such table.
        heads: queries and keys of the pass that the words went through, where the method walks on these; used where there is no graph.
    """

    values: Float[Tensor, "n C"]
    grid: tuple[int, int]
    logits: Logits | None = None
    heads: Heads | TiledHeads | None = None

    __repr__ = brief

    def to_G(self, grid: tuple[int, int]) -> Float[Tensor, "n2 k"]:
        """Rows of the walk on another grid: C classes and ``rest``. See `to_G`."""
        return to_G(self.values, self.grid, grid)

    def divisor(self, grid: tuple[int, int]) -> float:
        """What `to_G` divides by, m: 1, or the largest sum of a token's scores on that grid where it is more."""
        total = self.values.float().sum(1, keepdim=True)
        top = float(total.max())
        # Interpolation is linear, so that the sums may be interpolated in place of the scores.
        return 1.0 if top <= 1 else max(1.0, top * float(to_G(total / top, self.grid, grid)[:, 0].max()))


def to_G(s: Float[Tensor, "n C"], source: tuple[int, int], target: tuple[int, int]) -> Float[Tensor, "n2 k"]:
    """Bring class scores to the graph's grid and complete every row to 1 with a last column, ``rest``.

    G = [s/m, 1 − Σ_c s_c/m] with m = max(1, max_i Σ_c s_ic): one number for the whole image, so that classes keep their proportions.

    Args:
        s: scores ≥ 0 on the source grid.
        source: (h, w) of s.
        target: (h, w) wanted; bilinear, half-pixel centres, smoothed where it is smaller.

    Returns:
        float32, k = C + 1, rows sum to 1. Cost O(n₂·C).

    Raises:
        ShapeError: rows that are not h·w.

    >>> to_G(torch.tensor([[0.5, 0.25], [1.5, 0.5]]), (1, 2), (1, 2))
    tensor([[0.2500, 0.1250, 0.6250],
            [0.7500, 0.2500, 0.0000]])
    """
    if len(s) != source[0] * source[1]:
        raise ShapeError(f"Got scores of shape {tuple(s.shape)} on a grid {source}. Accepted are h·w rows. Give the grid they lie on.")
    s = s.float()
    if source != target:
        # Where the grid shrinks, every score has its share of the token it falls in; where it grows, smoothing is the identity.
        shrinks = target[0] < source[0] or target[1] < source[1]
        maps = F.interpolate(s.T.reshape(1, -1, *source), size=target, mode="bilinear", align_corners=False, antialias=shrinks)
        s = maps.reshape(s.shape[1], -1).T
    s = s / s.sum(1).max().clamp_min(1)
    return torch.cat([s, (1 - s.sum(1, keepdim=True)).clamp_min(0)], dim=1)


def from_cosines(cosines: Float[Tensor, "n s"], words: Words, grid: tuple[int, int], *, scale: float, join: str) -> Scores:
    """Scores of a source that ends in one cosine a token and string: `probabilities`, and the logits they come from. Cost O(n·s)."""
    maps = cosines.float().T.reshape(-1, *grid)
    return Scores(probabilities(cosines, words.groups, scale=scale, join=join), grid, Logits(maps, words.groups, scale, join))


def probabilities(cosines: Float[Tensor, "*n s"], groups: Sequence[int], *, scale: float, join: str) -> Float[Tensor, "*n C"]:
    """Softmax over all strings, background included, then one score a class; the background's share is left out.

    Args:
        cosines: strings of all classes, then any number of background strings.
        groups: class of each of the first strings, 0 … C − 1.
        scale: larger is sharper.
        join: ``max`` – best string of the class, the field's rule; ``sum`` – all of them.
    """
    p = (scale * cosines.float()).softmax(-1)[..., : len(groups)]
    if list(groups) == list(range(len(groups))):
        return p  # one string a class: nothing to join, and hundreds of columns are not copied
    index = torch.tensor(groups, device=p.device).expand(p.shape)
    out = p.new_zeros(*p.shape[:-1], max(groups, default=-1) + 1)
    return out.scatter_reduce(-1, index, p, "amax" if join == "max" else "sum")


def unit(x: Float[Tensor, "*n E"]) -> Float[Tensor, "*n E"]:
    """Rows of length 1, float32."""
    return F.normalize(x.float(), dim=-1)


def look(image: LoadedImage, clip: Clip, options: Any, *, whole: bool = False, attention: bool = False) -> Iterator[View]:
    """Pass an image through CLIP: whole, or window by window, one view at a time.

    Args:
        image: any size; CLIP sees its short side at ``options.short_side``, sides rounded to the patch, aspect kept unless
            the source has a knob ``fit`` that says "square".
        clip: the backbone.
        options: a source's own, with the fields ``short_side``, ``positions``, ``window`` and ``stride``; ``colours`` and `blocks_of`
            where it has the knobs.
        whole: also pass the whole image where there are windows; it comes first.
        attention: keep summed attention in every view.
    """
    if getattr(options, "join_windows", "tokens") == "pixels":
        yield from _look_at_pixels(image, clip, options)
        return
    frame = fit(image.size, getattr(options, "fit", "aspect"), options.short_side or clip.side, clip.patch)
    pixels = to_tensor(image, frame.fitted, *_colours(options))[None]
    h, w = frame.grid
    how = {"positions": options.positions, "attention": attention, **_blocks(options)}
    window, stride = (max(1, round(length / clip.patch)) for length in (options.window, options.stride))
    rows, columns = min(window, h), min(window, w)
    single = not options.window or (rows, columns) == (h, w)
    if single or whole:
        yield View(clip.vision(pixels, **how), 0, 0, (h, w), whole=True)
    if single:
        return
    places = [(top, left) for top in starts(h, rows, stride) for left in starts(w, columns, stride)]
    p = clip.patch
    for at in range(0, len(places), _BATCH):
        some = places[at : at + _BATCH]
        crops = torch.cat([pixels[..., top * p : (top + rows) * p, left * p : (left + columns) * p] for top, left in some])
        passed = clip.visions(crops, **how)
        for (top, left), activations in zip(some, passed, strict=True):
            yield View(activations, top, left, (h, w), whole=False)


def _look_at_pixels(image: LoadedImage, clip: Clip, options: Any) -> Iterator[View]:
    size = _windows.kept_ratio(image.size, options.short_side or clip.side, getattr(options, "longest", _windows.LONGEST))
    pixels = _windows.resized(image, size, _colours(options))
    places = list(_windows.boxes(size, clip.patch, options))
    how = {"positions": options.positions, **_blocks(options)}
    for at in range(0, len(places), _BATCH):
        some = places[at : at + _BATCH]
        passed = clip.visions(torch.cat([_windows.crop(pixels, box) for box in some]), **how)
        for box, activations in zip(some, passed, strict=True):
            yield View(activations, 0, 0, size, whole=len(places) == 1, box=box)


def blocks_of(options: Any) -> Blocks:
    """How a source has CLIP's blocks run: by its knobs ``activation`` and ``norm_eps``, as trained where it has none."""
    return Blocks(getattr(options, "activation", "own"), getattr(options, "norm_eps", 0.0))


def _blocks(options: Any) -> dict[str, Blocks]:
    # Passes that are asked for as trained stay equal to those of sources without the knobs.
    blocks = blocks_of(options)
    return {} if blocks == AS_TRAINED else {"blocks": blocks}


def _colours(options: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return (MEAN, STD) if getattr(options, "colours", "clip") == "imagenet" else (CLIP_MEAN, CLIP_STD)


def look_clip(image: LoadedImage, networks: Networks, options: Any) -> Iterator[View]:
    """The passes of CLIP over an image, one or one a window: the ``look`` of every source that changes the last block alone."""
    return look(image, networks["clip"], options)


def dense(views: Iterable[View], embed: Callable[[View], Float[Tensor, "m E"]]) -> Features:
    """Keep unit embeddings of patches: averaged on the token grid, or window by window where they are joined pixel by pixel.

    Args:
        views: from `look`.
        embed: a view → projected tokens, the class token first, not normalised.
    """
    stream = iter(views)
    first = next(stream, None)
    if first is None:
        raise ShapeError("Got no view. Accepted is one or more. Pass what look() yields.")
    every = itertools.chain([first], stream)
    if first.box is None:
        embeddings, grid = average(every, lambda view: unit(embed(view))[None, 1:])
        return Features(embeddings, grid)
    parts = tuple(Part(unit(embed(view))[1:], view.activations.grid, view.box) for view in every if view.box is not None)
    side = parts[0].box.seen[0] // parts[0].grid[0]
    grid = (max(1, round(first.grid[0] / side)), max(1, round(first.grid[1] / side)))
    return Features(parts[0].embeddings[None, :0], grid, parts=parts, pixels=first.grid)


def mixed(views: Iterable[View], clip: Clip, options: Any, mixing: Callable[[View], Float[Tensor, "H m m"] | None]) -> Features:
    """`dense` of the last block with its attention replaced: what SCLIP and its relatives are.

    Args:
        views: from `look`.
        clip: the backbone.
        options: ``residual`` and ``ffn`` act here.
        mixing: a view → one matrix a head over its tokens, the class token included; None is the identity, the value path alone.
    """

    def embed(view: View) -> Float[Tensor, "m E"]:
        x = view.activations.inputs[-1]
        return clip.project(clip.last_block(x, mixing(view), residual=options.residual, ffn=options.ffn))

    return dense(views, embed)


@torch.no_grad()
def score_cosines(features: Features, words: Words, networks: Networks, options: Any) -> Scores:
    """Softmax of scaled cosines over all strings; background strings are in the denominator only: the ``score`` of most sources.

    Where windows are joined pixel by pixel the logits lie on the pixels of the image that CLIP saw, and tokens get their mean.

    Args:
        features: from `dense`.
        words: with their vectors.
        networks: not read.
        options: ``scale`` and ``join`` act here.

    Cost O(n·s·E); pixel by pixel O(s·h·w) a window.
    """
    return score_refined(features, words, options, lambda cosines, _: cosines)


def score_refined(
    features: Features, words: Words, options: Any, refine: Callable[[Float[Tensor, "m s"], int], Float[Tensor, "m s"]]
) -> Scores:
    """`score_cosines` where something is done to the cosines first, while they lie on tokens: ``refine(cosines, number of the window)``."""
    vectors = torch.cat([words.vectors, words.other_vectors])
    if features.pixels is None:
        cosines = refine(features.embeddings[0] @ vectors.T, 0)
        return from_cosines(cosines, words, features.grid, scale=options.scale, join=options.join)
    maps = _windows.blend_windows(features.parts, features.pixels, vectors, refine)
    cosines = F.adaptive_avg_pool2d(maps, features.grid).flatten(1).T
    logits = Logits(maps, words.groups, options.scale, options.join)
    return Scores(probabilities(cosines, words.groups, scale=options.scale, join=options.join), features.grid, logits)


def average(views: Iterable[View], embed: Callable[[View], Float[Tensor, "L m E"]]) -> tuple[Float[Tensor, "L n E"], tuple[int, int]]:
    """Mean over views of what ``embed`` says of each token, on the image's grid; also returns that grid.

    Cosines are linear in the patch embeddings, so the mean of unit embeddings, not normalised again, gives exactly the mean of the cosines.
    """
    total: Tensor | None = None
    count = torch.zeros(0)
    grid = (0, 0)
    for view in views:
        part = embed(view)
        h, w = grid = view.grid
        rows, columns = view.activations.grid
        if total is None:
            total = part.new_zeros(len(part), h, w, part.shape[-1])
            count = part.new_zeros(h, w, 1)
        area = (slice(view.top, view.top + rows), slice(view.left, view.left + columns))
        total[:, *area] += part.unflatten(1, (rows, columns))
        count[area] += 1
    if total is None:
        raise ShapeError("Got no view. Accepted is one or more. Pass what look() yields.")
    return (total / count).flatten(1, 2), grid


def short_side_knob(default: int = 336) -> Any:
    """The knob ``short_side``."""
    doc = "pixels of CLIP's image along the shorter side, 0: as trained. Larger: finer, slower; far from training it blurs meaning."
    return knob(default, doc, low=0, high=4096, source="CLIPer and the paper's tables: 336")


def positions_knob(default: str = "bilinear") -> Any:
    """The knob ``positions``."""
    return knob(default, "how position embeddings reach another grid.", choices=POSITIONS, source="CLIPer: bilinear")


def window_knob(default: int = 0) -> Any:
    """The knob ``window``."""
    doc = "side in pixels of sliding windows, rounded to the patch; 0: none. Smaller: more local, more passes."
    return knob(default, doc, low=0, high=4096, source="CLIPer: off, or 224; SCLIP: 224")


def stride_knob(default: int = 112) -> Any:
    """The knob ``stride``."""
    doc = "step in pixels between windows, rounded to the patch. Smaller: smoother, more passes."
    return knob(default, doc, low=1, high=4096, source="CLIPer, SCLIP: 112")


def join_windows_knob(default: str = "tokens") -> Any:
    """The knob ``join_windows``."""
    doc = "tokens: sides are whole patches and windows meet as means of embeddings; pixels: the sides follow the image and cosines meet."
    return knob(default, doc, choices=("tokens", "pixels"), source="tokens: CLIPer; pixels: SCLIP and those that build on it")


def pad_to_knob(default: int = 0) -> Any:
    """The knob ``pad_to``."""
    doc = "with join_windows = pixels: zeros fill a window's sides to multiples of this, at least of the patch; 0 cuts what is left over."
    return knob(default, doc, low=0, high=512, source="SCLIP, NACLIP: 0; ClearCLIP: 1, the patch; ProxyCLIP: 56")


def scale_knob(default: float = 50.0) -> Any:
    """The knob ``scale``."""
    doc = "factor on cosines before the softmax over strings. Larger: harder decisions. The published CLIPs learnt 100."
    return knob(default, doc, above=0, high=1000, source="CLIPer: 50 on most data sets, 100 on Context59 and Cityscapes")


def join_knob(default: str = "max") -> Any:
    """The knob ``join``."""
    doc = "how strings of one class make one score, after the softmax over all strings: the best, or all of them."
    return knob(default, doc, choices=("max", "sum"), source="SCLIP's synonym rule: max")
