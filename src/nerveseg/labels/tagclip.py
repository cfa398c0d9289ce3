"""TagCLIP (AAAI 2024): what is in the image at all? A tagger for whole images, and its refined patch scores as a label source.

p     = softmax(scale · cos) per patch, the last block's attention off the diagonal switched off (residual and FFN kept)
A     = mean of some layers' attention between patches, kept where at least `votes` layers attend more than they do on average
P_c   = (A, columns of patches inside the boxes of class c's map Ap alone) p_c      boxes: parts of the map above its mean
s_c   = max_i P_ic; for each likely class ½ s_c + ½ what CLIP says of its crop      (`class_scores`, with `reidentify`)
tags  = classes with s_c > min s + relative · (max s − min s), or the best one      (`tags`)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.clip import Clip, ClipActivations
from nerveseg.errors import OptionError, ShapeError
from nerveseg.image.geometry import MAX_TOKENS, fit, to_tensor
from nerveseg.image.load import LoadedImage
from nerveseg.labels import base
from nerveseg.registry import knob
from nerveseg.reprs import brief

__all__ = [
    "Options",
    "View",
    "class_scores",
    "decode_options",
    "embeds",
    "encode",
    "look",
    "needs",
    "score",
    "tags",
    "text_conditioned",
]

text_conditioned = True  # where `restrict` and `reidentify` are on, each likely class costs a pass
needs = ("clip",)
embeds = "clip"
decode_options = ("scale", "join", "relative", "reidentify", "restrict", "faithful")
_HALF = 0.5  # share of a class's maximum that its crop covers; weight of what is said of the crop
_BATCH = 16


@dataclass(frozen=True)
class Options:
    """Knobs of TagCLIP."""

    short_side: int = knob(
        0,
        "pixels along the shorter side, 0: the image's own size, rounded up to the patch.",
        low=0,
        high=4096,
        source="TagCLIP: own size",
    )
    positions: str = base.positions_knob()
    scale: float = knob(
        100.0, "factor on cosines before the softmax over strings. Larger: harder.", above=0, high=1000, source="TagCLIP: CLIP's own, 100"
    )
    join: str = base.join_knob()
    votes: int = knob(4, "layers that must attend more than on average. Larger: fewer pairs help each other.", low=0, source="TagCLIP: 4")
    from_layer: int = knob(
        -4,
        "first layer whose attention is averaged, from the end; the last one is left out. Smaller: more layers.",
        high=-2,
        source="TagCLIP on B/16: 8 of 12, -4; on stuff all, -12",
    )
    relative: float = knob(
        0.5,
        "place between the lowest and the highest score above which a class is likely, and kept. Larger: fewer tags.",
        low=0,
        below=1,
        source="TagCLIP: 0.5; on stuff 0.1",
    )
    reidentify: bool = knob(default=True, doc="look at the crop of each likely class again, a pass a class.", source="TagCLIP: on")
    restrict: bool = knob(default=False, doc="scores of classes that are no tags are 0. On: `score` makes the passes, too.")
    faithful: bool = knob(
        default=True,
        doc="boxes end one short of the last row and column, and a class with an empty box ends the second look. Off: neither.",
        source="TagCLIP's published behaviour",
    )


@dataclass(frozen=True)
class View:
    """One pass of CLIP over the whole image, and the pixels that went in: crops of them are looked at again."""

    activations: ClipActivations
    pixels: Float[Tensor, "1 3 height width"]

    __repr__ = brief


def look(image: LoadedImage, networks: base.Networks, options: Options) -> Iterator[View]:
    """The one pass of CLIP over an image."""
    clip: Clip = networks["clip"]
    grid = tuple(math.ceil(side / clip.patch) for side in image.size)
    size = (grid[0] * clip.patch, grid[1] * clip.patch)
    if options.short_side or grid[0] * grid[1] > MAX_TOKENS:
        size = fit(image.size, "aspect", options.short_side or min(size), clip.patch).fitted
    pixels = to_tensor(image, size)[None]
    yield View(clip.vision(pixels, positions=options.positions), pixels)


@torch.no_grad()
def encode(views: Iterable[View], networks: base.Networks, options: Options) -> base.Features:
    """Keep unit patch embeddings of the value path, A (as ``attention``) and the pixels (in ``extra``): n·E + n² + 3·H·W floats.

    Raises:
        OptionError: ``from_layer`` past the first layer. ShapeError: no view.
    """
    clip: Clip = networks["clip"]
    for view in views:
        x = view.activations
        L = len(x.inputs)
        if -options.from_layer > L:
            raise OptionError(f"Got from_layer = {options.from_layer}. Accepted is -{L} to -2 for this CLIP. Choose a layer it has.")
        y = clip.last_block(x.inputs[-1], None, residual=True, ffn=True)
        votes, total = torch.zeros((), device=clip.device), torch.zeros((), device=clip.device)
        for k, tokens in enumerate(x.inputs):
            Q, K, _ = clip.qkv(tokens, k)
            A = (Q @ K.mT / math.sqrt(Q.shape[-1])).softmax(-1).mean(0)[1:, 1:]
            votes = votes + (A.mean() < A)
            if L + options.from_layer <= k < L - 1:
                total = total + A
        mean = total / (-options.from_layer - 1)
        return base.Features(
            base.unit(clip.project(y))[None, 1:], x.grid, attention=mean * (votes >= options.votes), extra={"pixels": view.pixels}
        )
    raise ShapeError("Got no view. Accepted is what look() yields. Pass it unchanged.")


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """P of the classes, at most 1; with ``restrict`` 0 for classes that are no tags. Cost O(n²·C), passes of `class_scores` besides.

    Args:
        features: from `encode`.
        words: with their vectors.
        networks: their ``clip``, with ``restrict`` and ``reidentify`` alone.
        options: all but ``short_side``, ``positions``, ``votes`` and ``from_layer`` act here.
    """
    P = _refined(features, words, options)
    values = P[:, : words.classes]
    if options.restrict:
        values = values * _kept(_looked_again(P, features, words, networks, options), options.relative)
    return base.Scores(values.contiguous(), features.grid)


@torch.no_grad()
def class_scores(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> Float[Tensor, " C"]:
    """How sure each class is to be somewhere in the image, 0 … 1. With ``reidentify`` one pass of CLIP a likely class."""
    return _looked_again(_refined(features, words, options), features, words, networks, options)


def tags(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> list[tuple[str, float]]:
    """The classes that are in the image: (first string, score), the surest first; never empty.

    Args:
        features: from `encode`.
        words: one class or more, with their vectors.
        networks: their ``clip``.
        options: see `Options`.
    """
    s = class_scores(features, words, networks, options)
    kept = _kept(s, options.relative)
    names = [words.strings[words.groups.index(c)] for c in range(words.classes)]
    return sorted(((name, float(s[c])) for c, name in enumerate(names) if kept[c]), key=lambda tag: -tag[1])


def _refined(features: base.Features, words: base.Words, options: Options) -> Float[Tensor, "n c"]:
    """P, background strings included, each as a class of its own."""
    A = features.attention
    if A is None:
        raise ShapeError("Got features without attention. Accepted are this source's own. Encode the image with it.")
    strings = torch.cat([words.vectors, words.other_vectors])
    p = _shares(features.embeddings[0] @ strings.T, words, options)
    rough = A @ p
    # Columns of A that lie outside a class's boxes are dropped: the same as rows of its p.
    inside = torch.stack([_boxes(column, features.grid, faithful=options.faithful) for column in rough.T], dim=1)
    return A @ (p * inside)


def _shares(cosines: Float[Tensor, "n s"], words: base.Words, options: Options) -> Float[Tensor, "n c"]:
    owners = [*words.groups, *range(words.classes, words.classes + len(words.others))]
    return base.probabilities(cosines, owners, scale=options.scale, join=options.join)


def _boxes(values: Float[Tensor, " n"], grid: tuple[int, int], *, faithful: bool) -> Float[Tensor, " n"]:
    """1 inside the boxes around the parts (eight neighbours) of a map above its mean, in steps of 1/255 of its range."""
    from scipy import ndimage

    span = values - values.min()
    if not float(span.max()) > 0:
        return torch.ones_like(values)
    scaled = (span / span.max()).cpu()
    levels = (scaled * 255).to(torch.uint8).numpy()
    above = (levels > int(float(scaled.mean()) * int(levels.max()))).reshape(grid)
    parts, _ = cast("tuple[np.ndarray, int]", ndimage.label(above, structure=np.ones((3, 3))))
    found = np.zeros(grid, dtype=np.float32)
    ends = (grid[0] - 1, grid[1] - 1) if faithful else grid
    boxes: list[tuple[slice, slice]] = ndimage.find_objects(parts)
    for rows, columns in boxes:
        found[rows.start : min(rows.stop, ends[0]), columns.start : min(columns.stop, ends[1])] = 1
    return torch.from_numpy(found).flatten().to(values.device)


def _kept(s: Float[Tensor, " C"], relative: float) -> Bool[Tensor, " C"]:
    kept = s > s.min() + relative * (s.max() - s.min())
    kept[s.argmax()] = True
    return kept


def _looked_again(
    P: Float[Tensor, "n c"], features: base.Features, words: base.Words, networks: base.Networks, options: Options
) -> Float[Tensor, " C"]:
    s = P[:, : words.classes].amax(0)
    if not options.reidentify:
        return s
    clip: Clip = networks["clip"]
    likely = (s > P.min() + options.relative * (P.max() - P.min())).nonzero()[:, 0].tolist()
    crops: dict[int, tuple[Tensor, Tensor]] = {}
    for c in likely:
        found = _crop(P[:, c], features, clip, faithful=options.faithful)
        if found is not None:
            crops[c] = found
        elif options.faithful:
            break
    strings, numbers = torch.cat([words.vectors, words.other_vectors]), list(crops)
    for at in range(0, len(numbers), _BATCH):
        some = numbers[at : at + _BATCH]
        pixels, inside = (torch.cat([crops[c][part] for c in some]) for part in (0, 1))
        said = _shares(clip.image(pixels, positions=options.positions, inside=inside.bool()) @ strings.T, words, options)
        for row, c in enumerate(some):
            s[c] = (1 - _HALF) * s[c] + _HALF * said[row, c]
    return s


def _crop(
    values: Float[Tensor, " n"], features: base.Features, clip: Clip, *, faithful: bool
) -> tuple[Float[Tensor, "1 3 side side"], Float[Tensor, "1 m"]] | None:
    """What CLIP looks at again: the box around a map's upper half, and its patches that lie in that half; None: nothing."""
    span = values - values.min()
    if not float(span.max()) > 0:
        return None
    upper = (span / span.max() > _HALF).reshape(features.grid)
    rows, columns = (upper.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    ends = [side - 1 if faithful else side for side in features.grid]
    top, bottom, left, right = rows[0], min(rows[-1] + 1, ends[0]), columns[0], min(columns[-1] + 1, ends[1])
    if top >= bottom or left >= right:
        return None
    p, pixels = clip.patch, (features.extra or {})["pixels"]
    part = pixels[..., top * p : bottom * p, left * p : right * p]
    inside = F.interpolate(upper[None, None, top:bottom, left:right].float(), size=(clip.side // p, clip.side // p), mode="nearest")
    return F.interpolate(part, size=(clip.side, clip.side), mode="bilinear", align_corners=False), inside.flatten(1)
