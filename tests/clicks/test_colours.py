"""What the colours of pixels say of labels with seeds, written out in loops, and what it must keep."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import transition
from nerveseg.clicks import Options, Seed, prepare, solved
from nerveseg.clicks import colours as told_by
from nerveseg.clicks.ground import Reach
from nerveseg.masks.odds import BINS, bins
from nerveseg.masks.upsample import resample, shares
from nerveseg.picture import load

GRID, SIZE = (4, 5), (8, 10)
N = GRID[0] * GRID[1]


def noise(number, size=SIZE):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def made(number, labels=(1,)):
    """P of three labels and how far seeds of some reach."""
    chance = torch.Generator().manual_seed(number)
    P = torch.rand(N, 4, generator=chance) + 0.01
    H = torch.rand(N, len(labels) + 1, generator=chance) ** 4
    H[:, -1] = 0
    H = H / (2 * len(labels))
    H[:, -1] = 1 - H.sum(1)
    return P / P.sum(1, keepdim=True), Reach(tuple(labels), H)


def histogram_by_loops(weights, codes):
    """Counts by colour, each spread over its neighbours; what would leave the cube stays at its sides."""
    kernel = [math.exp(-0.5 * (step / 0.7) ** 2) for step in range(-3, 4)]
    kernel = [value / sum(kernel) for value in kernel]
    counts = np.zeros((BINS,) * 3)
    for weight, code in zip(weights, codes, strict=True):
        counts[code // BINS**2, code // BINS % BINS, code % BINS] += weight
    for axis in range(3):
        before, counts = np.moveaxis(counts, axis, 0), np.zeros_like(counts)
        after = np.moveaxis(counts, axis, 0)
        for to, step in itertools.product(range(BINS), range(7)):
            after[to] += kernel[step] * before[min(max(to + step - 3, 0), BINS - 1)]
    counts = counts + counts.sum() * 1e-6 / BINS**3 + 1e-12
    return (counts / counts.sum()).ravel()


def test_the_tables_are_those_of_the_equations():
    P, reach = made(1)
    codes = bins(torch.tensor(noise(1) // 64))
    found = told_by.told(P, GRID, reach, codes, 0.5)
    flat = codes.flatten().tolist()
    h = reach.H[:, 0].view(1, *GRID)
    around = torch.zeros(1, *GRID)
    for y, x in itertools.product(*map(range, GRID)):
        around[0, y, x] = h[0, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].mean()
    local = resample(around, SIZE).flatten().double().numpy() + 0.02
    felt = resample((30 * h).clamp(max=1), SIZE).flatten().double().numpy()
    q = (resample(P[:, 1].view(1, *GRID), SIZE) / resample(P.sum(1).view(1, *GRID), SIZE)).flatten().double().numpy()
    start, table = np.log(q / (1 - q)), np.zeros(BINS**3)
    for _ in range(2):
        table = 0.5 * np.log(histogram_by_loops(local * q**2, flat) / histogram_by_loops(local * (1 - q) ** 2, flat))
        q = 1 / (1 + np.exp(-start - felt * table[flat]))
    assert np.allclose(found.tables[1].double().numpy()[flat], table[flat], atol=1e-4)
    factor = found.factors(torch.device("cpu"))[1]
    assert np.allclose(factor.flatten().double().numpy(), np.exp(felt * table[flat]), rtol=1e-3)
    # The odds of the label, and of no other against another, are multiplied by it.
    plain, odd = (torch.cat([block for _, block in shares(P.T.unflatten(1, GRID), SIZE, odds=one)]) for one in (None, found))
    assert torch.allclose(odd[1] / (1 - odd[1]), plain[1] / (1 - plain[1]) * factor, rtol=1e-3)
    assert torch.allclose(odd[0] * plain[2], odd[2] * plain[0], atol=1e-6)
    assert np.allclose(odd[1].flatten().double().numpy(), q, atol=1e-4)


@given(st.integers(0, 60), st.sampled_from([(0,), (2,), (0, 2), (1, 2, 3)]), st.sampled_from([0.1, 0.5, 3.0]))
@settings(max_examples=25, deadline=None)
def test_shares_sum_to_one_and_where_no_walk_comes_nothing_changes(number, labels, weight):
    P, reach = made(number, labels)
    H = reach.H.clone()
    apart = torch.arange(N) % GRID[1] < 2
    H[apart, :-1] = 0
    found = told_by.told(P, GRID, dataclasses.replace(reach, H=H), bins(torch.tensor(noise(number))), weight)
    assert set(found.tables) == set(labels)
    maps = P.T.unflatten(1, GRID)
    odd, plain = (torch.cat([block for _, block in shares(maps, SIZE, odds=one)]) for one in (found, None))
    assert torch.allclose(odd.sum(0), torch.ones(SIZE), atol=1e-5)
    assert float(odd.min()) >= 0
    # Pixels left of the centre of the second column of tokens lie between tokens that no walk comes to.
    assert torch.equal(odd[..., :3], plain[..., :3])


def test_a_picture_of_one_colour_says_nothing():
    P, reach = made(3)
    codes = bins(torch.full((*SIZE, 3), 90, dtype=torch.uint8))
    # f and g are the same, whatever their weights are.
    factor = told_by.told(P, GRID, reach, codes, 0.5).factors(torch.device("cpu"))[1]
    assert torch.allclose(factor, torch.ones(SIZE), atol=1e-5)


def test_a_label_takes_what_has_its_colours_and_leaves_what_has_not():
    """A red thing on green; the tokens know no better than a ramp across its edge."""
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[:, :22] = (200, 30, 30)
    pixels[:, 22:] = (30, 160, 40)
    pixels = pixels + np.random.default_rng(0).integers(0, 20, pixels.shape, dtype=np.uint8)
    ramp = torch.linspace(0.9, 0.1, 5).expand(4, 5).reshape(-1)
    P = torch.stack([1 - ramp, ramp], dim=1)
    H = torch.stack([0.5 * ramp, 1 - 0.5 * ramp], dim=1)
    found = told_by.told(P, (4, 5), Reach((1,), H), bins(torch.tensor(pixels)), 0.5)
    maps = P.T.unflatten(1, (4, 5))
    ids = {one is None: torch.cat([block for _, block in shares(maps, (32, 40), odds=one)]).argmax(0) for one in (None, found)}
    truth = torch.arange(40) < 22
    assert not torch.equal(ids[True] == 1, truth.expand(32, 40))
    assert torch.equal(ids[False] == 1, truth.expand(32, 40))


def test_large_pictures_are_read_by_fewer_pixels():
    P, reach = made(4)
    large = np.kron(noise(4, (40, 50)), np.ones((20, 20, 1), np.uint8))
    fine, coarse = (told_by.told(P, GRID, reach, bins(torch.tensor(one)), 0.5) for one in (large[3::7, 3::7], large))
    assert float((fine.tables[1] - coarse.tables[1]).abs().max()) < 0.5
    assert coarse.factors(torch.device("cpu"))[1].shape == (800, 1000)


@pytest.mark.parametrize(
    ("knobs", "speaks"), [({}, True), ({"colours": 0}, False), ({"absorb": False}, False), ({"system": "within"}, False)]
)
def test_they_speak_where_seeds_absorb_beside_the_walk(ground, knobs, speaks):
    chance = torch.Generator().manual_seed(2)
    heads = transition.Heads(torch.randn(2, N, 5, generator=chance), torch.randn(2, N, 5, generator=chance), GRID)
    G, picture = made(2)[0], load(noise(5))
    S = transition.build(heads, G, beta=0.3, kernel="exp")
    start = prepare(ground(S, G, Options(**knobs), picture=picture, size=picture.size), often=False)
    found = solved(start, [Seed("b", points=(1, 1)), Seed("background", points=(9, 7)), Seed("new", points=(5, 1))])
    assert (found.odds is not None) is speaks
    if found.odds is not None:
        assert set(found.odds.tables) == {1, 3, 4}
        assert found.odds.bytes > 0
    assert solved(dataclasses.replace(start, codes=None), [Seed("b", points=(1, 1))]).odds is None
