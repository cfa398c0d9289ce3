from __future__ import annotations

import numpy as np
import pytest
import torch

from nerveseg.errors import OptionError, RegistryError, ShapeError, StochasticError
from nerveseg.masks import decide
from nerveseg.masks.rules import class_max, floor, z_score
from nerveseg.masks.rules.base import ClassStats, class_stats


def rows(k, h=4, w=5, seed=0, sharp=3.0):
    return (torch.randn(k, h, w, generator=torch.Generator().manual_seed(seed)) * sharp).softmax(0)


def test_argmax_takes_the_most_probable_label_and_drops_rest():
    P = rows(4)
    assert torch.equal(decide(P, P, (4, 5)), P[:3].argmax(0))
    assert torch.equal(decide(P, P, (4, 5), background=True), P.argmax(0))


def test_upsampling_comes_before_the_rule():
    P = torch.tensor([[[0.9, 0.0]], [[0.05, 0.3]], [[0.05, 0.7]]])
    # label 0 falls as .9, .9, .675, .225, 0, 0 …; its lead over label 1 ends between the middle pixels, not half way
    assert decide(P, P, (1, 8)).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_ties_go_to_the_lowest_id():
    P = torch.full((4, 2, 2), 0.25)
    assert int(decide(P, P, (3, 3)).max()) == 0


def test_floor_sends_weak_pixels_to_the_background_only_where_there_is_one():
    P = torch.tensor([[[0.45, 0.8]], [[0.40, 0.1]], [[0.15, 0.1]]])
    options = floor.Options(floor=0.5)
    assert decide(P, P, (1, 2), rule="floor", options=options, background=True).tolist() == [[2, 0]]
    assert decide(P, P, (1, 2), rule="floor", options=options).tolist() == [[0, 0]]


def sclips_areas(p, area, floor):
    """Labels of maps whose last is the background: small ones are taken out, then weak pixels become background; pixel by pixel."""
    k, h, w = p.shape
    first = [[max(range(k), key=lambda c: p[c, y, x]) for x in range(w)] for y in range(h)]
    won = [sum(row.count(c) for row in first) for c in range(k - 1)]
    kept = [won[c] > area * sum(won) for c in range(k - 1)] + [True]
    out = np.zeros((h, w), dtype=np.int64)
    for y in range(h):
        for x in range(w):
            value = [p[c, y, x] if kept[c] else 0.0 for c in range(k)]
            out[y, x] = max(range(k), key=value.__getitem__) if max(value) >= floor else k - 1
    return out, won


@pytest.mark.parametrize("budget", [1, 1 << 24])
@pytest.mark.parametrize(("area", "least"), [(0.0, 0.0), (0.1, 0.3), (0.25, 0.3), (0.3, 0.0), (1.0, 0.0)])
def test_labels_that_win_little_are_decided_without(area, least, budget):
    P = rows(6, 9, 10, seed=5, sharp=2.0) * torch.tensor([1.3, 1.0, 0.3, 0.8, 0.2, 1.0])[:, None, None]
    P = P / P.sum(0)
    wanted, won = sclips_areas(P.numpy(), area, least)
    options = floor.Options(floor=least, area=area)
    found = decide(P, P, (9, 10), rule="floor", options=options, background=True, budget=budget)
    np.testing.assert_array_equal(found.numpy(), wanted)
    assert len({count > 0.1 * sum(won) for count in won}) == 2  # some stay, some go
    refined = decide(P, P, (9, 10), rule="floor", options=options, background=True, refine=lambda maps: maps)
    np.testing.assert_array_equal(refined.numpy(), wanted)


def test_areas_count_only_where_there_is_a_background():
    P = rows(6, 9, 10, seed=5, sharp=2.0)
    with_area = decide(P, P, (9, 10), rule="floor", options=floor.Options(area=0.3))
    assert torch.equal(with_area, decide(P, P, (9, 10), rule="floor", options=floor.Options()))


def test_class_max_by_hand():
    P, G = rows(3, seed=1), rows(3, seed=2)
    p, g = P.numpy()[:2], G.numpy()[:2]
    score = 0.5 * p.max((1, 2)) + 0.5 * g.max((1, 2))
    share = p / p.sum(0)
    wanted = np.argmax(share / share.max((1, 2), keepdims=True) * score[:, None, None], axis=0)
    np.testing.assert_array_equal(decide(P, G, (4, 5), rule="class_max").numpy(), wanted)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_z_score_by_hand(power):
    P, G = rows(4, seed=3), rows(4, seed=4)
    p, g = P.numpy(), G.numpy()
    score = 0.5 * p.max((1, 2)) + 0.5 * g.max((1, 2))
    z = (p - p.mean((1, 2), keepdims=True)) / p.std((1, 2), keepdims=True) * (score**power)[:, None, None]
    found = decide(P, G, (4, 5), rule="z_score", options=z_score.Options(score_power=power), background=True)
    np.testing.assert_array_equal(found.numpy(), z.argmax(0))


def test_score_floor_takes_absent_labels_out():
    maps = torch.tensor([[[0.2, 0.1]], [[0.8, 0.9]]])
    stats = ClassStats(torch.tensor([0.3, 0.9]))
    plain = class_max.transform(maps, stats, class_max.Options(score_power=0.0))
    strict = class_max.transform(maps, stats, class_max.Options(score_power=0.0, score_floor=0.5))
    assert plain.argmax(0).tolist() == [[0, 1]]
    assert strict.argmax(0).tolist() == [[1, 1]]


def test_rounding_is_not_stretched_into_a_map():
    maps = torch.full((2, 3, 4), 0.3)
    maps[0, 1, 2] += 6e-8
    maps[1, 1, 2] += 1e-3
    stats = ClassStats(torch.tensor([0.3, 0.3]))
    value = class_max.transform(maps, stats, class_max.Options(stretch=True, score_power=0.0))
    assert value[0].abs().max() == 0
    assert float(value[1].max()) == pytest.approx(1)


def test_stretch_runs_from_zero_to_the_score():
    maps = rows(2)
    stats = class_stats(maps, maps)
    value = class_max.transform(maps, stats, class_max.Options(stretch=True))
    torch.testing.assert_close(value.amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(value.amax((1, 2)), stats.score)


def test_class_max_floor_is_a_threshold():
    P = torch.tensor([[[0.9, 0.1]], [[0.05, 0.05]], [[0.05, 0.85]]])
    low = decide(P, P, (1, 2), rule="class_max", options=class_max.Options(floor=1.0), background=True)
    assert low.tolist() == [[2, 2]]


def test_G_may_have_another_grid():
    P = rows(3)
    assert decide(P, rows(3, 7, 9), (8, 8), rule="class_max").shape == (8, 8)


def test_a_refiner_sees_all_maps_at_image_size():
    P = rows(3)
    seen = []

    def swap(maps):
        seen.append(maps.shape)
        return maps.flip(0)

    assert torch.equal(decide(P, P, (4, 5), refine=swap), 1 - decide(P, P, (4, 5)))
    assert seen == [(2, 4, 5)]


def test_what_does_not_fit_is_refused():
    P = rows(3)
    with pytest.raises((ShapeError, TypeError), match=r"columns|k=3"):  # the second where jaxtyping watches
        decide(P, rows(4), (4, 4))
    with pytest.raises(ShapeError, match="rest"):
        decide(P[:1], P[:1], (4, 4))
    with pytest.raises(ShapeError, match="size"):
        decide(P, P, (0, 4))
    with pytest.raises(StochasticError):
        decide(P * torch.nan, P, (4, 4))
    with pytest.raises(RegistryError, match="argmax"):
        decide(P, P, (4, 4), rule="arg-max")
    with pytest.raises(OptionError, match="floor"):
        decide(P, P, (4, 4), rule="floor", options=floor.Options(floor=2.0))


def test_no_gradient_is_kept():
    P = rows(3).requires_grad_()
    assert not decide(P, P, (4, 4), rule="z_score").requires_grad


def cliper_by_hand(P, G, options):
    """CLIPer's decision, pixel by pixel, labels first and `rest` last; the background's id is that of `rest`."""
    labels, height, width = P.shape[0] - 1, *P.shape[1:]
    score = [0.5 * float(P[c].max()) + 0.5 * float(G[c].max()) for c in range(labels)]
    ids = torch.full((height, width), labels)
    for y in range(height):
        for x in range(width):
            best = options.floor
            for c in range(labels):
                low = float(P[c].min()) if options.stretch else 0.0
                value = (float(P[c, y, x]) - low) / (float(P[c].max()) - low) * score[c] ** options.score_power
                if score[c] > options.score_floor and value >= best and (value > best or int(ids[y, x]) == labels):
                    best, ids[y, x] = value, c
    return ids


@pytest.mark.parametrize(("floor", "score_floor"), [(0.4, 0.0), (0.4, 0.75), (1e-4, 0.75), (0.4, 0.999)])
@pytest.mark.parametrize(("stretch", "power"), [(False, 1.0), (True, 0.0)])
def test_class_max_decides_as_cliper_does(floor, score_floor, stretch, power):
    P, G = rows(5), rows(5, seed=1)
    P[:, 1, 2] = 0  # a token that the heads left without any label
    options = class_max.Options(floor=floor, score_floor=score_floor, stretch=stretch, score_power=power, rest=False, divide=False)
    ids = decide(P, G, (4, 5), rule="class_max", options=options, background=True)
    assert torch.equal(ids, cliper_by_hand(P, G, options))


def test_isegs_square_background_is_a_floor():
    """Each class from 0 to 1; (1 − max)² competes with them: it wins below (3 − √5)/2."""
    P = rows(5)
    maps = (P - P.amin((1, 2), keepdim=True)) / (P.amax((1, 2), keepdim=True) - P.amin((1, 2), keepdim=True))
    top, winner = maps[:4].max(0)
    expected = torch.where((1 - top) ** 2 > top, 4, winner)
    options = class_max.Options(floor=(3 - 5**0.5) / 2, stretch=True, score_power=0.0, rest=False, divide=False)
    assert torch.equal(decide(maps, P, (4, 5), rule="class_max", options=options, background=True), expected)


def test_undivided_maps_in_parts_equal_the_whole():
    P = rows(6, 5, 4)
    options = class_max.Options(rest=False, divide=False, floor=0.2)
    whole = decide(P, P, (11, 13), rule="class_max", options=options, background=True)
    parts = decide(P, P, (11, 13), rule="class_max", options=options, background=True, budget=4 * 11 * 13)
    assert torch.equal(whole, parts)


def test_thresholds_are_on_the_scale_of_the_scores():
    """Scores up to 2, divided by 2 to become G: published thresholds hold for what they were before."""
    P, G = rows(4), rows(4, seed=1)
    options = class_max.Options(score_floor=0.9, floor=0.8, rest=False, divide=False)
    whole = decide(P, G, (4, 5), rule="class_max", options=options, background=True)
    halved = decide(P / 2, G / 2, (4, 5), rule="class_max", options=options, background=True, scale=2.0)
    assert torch.equal(whole, halved)
    assert 0 < int((whole == 3).sum()) < 20
