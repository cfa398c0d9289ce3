"""Solve P for one image with clicks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nerveseg.clicks import colours, visual_words
from nerveseg.clicks.click import Click, pixels, tokens
from nerveseg.clicks.click_walk import reached
from nerveseg.clicks.ground import Ground, Reach, Solved
from nerveseg.clicks.names import columns
from nerveseg.errors import LabelError, OptionError
from nerveseg.masks.color_likelihood import ColorLikelihoodRatio
from nerveseg.transition.absorbing import absorbing, sown
from nerveseg.walk import Outcome, Walk, infinite
from nerveseg.words.vocabulary import Vocabulary

__all__ = ["solved", "wider"]

_SMALL = 1e-6  # what a column of G changes by and need not be walked for


def solved(ground: Ground[Any], clicks: Sequence[Click], before: Solved | None = None) -> Solved:
    """Solve with clicks B, one-hot rows Y on them, D = diag(1 off B, 0 on B).

    A walk with the α of clicks, on S with the image's edges in it (`edged`), ends at each label's clicks with the chances H and stops
    elsewhere with the chance 1 − h: (I − αDS)[H, 1 − h] = (1 − α)D[0, 1] + (I − D)[Y, 0]. Visual words make G into G' = G + h(G_v − G),
    and P' = H + (1 − h)P(G'), P(G') the walk's own. So P'_B = Y, rows sum to 1, and where no walk reaches a click all is as it was.

    With ``clicks.system = "within"`` the walk itself ends at clicks: (I − αDS)P = (1 − α)DG' + (I − D)Y.

    Args:
        ground: what stays as it is.
        clicks: in the order they were given; later ones win.
        before: solved with fewer of them; only speed depends on it, and what lies below the tolerance.

    Raises:
        LabelError, OptionError: clicks.
    """
    clock = [time.perf_counter()]
    vocabulary, found = columns(ground.vocabulary, ground.background, clicks)
    count = len(vocabulary)
    pinned = tuple((pixels(click, ground.size), at) for click, at in zip(clicks, found, strict=True))
    index, ids = _painted(clicks, found, ground.size, ground.grid, ground.options.radius)
    index = index.to(ground.P.device)
    reach = None if ground.S is None else reached(ground, index, ids, None if before is None else before.reach)
    clock.append(time.perf_counter())
    inside = _scored(ground, clicks, found, count, reach)
    clock.append(time.perf_counter())
    _check(inside, vocabulary)
    Y = F.one_hot(ids, count + 1).to(inside.G)
    free: Tensor | None = None
    if reach is None:
        P, walk = sown(inside.G, index, Y) if ground.options.absorb else inside.G, None
    elif ground.within and ground.options.absorb:
        near = wider(ground.P if before is None else before.P, count + 1)
        walk = infinite(absorbing(ground.S, index, near=near), sown(inside.G, index, Y), ground.alpha, ground.options.tolerance)
        P = walk.probabilities
    else:
        free, walk = _free(ground, inside, count, before)
        P, walk = _joined(free, walk, reach, index, Y) if ground.options.absorb else (free, walk)
    clock.append(time.perf_counter())
    odds = _told(ground, P, count, reach) if free is not None and ground.options.absorb else None
    clock.append(time.perf_counter())
    names = ("reach", "labels", "walk", "colours")
    seconds = {name: later - earlier for name, earlier, later in zip(names, clock[:-1], clock[1:], strict=True)}
    return Solved(vocabulary, inside, P, walk, pinned, seconds, free, reach, odds)


def _told(ground: Ground[Any], P: Float[Tensor, "n k"], count: int, reach: Reach | None) -> ColorLikelihoodRatio | None:
    if reach is None or ground.codes is None or ground.options.colours == 0:
        return None
    shown = P if ground.background is not None else P[:, :count]
    return colours.told(shown, ground.grid, reach, ground.codes, ground.options.colours)


def _check(inside: Any, vocabulary: Vocabulary) -> None:
    """Refuse a label that nothing can show: where logits of strings are upsampled, one without a string."""
    if inside.logits is not None and max(inside.logits.groups, default=-1) + 1 < len(vocabulary):
        raise LabelError(
            f"Got a click for the new label {vocabulary.names[-1]!r} in a recipe that upsamples logits of words, without visual words. "
            "Accepted are labels that have words there. Add it to the words, or use a recipe with a walk."
        )


def wider(P: Float[Tensor, "n k"], width: int) -> Float[Tensor, "n w"]:
    """Give new labels columns of zeros, before ``rest``, the last one."""
    lacking = width - P.shape[1]
    return P if lacking == 0 else torch.cat([P[:, :-1], P.new_zeros(len(P), lacking), P[:, -1:]], dim=1)


def _free(ground: Ground[Any], inside: Any, count: int, before: Solved | None) -> tuple[Float[Tensor, "n k"], Walk | None]:
    """The walk's P of a labelling without clicks."""
    P = wider(ground.P, count + 1)
    if ground.Z is None or ground.options.visual == "off":  # G is what it was
        return P, ground.walk
    if ground.walk_alpha is None:
        return wider(ground.again(inside), count + 1), ground.walk
    alpha, N = ground.walk_alpha, ground.resolvents.get("walk")
    if N is None:
        near = P if before is None or before.free is None else wider(before.free, count + 1)
    else:
        change = inside.G - wider(ground.inside.G, count + 1)
        moved = (change.abs().amax(0) > _SMALL).nonzero()[:, 0]
        near = P.clone()
        near[:, moved] += N @ ((1 - alpha) * change[:, moved])
    walk = infinite(absorbing(ground.S, torch.zeros(0, dtype=torch.int64), near=near), inside.G, alpha, ground.options.tolerance)
    return walk.probabilities, walk


def _joined(
    free: Float[Tensor, "n k"], walk: Walk | None, reach: Reach, index: Int64[Tensor, " b"], Y: Float[Tensor, "b k"]
) -> tuple[Float[Tensor, "n k"], Walk]:
    """P' = H + (1 − h)P, the bound of both, and how the worse of them ended."""
    P = free * reach.elsewhere
    P[:, list(reach.labels)] += reach.H[:, :-1]
    P[index] = Y
    ended = walk if walk is not None else Walk(P, 0, 0.0, Outcome.EXACT)
    outcome = ended.outcome if reach.outcome.reached else reach.outcome
    # The error of H, whose last column takes its share of P with it, that of P, and two roundings.
    bound = ended.bound + reach.bound + 2 * torch.finfo(P.dtype).eps
    return P, Walk(P, ended.steps + reach.steps, bound, outcome)


def _scored(ground: Ground[Any], clicks: Sequence[Click], found: Sequence[int], count: int, reach: Reach | None) -> Any:
    options = ground.options
    if options.visual == "on" and ground.Z is None:
        raise OptionError(
            "Got clicks.visual = 'on' with a label source that keeps no vectors beside its words. Accepted are 'auto' and 'off' there. "
            "Use 'auto', and clicks act through the graph alone."
        )
    if ground.Z is None or options.visual == "off":
        return _widened(ground.inside, count)
    index, ids = (part.to(ground.Z.device) for part in _painted(clicks, found, ground.size, ground.source_grid, 0.0))
    T = torch.cat([ground.words.vectors, ground.words.other_vectors]).float()
    rows = visual_words.rows(ground.Z, index, ids, T, margin=options.margin, level=ground.level)
    said = ground.score(visual_words.with_visual(ground.words, rows, count), count)
    return said if reach is None or not options.local else _blended(_widened(ground.inside, count), said, 1 - reach.elsewhere, ground.grid)


def _blended(plain: Any, said: Any, h: Float[Tensor, "n 1"], grid: tuple[int, int]) -> Any:
    """G + h(G_v − G), both first brought to one divisor of their scores."""
    scale = max(plain.scale, said.scale)

    def level(rows: Tensor, own: float) -> Tensor:
        if own == scale:
            return rows
        labels = rows[:, :-1] * (own / scale)
        return torch.cat([labels, (1 - labels.sum(1, keepdim=True)).clamp_min(0)], dim=1)

    G = torch.lerp(level(plain.G, plain.scale), level(said.G, said.scale), h)
    own = None
    if plain.own is not None and said.own is not None:
        there = F.interpolate(h.T.unflatten(1, grid)[None], size=said.own.shape[1:], mode="bilinear", align_corners=False)[0]
        own = torch.lerp(plain.own * (plain.scale / scale), said.own * (said.scale / scale), there)
    return dataclasses.replace(said, G=G, scale=scale, own=own)


def _widened(inside: Any, count: int) -> Any:
    if inside.G.shape[1] == count + 1:
        return inside
    own = None if inside.own is None else wider(inside.own.flatten(1).T, count + 1).T.unflatten(1, inside.own.shape[1:])
    return dataclasses.replace(inside, G=wider(inside.G, count + 1), own=own)


def _painted(
    clicks: Sequence[Click], found: Sequence[int], size: tuple[int, int], grid: tuple[int, int], radius: float
) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " b"]]:
    """Tokens of all clicks and their columns; where several cover a token the later one wins."""
    canvas = torch.full((grid[0] * grid[1],), -1, dtype=torch.int64)
    for click, at in zip(clicks, found, strict=True):
        canvas[tokens(click, size, grid, radius=radius)] = at
    index = (canvas >= 0).nonzero()[:, 0]
    return index, canvas[index]
