"""Run the networks over the tiles of a large image, and blend what they give.

A label source that keeps one vector a token and nothing else is joined before words come: the mean of unit vectors, not normalised again,
gives the mean of the cosines, as where windows overlap. Any other source (attention, windows joined by pixels, groups, words that go
through the network) scores every tile as an image of its own, and its scores are joined; what it takes from the whole image, as a
class's maximum, it then takes from the tile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones import shared
from nerveseg.backbones.offload import OffloadedNetworks
from nerveseg.errors import ShapeError
from nerveseg.image import LoadedImage
from nerveseg.image import tiles as cutting
from nerveseg.image.tiles import Plan
from nerveseg.labels.base import Features, Logits, Networks, Scores, Words
from nerveseg.transition import Heads, Places, TiledHeads

__all__ = ["blend_tiles", "heads", "pasted", "places", "score", "seen"]


def seen(
    image: LoadedImage,
    tile: int,
    overlap: float,
    looks: Mapping[str, Callable[[LoadedImage, Networks], Any]],
    networks: Networks,
    twice: Collection[str],
    watch: Callable[[str], AbstractContextManager[None]],
) -> tuple[LoadedImage, dict[str, Any]]:
    """Pass an image through the networks tile by tile, and join what they say.

    The networks are asked once more, of the top left tile, for the grids that the plan is made for.

    Args:
        image: any size.
        tile: side of a tile in pixels.
        overlap: share of it that neighbours have both.
        looks: stages that look at tiles, by name: the label source's features, then the graph's heads, either of them or both.
        networks: what they look with.
        twice: the networks that both read.
        watch: by a stage's name, what counts its seconds.

    Returns:
        The image with a note of its tiles, and what each stage says of all of it. Where one tile holds the image, the image and
        nothing: it is to be seen as a whole.

    Raises:
        OptionError: ``tile`` or ``overlap`` out of range.
    """
    cutting.check(tile, overlap)
    if not looks or max(image.size) <= tile:
        return image, {}

    def pass_through(parts: Callable[[], Iterable[LoadedImage]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in looks}
        # Networks that take turns on the device go through all tiles before they leave it.
        for names in [[name] for name in looks] if isinstance(networks, OffloadedNetworks) else [list(looks)]:
            for part in parts():
                remembered = shared(networks, twice)
                for name in names:
                    with watch(name):
                        found[name].append(looks[name](part, remembered))
        return found

    grids = [tried[0].grid for tried in pass_through(lambda: [cutting.first(image, tile)]).values()]
    plan = cutting.plan(image.size, tile, overlap, grids[-1], grids[0])
    if plan.count == 1:
        return image, {}
    found = {
        name: blend_tiles(parts, plan) if isinstance(parts[0], Features) else heads(parts, plan)
        for name, parts in pass_through(lambda: plan.cut(image)).items()
    }
    return dataclasses.replace(image, notes=(*image.notes, plan.note)), found


def places(plan: Plan, grid: tuple[int, int]) -> Places:
    """Where tiles of so many cells lie on the joined grid.

    Raises:
        ShapeError: cells that do not fall onto whole units.
    """
    rows, columns = plan.rows, plan.columns
    if (rows.fitting(grid[0]), columns.fitting(grid[1])) != tuple(grid):
        raise ShapeError(
            f"Got tiles of {grid[0]} × {grid[1]} cells for tiles of {rows.span} × {columns.span} units. Accepted are whole numbers of "
            "cells a unit. Plan the tiles with the grid that the networks have."
        )
    return Places(rows.firsts(grid[0]), columns.firsts(grid[1]), grid, (rows.total(grid[0]), columns.total(grid[1])))


def heads(tiles: Sequence[Heads], plan: Plan) -> Heads | TiledHeads:
    """The heads of all tiles; one tile alone is an image."""
    return tiles[0] if len(tiles) == 1 else TiledHeads(tuple(tiles), places(plan, tiles[0].grid))


def blend_tiles(tiles: Sequence[Features], plan: Plan) -> Features:
    """Join the features of all tiles, or keep them apart where they are more than vectors of tokens; one tile alone is an image.

    Cost O(L·n·E), and as much memory again while it lasts.
    """
    if len(tiles) == 1:
        return tiles[0]
    one = tiles[0]
    if not all(_plain(tile) for tile in tiles):
        grid = places(plan, _fitting(plan, one.grid)).grid
        return Features(one.embeddings[:, :0], grid, tiles=tuple(tiles), plan=plan)
    rows, grid = pasted((tile.embeddings.transpose(0, 1).flatten(1) for tile in tiles), one.grid, plan)
    return Features(rows.unflatten(1, (one.embeddings.shape[0], -1)).transpose(0, 1).contiguous(), grid)


def pasted(parts: Iterable[Float[Tensor, "m c"]], cells: tuple[int, int], plan: Plan) -> tuple[Float[Tensor, "n c"], tuple[int, int]]:
    """Join what lies on the cells of each tile by the tiles' shares; gives it, and the joined grid.

    Args:
        parts: of each tile in turn, one row a cell.
        cells: (height, width) of a tile; where they do not fall onto units, they are brought to the next grid that does, bilinearly.
        plan: where the tiles lie.
    """
    own = _fitting(plan, cells)
    where = places(plan, own)
    return where.paste(_brought(part, cells, own) for part in parts), where.grid


def score(module: Any, features: Features, words: Words, networks: Networks, options: Any, *, logits: bool) -> Scores:
    """A source's ``score``, tile by tile where its features were kept apart.

    Args:
        module: the label source.
        features: from its ``encode``, or from `blend_tiles`.
        words: as for the source.
        networks: likewise.
        options: likewise.
        logits: whether logits are wanted, too.

    Cost: the source's, once a tile.
    """
    if features.plan is None or not features.tiles:
        return module.score(features, words, networks, options)
    plan = features.plan
    parts: list[Scores] = [module.score(tile, words, networks, options) for tile in features.tiles]
    values, grid = pasted((part.values.float() for part in parts), parts[0].grid, plan)
    walked = [part.heads for part in parts if isinstance(part.heads, Heads)]
    return Scores(
        values,
        grid,
        _logits([part.logits for part in parts if part.logits is not None], plan) if logits else None,
        TiledHeads(tuple(walked), places(plan, walked[0].grid)) if walked else None,
    )


def _logits(parts: Sequence[Logits], plan: Plan) -> Logits | None:
    if not parts:
        return None
    rows, grid = pasted((part.maps.flatten(1).T for part in parts), (parts[0].maps.shape[1], parts[0].maps.shape[2]), plan)
    return dataclasses.replace(parts[0], maps=rows.T.unflatten(1, grid))


def _plain(features: Features) -> bool:
    more = (features.attention, features.windows, features.pixels, features.extra)
    return all(part is None for part in more) and not features.parts and features.embeddings.shape[1] == features.grid[0] * features.grid[1]


def _fitting(plan: Plan, grid: tuple[int, int]) -> tuple[int, int]:
    return plan.rows.fitting(grid[0]), plan.columns.fitting(grid[1])


def _brought(x: Float[Tensor, "m c"], source: tuple[int, int], target: tuple[int, int]) -> Float[Tensor, "m2 c"]:
    """Bring a tile's cells to a finer grid, bilinearly, half-pixel centres."""
    if source == target:
        return x
    maps = x.T.reshape(1, -1, *source)
    return F.interpolate(maps.float(), size=target, mode="bilinear", align_corners=False)[0].flatten(1).T
