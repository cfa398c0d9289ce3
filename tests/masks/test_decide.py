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


def test_a_refiner_sees_all_maps_at_picture_size():
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
