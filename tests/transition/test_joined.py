"""Tiles as one transition: the formula by hand, rows, one tile, no seams, and memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import registry
from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads, Places, TiledHeads, absorbing, build
from nerveseg.transition.global_graph import StreamedRows
from nerveseg.transition.operators import DenseMatrix
from nerveseg.transition.tiled import HalfPrecisionMatrix, Joined
from nerveseg.walk import cliper, direct, infinite

PLACES = Places((0, 3), (0, 2, 4), (5, 5), (8, 9))


def field(grid=(8, 9), *, count=2, width=6, k=3, seed=0):
    """Heads of a whole grid, mostly positive cosines, and a G."""
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    shared = 1.5 * torch.randn(1, 1, width, generator=generator)
    queries, keys = (torch.randn(count, n, width, generator=generator) + shared for _ in range(2))
    G = torch.rand(n, k, generator=generator)
    return Heads(queries, keys, grid), G / G.sum(1, keepdim=True)


def tiled(heads, places=PLACES, *, noise=0.0):
    """Tiles as crops of one field; with noise, each tile saw something of its own."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for tile in range(places.count):
        sides = [torch.stack([places.cut(x, tile) for x in part]) for part in (heads.queries, heads.keys)]
        found.append(Heads(*(x + noise * torch.randn(x.shape, generator=generator) for x in sides), places.side))
    return TiledHeads(tuple(found), places)


def by_hand(heads, G, **knobs):
    """Σ_t Π_t E_t S_t E_tᵀ in plain loops; Π from distances to inner edges."""
    places = heads.places
    (h, w), (a, b) = places.grid, places.side

    def depth(at, start, side, length):
        inner = [at - start] if start > 0 else []
        inner += [start + side - 1 - at] if start + side < length else []
        return min([*inner, side])

    S = torch.zeros(h * w, h * w, dtype=torch.float64)
    starts = list(itertools.product(places.rows, places.columns))
    for (top, left), own in zip(starts, heads.tiles, strict=True):
        cells = [y * w + x for y in range(top, top + a) for x in range(left, left + b)]
        dense = build(own, G[cells], **knobs).to_dense().double()
        for i, cell in enumerate(cells):
            y, x = divmod(cell, w)
            total = sum(depth(y, t, a, h) * depth(x, s, b, w) for t, s in starts if t <= y < t + a and s <= x < s + b)
            share = depth(y, top, a, h) * depth(x, left, b, w) / total
            for j, other in enumerate(cells):
                S[cell, other] += share * dense[i, j]
    return S.float()


@pytest.mark.parametrize(
    ("kernel", "keep", "beta"),
    [("exp", None, 0.0), ("exp", None, 0.4), ("exp", None, 1.0), ("exp", 3, 0.4), ("elu", None, 0.4), ("anchor", None, 1.0)],
)
def test_it_is_the_formula(kernel, keep, beta):
    whole, G = field()
    heads = tiled(whole, noise=0.3)
    S = build(heads, G, kernel=kernel, keep=keep, beta=beta)
    torch.testing.assert_close(S.to_dense(), by_hand(heads, G, kernel=kernel, keep=keep, beta=beta), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", registry.names("kernels"))
@pytest.mark.parametrize("memory", [1024.0, 6 * 25 * 25 * 2 / 2**20, 0.0])
def test_rows_are_distributions_and_the_operator_is_its_matrix(kernel, memory):
    whole, G = field()
    S = build(tiled(whole, noise=0.1), G, kernel=kernel, memory=memory)
    dense = S.to_dense()
    torch.testing.assert_close(dense.double().sum(1), torch.ones(72).double(), rtol=0, atol=2e-6)
    if S.stochastic:
        assert float(dense.min()) >= -1e-7
    X = torch.randn(72, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(S @ X, dense @ X, rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(S @ X.T.contiguous().T, S @ X)
    assert float(S.weights.sum()) == pytest.approx(1.0, abs=1e-6)
    assert S.grid == (8, 9)


def test_one_tile_is_the_plain_way_to_the_last_bit():
    heads, G = field((5, 4))
    one = TiledHeads((heads,), Places((0,), (0,), (5, 4), (5, 4)))
    plain, S = build(heads, G), build(one, G)
    assert torch.equal(S.to_dense(), plain.to_dense())
    assert isinstance(S.spread, DenseMatrix)


def test_the_local_graph_of_tiles_of_one_field_is_that_of_the_field():
    """An overlap of two: every token has all its neighbours in a tile that counts there, so no pair is lost and no row is cut."""
    whole, G = field()
    own = torch.tensor([0.7, 0.3])
    there = build(whole, G, beta=0.0, weights=own, local_power=2.0)
    here = build(tiled(whole), G, beta=0.0, weights=own, local_power=2.0)
    torch.testing.assert_close(here.to_dense(), there.to_dense(), rtol=1e-5, atol=1e-7)


def test_nothing_differs_at_a_seam_where_nothing_differs_in_the_image():
    """Equal tokens everywhere: rows of the local graph, and a walk on both graphs from equal rows, are at a seam as elsewhere."""
    heads = Heads(torch.ones(1, 12 * 20, 4), torch.ones(1, 12 * 20, 4), (12, 20))
    places = Places((0, 4), (0, 6, 12), (8, 8), (12, 20))
    G = torch.full((240, 2), 0.5)
    local = build(tiled(heads, places), G, beta=0.0).to_dense().view(12, 20, 12, 20)
    for y, x in itertools.product(range(1, 11), range(1, 19)):
        torch.testing.assert_close(local[y, x, y - 1 : y + 2, x - 1 : x + 2], torch.full((3, 3), 1 / 9))
    torch.testing.assert_close(infinite(build(tiled(heads, places), G), G, alpha=0.9).probabilities, G, rtol=0, atol=1e-5)
    ramp = torch.arange(20.0).repeat(12)[:, None] / 19
    step = (build(tiled(heads, places), G, beta=0.0) @ ramp).view(12, 20)
    # One local step leaves a plane where it is, seams and all.
    torch.testing.assert_close(step[:, 1:-1], ramp.view(12, 20)[:, 1:-1], rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None, database=None)
@given(st.integers(3, 9), st.lists(st.integers(1, 7), max_size=4))
def test_shares_sum_to_one_and_every_pair_of_neighbours_lies_in_a_tile_that_counts(side, steps):
    steps = [min(step, side - 2) for step in steps]
    starts = (0, *itertools.accumulate(steps))
    length = starts[-1] + side
    places = Places(starts, (0,), (side, 2), (length, 2))
    shares = torch.zeros(len(starts), length)
    for tile, start in enumerate(starts):
        shares[tile, start : start + side] = places.share(tile)[:, 0]
    torch.testing.assert_close(shares.sum(0), torch.ones(length))
    assert float(shares.min()) >= 0
    for cell in range(length - 1):
        for near, far in ((cell, cell + 1), (cell + 1, cell)):
            counting = [tile for tile, start in enumerate(starts) if float(shares[tile, near]) > 0]
            assert all(starts[tile] <= far < starts[tile] + side for tile in counting)


@pytest.mark.parametrize("steps", [(0, 4), (0, 3)])
def test_tiles_that_share_one_cell_or_none_still_cover_every_cell(steps):
    places = Places((0,), steps, (1, 4), (1, steps[-1] + 4))
    total = sum(torch.nn.functional.pad(places.share(tile), (start, steps[-1] - start)) for tile, start in enumerate(steps))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_paste_undoes_cut():
    X = torch.randn(72, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(PLACES.paste(PLACES.cut(X, tile) for tile in range(PLACES.count)), X)


def test_heads_are_weighed_tile_by_tile():
    """A head that is sure in one half and blind in the other counts in the half where it is sure."""
    whole, _ = field((6, 12), count=2, seed=4)
    keys = whole.keys.clone().view(2, 6, 12, -1)
    sure = torch.zeros(6, 12, keys.shape[-1])
    sure[:3, :, 0], sure[3:, :, 1] = 9.0, 9.0
    keys[0, :, :6], keys[1, :, 6:] = sure[:, :6], sure[:, 6:]
    keys[0, :, 6:], keys[1, :, :6] = 1.0, 1.0
    heads = Heads(keys.view(2, 72, -1), keys.view(2, 72, -1), (6, 12))
    G = torch.eye(2)[(torch.arange(72) // 12 >= 3).long()]
    places = Places((0,), (0, 2, 4), (6, 8), (6, 12))
    parts = [build(one, places.cut(G, tile), kernel="exp", peakedness=50.0) for tile, one in enumerate(tiled(heads, places).tiles)]
    S = build(tiled(heads, places), G, kernel="exp", peakedness=50.0)
    assert parts[0].weights[0] > parts[0].weights[1]
    assert parts[2].weights[1] > parts[2].weights[0]
    torch.testing.assert_close(S.weights, torch.stack([part.weights for part in parts]).mean(0))
    torch.testing.assert_close(S.entropies, torch.stack([part.entropies for part in parts]).mean(0))


def test_the_walk_and_the_walk_of_clicks_take_it():
    whole, G = field()
    S = build(tiled(whole, noise=0.2), G, beta=0.3)
    exact = direct(S, G, alpha=0.9).probabilities
    walked = infinite(S, G, alpha=0.9, tolerance=1e-5)
    assert walked.bound <= 1e-5
    torch.testing.assert_close(walked.probabilities, exact, rtol=0, atol=1e-5)
    seeds, Y = torch.tensor([3, 40]), torch.eye(3)[:2]
    sown = absorbing.sown(G, seeds, Y)
    stayed = infinite(absorbing.absorbing(S, seeds), sown, alpha=0.9, tolerance=1e-5).probabilities
    torch.testing.assert_close(stayed[seeds], Y, rtol=0, atol=2e-5)


def test_memory_is_for_all_tiles_together():
    whole, G = field((8, 14))
    places = Places((0, 3), (0, 4, 9), (5, 5), (8, 14))
    heads, m, count = tiled(whole, places, noise=0.1), 25, 6
    forms = {}
    for name, room in {"float32": count * m * m * 4, "float16": count * m * m * 2, "some": 2 * m * m * 2, "none": 0}.items():
        S = build(heads, G, memory=room / 2**20)
        assert isinstance(S.spread, Joined)
        forms[name] = S
        held = [part for part in S.spread.parts if not isinstance(part, StreamedRows)]
        assert sum(part.bytes for part in held) <= room + len(held) * m * 4
    kinds = {name: [type(part) for part in S.spread.parts] for name, S in forms.items()}
    assert kinds["float32"] == [DenseMatrix] * 6
    assert kinds["float16"] == [HalfPrecisionMatrix] * 6
    assert kinds["some"] == [HalfPrecisionMatrix] * 2 + [StreamedRows] * 4
    assert kinds["none"] == [StreamedRows] * 6
    exact = forms["float32"].to_dense()
    torch.testing.assert_close(forms["none"].to_dense(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(forms["float16"].to_dense(), exact, rtol=1e-3, atol=1e-6)
    assert forms["float32"].bytes == count * m * m * 4 + 8 * 14 * 9 * 8


def test_float16_keeps_small_entries_and_row_sums(monkeypatch):
    rows = torch.softmax(3 * torch.randn(50, 50, generator=torch.Generator().manual_seed(5)), dim=1)
    rows[0] = torch.full((50,), 1e-8 / 49)
    rows[0, 0] = 1 - 1e-8
    monkeypatch.setattr("nerveseg.transition.tiled._BLOCK", 50 * 7)
    halved = HalfPrecisionMatrix.of(DenseMatrix(rows))
    dense = halved @ torch.eye(50)
    torch.testing.assert_close(dense, rows, rtol=1e-3, atol=1e-11)
    torch.testing.assert_close(dense.double().sum(1), torch.ones(50).double(), rtol=0, atol=1e-6)


def test_what_an_image_in_tiles_has_not_is_refused():
    whole, G = field()
    heads = tiled(whole)
    assert (heads.n, heads.grid, heads.count, heads.width) == (72, (8, 9), 2, 6)
    assert heads.bytes == 6 * 2 * 2 * 25 * 6 * 4
    assert heads.half().bytes * 2 == heads.bytes
    with pytest.raises(OptionError, match="walks on S"):
        cliper(heads, G)
    with pytest.raises(ShapeError, match=r"\(72, k\)"):
        build(heads, G[:-1])
    with pytest.raises(ShapeError, match="one tile a place"):
        TiledHeads(heads.tiles[:-1], PLACES)
    with pytest.raises(ShapeError, match="leave no gap"):
        Places((0,), (0, 5), (4, 4), (4, 9))
