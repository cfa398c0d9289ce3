"""P and G on the token grid → one label id a pixel, by a named rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nerveseg import registry
from nerveseg.errors import ShapeError
from nerveseg.masks.color_likelihood import ColorLikelihoodRatio
from nerveseg.masks.patches import Patches
from nerveseg.masks.rules.base import ClassStats, Line, class_stats, divides, least_of, line_of, threshold_of
from nerveseg.masks.upsample import BUDGET, NOTHING, Blocks, check_maps, resample, shares, totals
from nerveseg.masks.upsampled_logits import UpsampledLogits

__all__ = ["decide", "shown"]

Refine = Callable[[Float[Tensor, "k H W"]], Float[Tensor, "k H W"]]
Winners = Callable[[Bool[Tensor, " c"] | None], tuple[Int64[Tensor, "H W"], Float[Tensor, "H W"]]]

# Maps times pixels from which patches cost less than whole maps, measured on a CPU: 45 labels on an image of Pascal VOC.
_MANY = 1 << 23


def shown(P: Float[Tensor, "k h w"], *, background: bool) -> Float[Tensor, "c h w"]:
    """The columns that become labels: all with a background, all but `rest` (the last) without."""
    return P if background else P[:-1]


def decide(
    P: Float[Tensor, "k h w"],
    G: Float[Tensor, "k g v"],
    size: tuple[int, int],
    *,
    background: bool = False,
    rule: str = "argmax",
    options: Any = None,
    refine: Refine | None = None,
    strings: UpsampledLogits | None = None,
    scale: float = 1.0,
    odds: ColorLikelihoodRatio | None = None,
    budget: int = BUDGET,
) -> Int64[Tensor, "H W"]:
    """Choose a label for every pixel of the image.

    The maps are upsampled first (bilinear), divided by their sum at each pixel, refined, then compared by the rule. A rule may ask for
    maps that are not divided; refined ones always are.

    Args:
        P: probabilities after the walk; K labels in the caller's order, then `rest`.
        G: the same columns before the walk; its grid may be another. Only its spatial maxima count, in the class score.
        size: (height, width) of the image.
        background: False – `rest` is dropped, every pixel gets one of the K labels; True – `rest` competes under the rule, id K.
        rule: a name in the registry kind ``rules``.
        options: the rule's Options; None takes its defaults.
        refine: sharpens all maps at image size before the rule; then all K maps are in memory at once.
        strings: logits to upsample in place of P, before their softmax; P and G then only give the class scores.
        scale: m, what the label source's scores were divided by to become G; class scores are on their scale.
        odds: by which the upsampled maps of some labels are multiplied, before they are divided by their sum; not with ``strings``.
        budget: bytes per block of maps. Smaller: less memory, same ids.

    Returns:
        Ids 0 … K − 1 (K with a background), on P's device. Ties go to the lowest id. Cost O(k·H·W).

    Raises:
        ShapeError: axes that do not fit. StochasticError: values that are no probabilities. RegistryError, OptionError: the rule.
    """
    _check(P, G, size, background=background)
    stage = registry.load("rules", rule)
    chosen = stage.Options() if options is None else options
    registry.check(chosen, f"masks.{rule}")
    labels = shown(P.detach(), background=background)
    stats = class_stats(labels, shown(G.detach(), background=background), background=background, scale=scale)

    least = least_of(stage, chosen) if background else 0.0
    divide = divides(stage, chosen)

    def blocks() -> Blocks:
        return _blocks(labels, size, refine, strings, odds, budget, divide=divide)

    alone = refine is None and strings is None
    winners = _by_patches(stage, chosen, stats, labels, size, odds, budget, divide=divide) if alone else None
    if winners is None:
        held = list(blocks()) if least and refine is not None else None  # refining twice would cost more than keeping the maps
        winners = _everywhere(stage, chosen, stats, size, labels.device, blocks if held is None else lambda: held)
    ids, best = winners(None)
    if least:
        dropped = _small(ids, labels.shape[0], least)
        ids, best = winners(dropped) if bool(dropped[ids].any()) else (ids, best)
    threshold = threshold_of(stage, chosen)
    if background and threshold is not None:
        ids = torch.where(best < threshold, labels.shape[0] - 1, ids)
    return ids


def _by_patches(
    stage: Any,
    chosen: Any,
    stats: ClassStats,
    labels: Float[Tensor, "c h w"],
    size: tuple[int, int],
    odds: ColorLikelihoodRatio | None,
    budget: int,
    *,
    divide: bool,
) -> Winners | None:
    """The largest value at each pixel patch by patch; None where that is no less work, or the rule is no line of each map by itself."""
    raised = 0 if odds is None else len(odds.tables)
    many = labels.shape[0] * size[0] * size[1] >= _MANY and labels.device.type == "cpu"
    if not many or raised == labels.shape[0] or not Patches.fit(labels, divide=divide):
        return None
    patches = Patches(labels.float(), size, divide=divide)
    line = line_of(stage, stats, patches, chosen)
    if line is None or not (line.plain or odds is None) or not patches.pay(line):
        return None
    if odds is None:
        return lambda dropped: patches.winners(line, dropped, budget=budget)
    return _raised(patches, line, labels.float(), size, odds, budget, divide=divide)


def _everywhere(
    stage: Any, chosen: Any, stats: ClassStats, size: tuple[int, int], device: torch.device, blocks: Callable[[], Blocks]
) -> Winners:
    """The largest value at each pixel, over all maps of the whole image, block by block."""

    def winners(dropped: Bool[Tensor, " c"] | None) -> tuple[Int64[Tensor, "H W"], Float[Tensor, "H W"]]:
        best = torch.full(size, -torch.inf, device=device)
        ids = torch.zeros(size, dtype=torch.int64, device=device)
        for first, maps in blocks():
            values = stage.transform(maps, stats.part(first, maps.shape[0]), chosen)
            if dropped is not None:
                values = values.masked_fill(dropped[first : first + len(maps), None, None], -torch.inf)
            if len(values) == 1:  # one class a block: a big image, where fresh maps cost more than what is written into them
                ids.masked_fill_(values[0] > best, first)
                torch.maximum(best, values[0], out=best)
                continue
            value, winner = values.max(dim=0)
            better = value > best
            ids = torch.where(better, winner + first, ids)
            best = torch.where(better, value, best)
        return ids, best

    return winners


def _raised(
    patches: Patches,
    line: Line,
    labels: Float[Tensor, "c h w"],
    size: tuple[int, int],
    odds: ColorLikelihoodRatio,
    budget: int,
    *,
    divide: bool,
) -> Winners:
    """Labels that have odds against the best of the others, which the same factor brings to the new sum: patches find it as ever."""
    raised = torch.zeros(labels.shape[0], dtype=torch.bool)
    factors = odds.factors(labels.device)
    raised[list(factors)] = True

    def winners(dropped: Bool[Tensor, " c"] | None) -> tuple[Int64[Tensor, "H W"], Float[Tensor, "H W"]]:
        before, total = (part[0].clamp_min(NOTHING) for part in totals(labels, size, factors))
        ids, best = patches.winners(line, raised if dropped is None else raised | dropped, budget=budget)
        best *= before / total
        for c, factor in factors.items():
            if dropped is not None and bool(dropped[c]):
                continue
            value = resample(labels[c : c + 1], size)[0].mul_(factor).div_(total)
            value = value if divide else value.mul_(before)
            better = (value > best) | ((value == best) & (ids > c))
            ids.masked_fill_(better, c)
            torch.where(better, value, best, out=best)
        return ids, best

    return winners


def _small(ids: Int64[Tensor, "H W"], count: int, least: float) -> Bool[Tensor, " k"]:
    """The labels that win at most that share of the pixels that labels win, none included; never the background, the last."""
    area = torch.bincount(ids.flatten(), minlength=count)
    small = area <= least * area[:-1].sum()
    small[-1] = False
    return small


def _blocks(
    P: Float[Tensor, "k h w"],
    size: tuple[int, int],
    refine: Refine | None,
    strings: UpsampledLogits | None,
    odds: ColorLikelihoodRatio | None,
    budget: int,
    *,
    divide: bool,
) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
    if refine is not None:
        source = shares(P, size, budget=budget, odds=odds) if strings is None else strings.shares(size, budget=budget)
        yield 0, refine(torch.cat([maps for _, maps in source]))
    elif strings is not None:
        yield from strings.blocks(size, budget=budget)
    else:
        yield from shares(P, size, budget=budget, divide=divide, odds=odds)


def _check(P: Tensor, G: Tensor, size: tuple[int, int], *, background: bool) -> None:
    check_maps(P.detach(), "P")
    check_maps(G.detach(), "G")
    if P.shape[0] != G.shape[0]:
        raise ShapeError(
            f"Got P with {P.shape[0]} columns and G with {G.shape[0]}. Accepted are as many in both. Give P and G of the same walk."
        )
    if P.shape[0] < 2:
        raise ShapeError(
            f"Got P with 1 column, background={background}. Accepted are one label or more, then `rest`. Append a column of rest."
        )
    if min(size) < 1:
        raise ShapeError(f"Got the size {size}. Accepted are (height, width) of 1 or more. Give the image's size.")
