"""GroupViT (CVPR 2022): patches grouped by a trained network, each group given the words that are near it.

M = A₁ᵀA₂ᵀ…            how much of a patch each group takes; brought to pixels, then the largest share takes all (`hard`)
a = softmax(scale · cos(groups, words))                           over all strings
b = the same over the strings of the `top` classes nearest to the whole image alone
scores = M (a ⊙ b)     (b alone where `prior` is off), averaged where windows overlap
background = 1 where no class of a window's pixel reaches min(bg_thresh, the window's largest a ⊙ b), else 0; averaged likewise
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.groupvit import Groups, GroupVit
from nerveseg.errors import ShapeError
from nerveseg.image.geometry import fit, to_tensor
from nerveseg.image.load import LoadedImage
from nerveseg.labels import _windows, base
from nerveseg.labels._windows import Box
from nerveseg.registry import knob

__all__ = ["Options", "View", "decode_options", "embeds", "encode", "look", "members", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("groupvit",)
embeds = "groupvit"
decode_options = ("top", "prior", "hard", "resolution", "scale", "join", "bg_thresh")
_MEAN = (0.485, 0.456, 0.406)  # of ImageNet's images, RGB in 0…1: GroupViT was trained with them
_STD = (0.229, 0.224, 0.225)
_BATCH = 16


@dataclass(frozen=True)
class Options:
    """Knobs of GroupViT."""

    short_side: int = knob(
        448, "pixels of the image along the shorter side, 0: as trained. Larger: finer, slower.", low=0, high=4096, source="GroupViT: 448"
    )
    window: int = knob(
        448,
        "side in pixels of sliding windows, rounded to the patch; 0: none. Smaller: more local, more passes.",
        low=0,
        high=4096,
        source="GroupViT: 448",
    )
    stride: int = knob(
        224, "step in pixels between windows, rounded to the patch. Smaller: smoother.", low=1, high=4096, source="GroupViT: 224"
    )
    join_windows: str = knob(
        "tokens",
        "tokens: sides are whole patches, windows lie on them; pixels: both follow the image, groups are told apart at pixels.",
        choices=("tokens", "pixels"),
        source="GroupViT: pixels",
    )
    top: int = knob(
        5, "classes, nearest to the whole image, that a group may be; 0: any. Larger: more classes compete.", low=0, source="GroupViT: 5"
    )
    prior: bool = knob(
        default=True, doc="multiply by the shares among all words, too. On: groups near no word count less.", source="GroupViT: on"
    )
    hard: bool = knob(default=True, doc="each place belongs to one group. Off: to all, by their shares.", source="GroupViT: on")
    resolution: str = knob(
        "tokens",
        "where the shares are compared: on the tokens, enough for a walk, or on every pixel, as the original, patch² times the memory.",
        choices=("tokens", "pixels"),
        source="GroupViT: pixels",
    )
    scale: float = knob(
        0.0, "factor on cosines before the softmax; 0: the learnt one. Larger: harder.", low=0, high=1000, source="GroupViT: learnt"
    )
    join: str = base.join_knob()
    bg_thresh: float = knob(
        0.0,
        "with join_windows = pixels: score below which no class of a window's pixel counts and the background does, in place of its words; "
        "0: off. Larger: more background.",
        low=0,
        high=1,
        source="GroupViT: 0.95 on Pascal VOC and COCO-Object, 0.35 on Pascal Context",
    )
    pad_to: ClassVar[int] = 0  # what is left of a patch is cut


@dataclass(frozen=True)
class View:
    """One pass of GroupViT over the whole image or a window of it.

    Attributes:
        groups: what it left.
        top, left: where it lies, in tokens on the image's ``grid`` (h, w).
        grid: of the image: tokens, or pixels where there is a box.
        box: where it lies in pixels, for windows that are joined pixel by pixel.
    """

    groups: Groups
    top: int
    left: int
    grid: tuple[int, int]
    box: Box | None = None


def look(image: LoadedImage, networks: base.Networks, options: Options) -> Iterator[View]:
    """The passes over an image: one, or one a window, the last of a side shifted back inside."""
    network: GroupVit = networks["groupvit"]
    p = network.patch
    if options.join_windows == "pixels":
        yield from _look_at_pixels(image, network, options)
        return
    frame = fit(image.size, "aspect", options.short_side or network.side, p)
    pixels = to_tensor(image, frame.fitted, _MEAN, _STD)[None]
    h, w = frame.grid
    window, stride = (max(1, round(length / p)) for length in (options.window, options.stride))
    rows, columns = (min(window, h), min(window, w)) if options.window else (h, w)
    places = [(top, left) for top in base.starts(h, rows, stride) for left in base.starts(w, columns, stride)]
    for at in range(0, len(places), _BATCH):
        some = places[at : at + _BATCH]
        crops = torch.cat([pixels[..., top * p : (top + rows) * p, left * p : (left + columns) * p] for top, left in some])
        passed = [network.vision(crops)] if len(some) == 1 else network.visions(crops)
        for (top, left), groups in zip(some, passed, strict=True):
            yield View(groups, top, left, (h, w))


def _look_at_pixels(image: LoadedImage, network: GroupVit, options: Options) -> Iterator[View]:
    size = _windows.kept_ratio(image.size, options.short_side or network.side)
    colours = _windows.bilinear(torch.from_numpy(image.pixels.copy()).permute(2, 0, 1), size)[None].float() / 255
    pixels = (colours - torch.tensor(_MEAN).view(1, 3, 1, 1)) / torch.tensor(_STD).view(1, 3, 1, 1)
    places = list(_windows.boxes(size, network.patch, options))
    for at in range(0, len(places), _BATCH):
        some = places[at : at + _BATCH]
        passed = network.visions(torch.cat([_windows.crop(pixels, box) for box in some]))
        for box, groups in zip(some, passed, strict=True):
            yield View(groups, 0, 0, size, box)


def encode(views: Iterable[View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the groups of each view, V·(n·g + g·E) floats.

    Returns:
        Features whose ``embeddings`` are the group vectors, (V, g, E); ``extra`` has ``shares`` (V, n_view, g), ``whole`` (V, E),
        ``places`` (top, left) and ``window`` (h, w) of the views, ``patch``, and the ``boxes`` of views that are joined pixel by pixel.

    Raises:
        ShapeError: no view.
    """
    seen = list(views)
    if not seen:
        raise ShapeError("Got no view. Accepted is one or more. Pass what look() yields.")
    extra = {
        "shares": torch.stack([view.groups.shares for view in seen]),
        "whole": torch.stack([view.groups.whole for view in seen]),
        "places": tuple((view.top, view.left) for view in seen),
        "window": seen[0].groups.grid,
        "patch": networks["groupvit"].patch,
    }
    boxes = tuple(view.box for view in seen if view.box is not None)
    if boxes:
        grid = tuple(max(1, round(side / networks["groupvit"].patch)) for side in seen[0].grid)
        vectors = torch.stack([view.groups.vectors for view in seen])
        return base.Features(vectors, (grid[0], grid[1]), pixels=seen[0].grid, extra={**extra, "boxes": boxes})
    return base.Features(torch.stack([view.groups.vectors for view in seen]), seen[0].grid, extra=extra)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """What each place's group says of the classes; 0 for classes outside the image's `top`. Cost O(V·(g·s·E + n·g·C)).

    Args:
        features: from `encode`.
        words: with their vectors; a background string competes as a class of its own, and its column is left out.
        networks: their ``groupvit``, for the learnt scale.
        options: all but ``short_side``, ``window``, ``stride`` and ``join_windows`` act here.

    Where windows are joined pixel by pixel, tokens get the mean of their pixels, and the maps themselves are the logits: the original
    takes the largest, after a softmax that moves no maximum.
    """
    if features.extra is None:
        raise ShapeError("Got features of another label source. Accepted are this source's own. Encode the image with it.")
    if features.pixels is not None:
        return _score_pixels(features, features.pixels, words, options.scale or networks["groupvit"].scale, options)
    zoom = features.extra["patch"] if options.resolution == "pixels" else 1
    rows, columns = (side * zoom for side in features.extra["window"])
    h, w = (side * zoom for side in features.grid)
    scale = options.scale or networks["groupvit"].scale
    total = features.embeddings.new_zeros(words.classes, h, w)
    count = total.new_zeros(h, w)
    for v, (top, left) in enumerate(features.extra["places"]):
        table = _table(features.embeddings[v], features.extra["whole"][v], words, scale, options)[:, : words.classes]
        said = members(features.extra["shares"][v], features.extra["window"], zoom, hard=options.hard) @ table
        area = (slice(top * zoom, top * zoom + rows), slice(left * zoom, left * zoom + columns))
        total[:, *area] += said.T.unflatten(1, (rows, columns))
        count[area] += 1
    return base.Scores((total / count).flatten(1).T.contiguous(), (h, w))


def _score_pixels(features: base.Features, size: tuple[int, int], words: base.Words, scale: float, options: Options) -> base.Scores:
    extra = features.extra or {}
    threshold = options.bg_thresh
    if threshold:
        words = dataclasses.replace(words, others=(), other_vectors=words.other_vectors[:0])
    total = features.embeddings.new_zeros(words.classes + (1 if threshold else len(words.others)), *size)
    count = total.new_zeros(size)
    for v, box in enumerate(extra["boxes"]):
        table = _table(features.embeddings[v], extra["whole"][v], words, scale, options)
        said = _at(extra["shares"][v], extra["window"], (box.height, box.width), hard=options.hard) @ table
        if threshold:
            said = torch.cat([said, (said.amax(1, keepdim=True) < min(threshold, float(table.max()))).to(said.dtype)], dim=1)
        area = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
        total[:, *area] += said.T.unflatten(1, (box.height, box.width))
        count[area] += 1
    maps = total / count
    values = F.adaptive_avg_pool2d(maps[: words.classes], features.grid).flatten(1).T.contiguous()
    return base.Scores(values, features.grid, base.Logits(maps, tuple(range(words.classes)), 1.0, "max"))


def members(shares: Float[Tensor, "n g"], grid: tuple[int, int], zoom: int, *, hard: bool) -> Float[Tensor, "n2 g"]:
    """The group map of one view: shares brought to ``zoom`` cells a token's side (bilinear), then, if hard, 1 for the largest."""
    return _at(shares, grid, (grid[0] * zoom, grid[1] * zoom), hard=hard)


def _at(shares: Float[Tensor, "n g"], grid: tuple[int, int], size: tuple[int, int], *, hard: bool) -> Float[Tensor, "n2 g"]:
    maps = shares.float().T.unflatten(1, grid)
    if size != grid:
        maps = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    found = maps.flatten(1).T
    return F.one_hot(found.argmax(1), found.shape[1]).to(found.dtype) if hard else found


def _table(
    groups: Float[Tensor, "g E"], whole: Float[Tensor, " E"], words: base.Words, scale: float, options: Options
) -> Float[Tensor, "g C"]:
    """A ⊙ b for each group and class, then each string of the background."""
    strings = torch.cat([words.vectors, words.other_vectors]).float()
    owners = torch.tensor([*words.groups, *range(words.classes, words.classes + len(words.others))], device=strings.device)
    classes = words.classes + len(words.others)

    def shares(cosines: Tensor) -> Tensor:
        return base.probabilities(cosines, owners.tolist(), scale=scale, join=options.join)

    cosines = groups @ strings.T
    free = shares(cosines)
    if options.top and options.top < classes:
        near = shares(whole[None] @ strings.T)[0].topk(options.top).indices
        cosines = cosines.masked_fill(~torch.isin(owners, near), -torch.inf)
    restricted = shares(cosines)
    return restricted * free if options.prior else restricted
