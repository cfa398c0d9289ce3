"""What the colours of pixels say of labels with clicks, written out in loops, and what it must keep."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import transition
from nerveseg.clicks import Click, Options, prepare, solved
from nerveseg.clicks import colours as told_by
from nerveseg.clicks.ground import Reach
from nerveseg.clicks.smoothing import calm
from nerveseg.image import load_image
from nerveseg.masks import decide
from nerveseg.masks.color_likelihood import BINS, bins
from nerveseg.masks.patches import Patches
from nerveseg.masks.upsample import picked, resample, shares
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes

GRID, SIZE = (4, 5), (8, 10)
N = GRID[0] * GRID[1]


def noise(number, size=SIZE):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def made(number, labels=(1,)):
    """P of three labels and how far clicks of some reach."""
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
    codes = bins(torch.tensor(noise(1) // 64 * 64))
    found = told_by.told(P, GRID, reach, codes, 0.5)
    flat = codes.flatten().tolist()
    h = reach.H[:, 0].view(1, *GRID)
    around = torch.zeros(1, *GRID)
    for y, x in itertools.product(*map(range, GRID)):
        around[0, y, x] = h[0, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].mean()
    local = resample(around, SIZE).flatten().double().numpy() + 0.02
    felt = (30 * resample(h, SIZE)).clamp(max=1).flatten().double().numpy()
    q = (resample(P[:, 1].view(1, *GRID), SIZE) / resample(P.sum(1).view(1, *GRID), SIZE)).flatten().double().numpy()
    start, table = np.log(q / (1 - q)), np.zeros(BINS**3)
    for _ in range(2):
        table = 0.5 * np.log(histogram_by_loops(local * q**2, flat) / histogram_by_loops(local * (1 - q) ** 2, flat))
        q = 1 / (1 + np.exp(-start - felt * table[flat]))
    assert np.allclose(found.tables[1].double().numpy()[flat], table[flat], atol=1e-4)
    factor = found.of(1, torch.device("cpu"))
    near = found.near[1].flatten().double().numpy()
    assert 0 < (near != 0).mean() < 1  # parts by colours alone are left out
    assert np.array_equal(near[near != 0], felt[near != 0].astype(np.float32))
    assert np.allclose(factor.flatten().double().numpy(), np.exp(near * table[flat]), rtol=1e-3)
    # The odds of the label, and of no other against another, are multiplied by it.
    plain, odd = (torch.cat([block for _, block in shares(P.T.unflatten(1, GRID), SIZE, odds=one)]) for one in (None, found))
    assert torch.allclose(odd[1] / (1 - odd[1]), plain[1] / (1 - plain[1]) * factor, rtol=1e-3)
    assert torch.allclose(odd[0] * plain[2], odd[2] * plain[0], atol=1e-6)
    assert np.allclose(odd[1].flatten().double().numpy()[near != 0], q[near != 0], atol=1e-4)


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


def test_an_image_of_one_colour_says_nothing():
    P, reach = made(3)
    codes = bins(torch.full((*SIZE, 3), 90, dtype=torch.uint8))
    # f and g are the same, whatever their weights are.
    factor = told_by.told(P, GRID, reach, codes, 0.5).of(1, torch.device("cpu"))
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


def test_large_images_are_read_by_fewer_pixels():
    P, reach = made(4)
    large = np.kron(noise(4, (40, 50)), np.ones((20, 20, 1), np.uint8))
    fine, coarse = (told_by.told(P, GRID, reach, bins(torch.tensor(one)), 0.5) for one in (large[3::7, 3::7], large))
    assert float((fine.tables[1] - coarse.tables[1]).abs().max()) < 0.5
    assert coarse.of(1, torch.device("cpu")).shape == (800, 1000)


@pytest.mark.parametrize(
    ("knobs", "speaks"), [({}, True), ({"colours": 0}, False), ({"absorb": False}, False), ({"system": "within"}, False)]
)
def test_they_speak_where_clicks_absorb_beside_the_walk(ground, knobs, speaks):
    chance = torch.Generator().manual_seed(2)
    heads = transition.Heads(torch.randn(2, N, 5, generator=chance), torch.randn(2, N, 5, generator=chance), GRID)
    G, image = made(2)[0], load_image(noise(5))
    S = transition.build(heads, G, beta=0.3, kernel="exp")
    start = prepare(ground(S, G, Options(**knobs), image=image, size=image.size), often=False)
    found = solved(start, [Click("b", points=(1, 1)), Click("background", points=(9, 7)), Click("new", points=(5, 1))])
    assert (found.odds is not None) is speaks
    if found.odds is not None:
        assert set(found.odds.tables) == {1, 3, 4}
        assert found.odds.bytes > 0
    assert solved(dataclasses.replace(start, codes=None), [Click("b", points=(1, 1))]).odds is None


def corrected(mini, refiner="none", **settings):
    scene = scenes.render("val", 3, size=(64, 80))
    mine = Segmenter(mini.recipe.changed({"refiner.name": refiner}), mini.networks, mini.folders, mini.device, mini.dtype)
    edit = mine.correct(mine.encode(load_image(scene.image)), ["cat", "grass", "sky", "dog"], background="auto", settings=settings)
    return edit.add(Click("dog", points=(30, 40))).add(Click("toy", points=(60, 20)), Click("background", points=(5, 5))).result


@pytest.mark.parametrize("settings", [{}, {"masks.temperature": 2.0}, {"masks.name": "class_max"}], ids=str)
def test_scores_ids_and_confidence_agree(mini, settings):
    result = corrected(mini, **settings)
    assert result.odds is not None
    scores = result.segmentation_scores
    assert torch.allclose(scores.sum(0), torch.ones(result.size), atol=1e-5)
    if "masks.name" not in settings:
        other = scores.argmax(0) != result.segmentation
        assert int(other.sum()) <= 3  # the pinned pixels
    own = scores.gather(0, result.segmentation[None])[0]
    assert torch.allclose(result.confidence(), own, atol=1e-5)
    plain = corrected(mini, **settings, **{"clicks.colours": 0})
    assert plain.odds is None
    assert torch.equal(plain.probabilities, result.probabilities)  # on tokens nothing moves
    assert not torch.equal(plain.segmentation_scores, scores)


def test_a_refiner_is_given_them(mini):
    result, plain = (corrected(mini, "guided", **{"clicks.colours": weight}) for weight in (0.5, 0))
    assert not torch.equal(result.refined, plain.refined)
    assert torch.equal(result.segmentation_scores, result.refined)


def test_maps_that_are_not_divided_keep_their_sum():
    P, reach = made(6)
    found = told_by.told(P[:, :3], GRID, reach, bins(torch.tensor(noise(6))), 0.5)
    maps = P[:, :3].T.unflatten(1, GRID)
    odd, plain = (torch.cat([block for _, block in shares(maps, SIZE, divide=False, odds=one)]) for one in (found, None))
    assert torch.allclose(odd.sum(0), plain.sum(0), atol=1e-5)
    divided = torch.cat([block for _, block in shares(maps, SIZE, odds=found)])
    assert torch.allclose(odd / odd.sum(0), divided, atol=1e-5)
    ids = torch.from_numpy(np.random.default_rng(6).integers(0, 3, SIZE))
    assert torch.allclose(picked(maps, ids, found), divided.gather(0, ids[None])[0], atol=1e-5)


def test_parts_by_colours_alone_stay_as_they_were():
    """Two red things far apart: one is clicked, and the walk comes a little to the other."""
    pixels = np.full((40, 80, 3), (30, 160, 40), np.uint8)
    pixels[10:30, 4:24] = pixels[10:30, 52:76] = (200, 30, 30)
    grid = (10, 20)
    h = torch.full(grid, 0.05)
    h[3:7, 2:5] = 0.8
    H = torch.stack([h.flatten(), 1 - h.flatten()], dim=1)
    P = torch.stack([1 - h.flatten(), h.flatten()], dim=1)
    found = told_by.told(P, grid, Reach((1,), H), bins(torch.tensor(pixels)), 2.0)
    ids = torch.cat([block for _, block in shares(P.T.unflatten(1, grid), (40, 80), odds=found)]).argmax(0)
    assert torch.equal(ids[:, :40] == 1, torch.tensor(pixels[:, :40, 0] == 200))
    assert int(ids[:, 40:].sum()) == 0
    assert float(found.of(1, torch.device("cpu"))[10:30, 52:76].sub(1).abs().max()) == 0


def test_grain_goes_and_edges_stay():
    chance = np.random.default_rng(3)
    clean = np.full((30, 40, 3), 60, np.uint8)
    clean[:, 20:] = 160
    grainy = (clean + chance.integers(-9, 10, clean.shape)).astype(np.uint8)
    found = calm(torch.tensor(grainy)).numpy()
    assert np.abs(found.astype(int) - clean).mean() < 0.5 * np.abs(grainy.astype(int) - clean).mean()
    assert np.abs(found.astype(int) - clean).max() <= 12
    flat = torch.full((3, 4, 3), 7, dtype=torch.uint8)
    assert torch.equal(calm(flat), flat)
    assert calm(torch.tensor(grainy[:1, :1])).shape == (1, 1, 3)


def test_grain_is_taken_out_by_the_equation(monkeypatch):
    pixels = noise(7, (5, 6)) // 4
    c = pixels.astype(float)
    for _ in range(2):
        far = [np.linalg.norm(c[y, x + 1] - c[y, x]) for y in range(5) for x in range(5)]
        m, after = sum(far) / len(far), np.zeros_like(c)
        for y, x in itertools.product(range(5), range(6)):
            near = [c[min(max(y + dy, 0), 4), min(max(x + dx, 0), 5)] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            w = [math.exp(-2 * np.linalg.norm(other - c[y, x]) / m) for other in near]
            after[y, x] = sum(a * b for a, b in zip(w, near, strict=True)) / sum(w)
        c = np.round(after)
    assert np.abs(calm(torch.tensor(pixels)).numpy() - c).max() <= 1
    whole = calm(torch.tensor(pixels))
    monkeypatch.setattr("nerveseg.clicks.smoothing._BAND", 13)  # bands of two rows; the mean contrast is then that of some rows
    assert np.abs(calm(torch.tensor(pixels)).int().numpy() - whole.int().numpy()).mean() < 4


@pytest.mark.parametrize("rule", ["argmax", "floor", "class_max"])
@pytest.mark.parametrize("background", [True, False])
def test_patches_and_whole_maps_agree(monkeypatch, rule, background):
    """Where labels that cannot win are left out, ids are those of all labels on all pixels."""
    chance = torch.Generator().manual_seed(8)
    grid, size, k = (12, 15), (61, 83), 40
    scores = torch.nn.functional.interpolate(torch.randn(1, k, 4, 4, generator=chance), size=grid, mode="bicubic")[0]
    P = (2 * scores).softmax(0)
    H = torch.rand(180, 4, generator=chance) ** 3 / 3
    H[:, -1] = 1 - H[:, :-1].sum(1)
    shown = P if background else P[:-1]
    most = tuple(sorted(P[:-1].argmax(0).flatten().bincount().topk(3).indices.tolist()))
    reach = Reach(most, H)
    found = told_by.told(shown.flatten(1).T, grid, reach, bins(torch.tensor(noise(8, size) // 128 * 128)), 5.0)
    module = importlib.import_module("nerveseg.masks.decide")
    monkeypatch.setattr(module, "_MANY", 1 << 40)
    whole = decide(P, P, size, background=background, rule=rule, odds=found)
    monkeypatch.setattr(module, "_MANY", 0)
    monkeypatch.setattr("nerveseg.masks.patches._FEW", 1.0)
    calls, real = [], Patches.winners
    monkeypatch.setattr(Patches, "winners", lambda *given, **knobs: calls.append(1) or real(*given, **knobs))
    assert float((decide(P, P, size, background=background, rule=rule, odds=found) != whole).float().mean()) < 1e-3
    assert bool(calls) is (rule != "class_max")
    assert not torch.equal(whole, decide(P, P, size, background=background, rule=rule))


def test_many_labels_with_clicks_are_told_apart_a_few_at_a_time():
    P, reach = made(9, tuple(range(4)))
    codes = bins(torch.tensor(noise(9)))
    together = told_by.told(P, GRID, reach, codes, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_by, "_TOGETHER", 3)
        parted = told_by.told(P, GRID, reach, codes, 0.5)
    for label in range(4):
        assert torch.allclose(together.tables[label], parted.tables[label], atol=1e-5)
        assert torch.allclose(together.near[label], parted.near[label])
