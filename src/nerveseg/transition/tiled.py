"""Tiles of one big image as one transition: S = Σ_t Π_t E_t S_t E_tᵀ.

E_t puts the tokens of tile t where they lie on the joined grid, Π_t is a partition of unity: how much of a token belongs to tile t, 1 in
all over the tiles that hold it, falling to the tile's inner edges. Each S_t has rows that sum to 1, and so has S. Heads are weighed tile by
tile. The local graphs are summed once into one stencil; the global ones are applied tile by tile, so that memory grows with tokens times
a tile's tokens, and not with their square.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import OptionError, ShapeError
from nerveseg.reprs import brief
from nerveseg.transition.base import Operator, Transition
from nerveseg.transition.float64 import by_blocks, wide
from nerveseg.transition.heads import Heads
from nerveseg.transition.operators import DenseMatrix, SparseRows
from nerveseg.transition.options import Options
from nerveseg.transition.rows import label_rows
from nerveseg.transition.stencil import columns

__all__ = ["HalfPrecisionMatrix", "Joined", "Places", "TiledHeads", "tiled_transition"]

# Entries of a float16 matrix that are widened at a time: 4 MiB of float32 stay in a core's cache.
_BLOCK = 2**20

# Entries of a row lie in 0 … 1. Times this they use float16's whole range: 1e-9 keeps its 11 bits.
_LIFT = 2.0**15


@dataclass(frozen=True)
class Places:
    """Where equal tiles lie on one grid of cells; tiles are counted row by row.

    Args:
        rows: the first row of the tiles of each row of tiles, rising from 0.
        columns: likewise the first column.
        side: (height, width) of a tile in cells.
        grid: (height, width) of all.

    Raises:
        ShapeError: tiles that leave a gap, or do not end where the grid ends.

    >>> Places((0,), (0, 2), (1, 4), (1, 6)).share(0).tolist()
    [[1.0, 1.0, 1.0, 0.0]]
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    side: tuple[int, int]
    grid: tuple[int, int]

    __repr__ = brief

    def __post_init__(self) -> None:
        """Refuse tiles that do not cover the grid."""
        for starts, side, length in zip((self.rows, self.columns), self.side, self.grid, strict=True):
            steps = [later - earlier for earlier, later in itertools.pairwise(starts)]
            if not starts or starts[0] != 0 or starts[-1] + side != length or any(not 0 < step <= side for step in steps):
                raise ShapeError(
                    f"Got tiles of {side} cells at {starts} on a side of {length}. Accepted are places that rise from 0, leave no gap and "
                    "end with the side. Plan the tiles anew."
                )

    @property
    def count(self) -> int:
        """Tiles."""
        return len(self.rows) * len(self.columns)

    def area(self, tile: int) -> tuple[slice, slice]:
        """The cells of a tile."""
        top, left = self.rows[tile // len(self.columns)], self.columns[tile % len(self.columns)]
        return slice(top, top + self.side[0]), slice(left, left + self.side[1])

    def share(self, tile: int) -> Float[Tensor, "h w"]:
        """Π_t on the tile's cells: how much of each belongs to this tile, 0 at its inner edges, float32; over all tiles 1 at every cell."""
        down, across = self._shares
        return down[tile // len(self.columns)][:, None] * across[tile % len(self.columns)]

    def cut(self, X: Float[Tensor, "n k"], tile: int) -> Float[Tensor, "m k"]:
        """E_tᵀX: the rows of a tile's cells."""
        return X.view(*self.grid, X.shape[1])[self.area(tile)].reshape(-1, X.shape[1])

    def paste(self, parts: Iterator[Float[Tensor, "m k"]] | Sequence[Float[Tensor, "m k"]]) -> Float[Tensor, "n k"]:
        """Σ_t Π_t E_t Y_t: parts of all tiles in their order, joined by their shares; float32, or float64 where they are."""
        out: Tensor | None = None
        for tile, part in enumerate(parts):
            if out is None:
                out = part.new_zeros(*self.grid, part.shape[1], dtype=torch.promote_types(part.dtype, torch.float32))
            out[self.area(tile)].addcmul_(part.view(*self.side, -1), self.share(tile).to(part.device, out.dtype)[..., None])
        return torch.zeros(0, 0) if out is None else out.flatten(0, 1)

    @cached_property
    def _shares(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return _ramps(self.rows, self.side[0], self.grid[0]), _ramps(self.columns, self.side[1], self.grid[1])


def _ramps(starts: tuple[int, ...], side: int, length: int) -> tuple[Tensor, ...]:
    """Along one side: the cells between a cell and the tile's nearer inner edge, divided by the sum of all tiles' there.

    An inner edge has share 0: its tokens have neighbours that the tile does not know, and another tile, if it shares two, knows them all.
    """
    at = torch.arange(side, dtype=torch.float64)
    far = torch.full_like(at, float(side))
    raw = [torch.minimum(at if start > 0 else far, side - 1 - at if start + side < length else far) for start in starts]
    total = torch.zeros(length, dtype=torch.float64)
    for start, part in zip(starts, raw, strict=True):
        total[start : start + side] += part
    bare = (total == 0).double()  # edges only, where tiles share less than two cells: all alike
    for start in starts:
        total[start : start + side] += bare[start : start + side]
    return tuple(
        ((part + bare[start : start + side]) / total[start : start + side]).float() for start, part in zip(starts, raw, strict=True)
    )


@dataclass(frozen=True, eq=False)
class TiledHeads:
    """Queries and keys of an image that was encoded in tiles; takes the place of `Heads` wherever a transition is built.

    Args:
        tiles: of each tile, row by row, all of one shape.
        places: where they lie.

    Raises:
        ShapeError: other tiles than places, or tiles that differ in shape.
    """

    tiles: tuple[Heads, ...]
    places: Places

    __repr__ = brief

    def __post_init__(self) -> None:
        """Refuse tiles that are not alike."""
        kinds = {(tile.grid, tile.count, tile.width) for tile in self.tiles}
        if len(self.tiles) != self.places.count or {kind[0] for kind in kinds} != {self.places.side} or len(kinds) != 1:
            raise ShapeError(
                f"Got {len(self.tiles)} tiles of {len(kinds)} shapes for {self.places.count} places of {self.places.side} tokens. "
                "Accepted is one tile a place, all with one grid, one number of heads and one width. Read them all the same way."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the joined grid in tokens."""
        return self.places.grid

    @property
    def queries(self) -> Float[Tensor, "H n d"]:
        """Not there: no pass compared tokens of different tiles."""
        raise OptionError(
            f"Got the heads of {len(self.tiles)} tiles where those of one pass are needed. Accepted are walks on S, as 'infinite', which "
            "goes over all tiles. Set walk.name, or encode the image as a whole."
        )

    @property
    def keys(self) -> Float[Tensor, "H n d"]:
        """Not there, as `queries`."""
        return self.queries

    @property
    def n(self) -> int:
        """Tokens of the joined grid."""
        return self.grid[0] * self.grid[1]

    @property
    def count(self) -> int:
        """Heads H of each tile."""
        return self.tiles[0].count

    @property
    def width(self) -> int:
        """Width d of one head."""
        return self.tiles[0].width

    @property
    def bytes(self) -> int:
        """Bytes that queries and keys of all tiles hold."""
        return sum(tile.bytes for tile in self.tiles)

    def to(self, target: torch.device | torch.dtype | str) -> TiledHeads:
        """Move to a device, or convert to a float dtype."""
        return TiledHeads(tuple(tile.to(target) for tile in self.tiles), self.places)

    def half(self) -> TiledHeads:
        """Convert to float16, which halves the memory; every computation on them stays in float32."""
        return self.to(torch.float16)


@dataclass(frozen=True, eq=False)
class HalfPrecisionMatrix:
    """A whole n × n matrix in float16, its rows put back to sum 1 in float32: half of `DenseMatrix`'s memory, entries true to 11 bits.

    Args:
        matrix: (n, n) float16.
        scale: (n,) float32, what each row is multiplied by.
    """

    matrix: Float[Tensor, "n n"]
    scale: Float[Tensor, " n"]

    __repr__ = brief

    @classmethod
    def of(cls, folded: DenseMatrix) -> HalfPrecisionMatrix:
        """Round a matrix whose rows sum to 1."""
        matrix = torch.empty_like(folded.matrix, dtype=torch.float16)
        sums = folded.matrix.new_empty(len(matrix))
        for block in _blocks(len(matrix)):
            matrix[block] = folded.matrix[block] * _LIFT
            sums[block] = matrix[block].sum(dim=1, dtype=torch.float32)
        return cls(matrix, 1.0 / sums)

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns in float32: O(n²·k)."""
        out = torch.empty_like(X)
        for block in _blocks(len(self.matrix)):
            torch.mm(self.matrix[block].float(), X, out=out[block])
        return out.mul_(self.scale[:, None])

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64."""
        out = torch.empty_like(X)
        for block, rows in by_blocks(self.matrix):
            torch.mm(rows, X, out=out[block])
        return out.mul_(wide(self.scale)[:, None])

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.matrix.nbytes + self.scale.nbytes


@dataclass(frozen=True, eq=False)
class Joined:
    """Σ_t Π_t E_t S_t E_tᵀ of the tiles' global graphs.

    Args:
        parts: S_t, each over its own tile's tokens.
        places: where the tiles lie.
    """

    parts: tuple[Operator, ...]
    places: Places

    __repr__ = brief

    def __matmul__(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply n × k columns, tile after tile: the tiles' cost, and one tile's rows of memory."""
        return self.places.paste(part @ self.places.cut(X, tile) for tile, part in enumerate(self.parts))

    def exact(self, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply float64 columns in float64."""
        return self.places.paste(part.exact(self.places.cut(X, tile)) for tile, part in enumerate(self.parts))

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return sum(part.bytes for part in self.parts)


def tiled_transition(
    heads: TiledHeads, G: Float[Tensor, "n k"], options: Options, build: Callable[[Heads, Float[Tensor, "m k"], Options], Transition]
) -> Transition:
    """Build S over tiles.

    ``options.memory`` is for all tiles together: while it holds all their folded matrices in float32, they are held so, else in float16 as
    far as it goes (11 bits an entry, rows put back to sum 1), and the rows of the tiles that are left are made anew in each step.

    Args:
        heads: of the tiles.
        G: (n, k) label probabilities on the joined grid; each tile weighs its heads by its own part.
        options: of every tile.
        build: heads, G and options of one tile → its transition.

    Returns:
        S over the joined grid; ``weights``, ``entropies`` and ``sharpness`` are means over the tiles. One tile alone is as it is.

    Raises:
        ShapeError: G does not fit the joined grid. StochasticError: rows of G that are no probabilities.
    """
    places = heads.places
    if places.count == 1:
        return build(heads.tiles[0], G, options)
    label_rows(G, heads.n)
    m = heads.tiles[0].n
    room = options.memory * 2**20
    whole = places.count * m * m * 4 <= room
    spreads: list[Operator] = []
    kept: list[Transition] = []
    local: Tensor | None = None
    for tile, own in enumerate(heads.tiles):
        folds = whole or (tile + 1) * m * m * 2 <= room
        part = build(own, places.cut(G, tile), dataclasses.replace(options, memory=float(m * m) if folds else 0.0))
        if part.spread is not None:
            spreads.append(part.spread if whole or not isinstance(part.spread, DenseMatrix) else HalfPrecisionMatrix.of(part.spread))
        if part.stencil is not None:
            if local is None:
                local = part.stencil.values.new_zeros(*heads.grid, 9)
            share = places.share(tile).to(local.device)
            local[places.area(tile)].addcmul_(part.stencil.values.view(*places.side, 9), share[..., None])
        kept.append(dataclasses.replace(part, spread=None, stencil=None))
    return Transition(
        Joined(tuple(spreads), places) if spreads else None,
        None if local is None else SparseRows(columns(heads.grid, local.device), local.flatten(0, 1)),
        options.beta,
        heads.grid,
        torch.stack([part.weights for part in kept]).mean(dim=0),
        _mean([part.entropies for part in kept if part.entropies is not None]),
        tuple(sum(numbers) / len(kept) for numbers in zip(*(part.sharpness for part in kept), strict=True)),
        sum(part.stuck for part in kept),
        all(part.stochastic for part in kept),
    )


def _mean(rows: Sequence[Float[Tensor, " H"]]) -> Float[Tensor, " H"] | None:
    return torch.stack(list(rows)).mean(dim=0) if rows else None


def _blocks(n: int) -> Iterator[slice]:
    step = max(1, _BLOCK // n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
