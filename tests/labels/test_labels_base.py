from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nerveseg.errors import ShapeError
from nerveseg.labels import base


def scores(n, C, seed, top=1.0):
    return torch.rand(n, C, generator=torch.Generator().manual_seed(seed)) * top


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.floats(0, 3), st.integers(0, 99))
def test_rows_of_G_sum_to_1_on_any_grid(h, w, C, h2, w2, top, seed):
    G = base.to_G(scores(h * w, C, seed, top), (h, w), (h2, w2))
    assert G.shape == (h2 * w2, C + 1)
    assert G.min() >= 0
    torch.testing.assert_close(G.sum(1), torch.ones(h2 * w2), atol=1e-6, rtol=0)


def test_classes_keep_their_proportions_over_the_whole_image():
    s = scores(12, 3, 0, top=2.0)
    G = base.to_G(s, (3, 4), (3, 4))
    m = float(s.sum(1).max())
    assert m > 1
    torch.testing.assert_close(G[:, :-1], s / m)


def test_scores_below_1_are_left_as_they_are():
    s = scores(6, 2, 0, top=0.4)
    torch.testing.assert_close(base.to_G(s, (2, 3), (2, 3)), torch.cat([s, 1 - s.sum(1, keepdim=True)], 1))


def test_resizing_is_bilinear_with_half_pixel_centres():
    G = base.to_G(torch.tensor([[0.0], [1.0]]), (1, 2), (1, 4))
    torch.testing.assert_close(G[:, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="grid"):
        base.to_G(torch.rand(5, 2), (2, 3), (4, 4))


@pytest.mark.parametrize("join", ["max", "sum"])
def test_strings_join_after_the_softmax_over_all_of_them(join):
    cosines = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    p = (cosines * 3).softmax(1)
    best, total = torch.stack([p[:, 0], p[:, 1:3].amax(1), p[:, 3]], 1), torch.stack([p[:, 0], p[:, 1:3].sum(1), p[:, 3]], 1)
    found = base.probabilities(cosines, (0, 1, 1, 2), scale=3.0, join=join)
    torch.testing.assert_close(found, best if join == "max" else total)
    stacked = base.probabilities(torch.stack([cosines, cosines]), (0, 1, 1, 2), scale=3.0, join=join)
    torch.testing.assert_close(stacked[1], found)


def test_groups_may_come_in_any_order():
    cosines = torch.randn(4, 3)
    torch.testing.assert_close(
        base.probabilities(cosines, (1, 0, 1), scale=2.0, join="sum"),
        base.probabilities(cosines[:, [1, 0, 2]], (0, 1, 1), scale=2.0, join="sum"),
    )


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20))
def test_windows_cover_a_side_and_stay_inside(length, window, stride):
    window, stride = min(window, length), min(stride, window)
    places = base.starts(length, window, stride)
    covered = {cell for start in places for cell in range(start, start + window)}
    assert covered == set(range(length))
    assert len(set(places)) == len(places)


def options(**more):
    return SimpleNamespace(**{"short_side": 96, "positions": "bilinear", "window": 0, "stride": 32, **more})


def test_without_windows_the_whole_image_is_seen_once(clip, image):
    (view,) = base.look(image, clip, options())
    assert view.whole
    assert view.grid == view.activations.grid == (6, 9)
    assert view.activations.attention is None


def test_windows_that_hold_the_image_are_the_whole_image(clip, image):
    (view,) = base.look(image, clip, options(window=400))
    assert view.whole


def test_windows_are_what_a_crop_of_the_pixels_gives(clip, image):
    from nerveseg.image.geometry import to_tensor

    views = list(base.look(image, clip, options(window=48, stride=48), whole=True, attention=True))
    assert [(v.top, v.left, v.whole) for v in views] == [(0, 0, True)] + [(t, x, False) for t in (0, 3) for x in (0, 3, 6)]
    crop = to_tensor(image, (96, 144))[None, :, 48:, 48:96]
    alone = clip.vision(crop, attention=True)
    torch.testing.assert_close(views[5].activations.output, alone.output, atol=1e-5, rtol=1e-5)


def test_short_side_0_is_the_side_that_clip_was_trained_on(clip, image):
    (view,) = base.look(image, clip, options(short_side=0))
    assert view.grid[0] == 4


def test_mean_of_unit_embeddings_is_the_mean_of_cosines(clip, image):
    views = list(base.look(image, clip, options(window=64, stride=32)))
    text = base.unit(torch.randn(3, clip.width))

    def embed(view):
        return base.unit(clip.project(view.activations.output))[None, 1:]

    E, (h, w) = base.average(views, embed)
    total, count = torch.zeros(h, w, 3), torch.zeros(h, w, 1)
    for view in views:
        rows, columns = view.activations.grid
        cosines = (embed(view)[0] @ text.T).view(rows, columns, 3)
        for i in range(rows):
            for j in range(columns):
                total[view.top + i, view.left + j] += cosines[i, j]
                count[view.top + i, view.left + j] += 1
    torch.testing.assert_close(E[0] @ text.T, (total / count).flatten(0, 1), atol=1e-6, rtol=1e-5)


def test_no_view_is_refused():
    with pytest.raises(ShapeError, match="no view"):
        base.average([], lambda view: torch.zeros(1, 1, 1))


def test_features_say_their_bytes():
    features = base.Features(torch.zeros(2, 6, 4), (2, 3), torch.zeros(6, 6))
    assert features.bytes == (48 + 36) * 4


def test_the_divisor_of_G_is_told():
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 1.5
    scores = base.Scores(values, (4, 5))
    for grid in ((4, 5), (9, 8), (2, 3)):
        G, m = scores.to_G(grid), scores.divisor(grid)
        assert m > 1
        torch.testing.assert_close(G[:, :3].sum(1).max(), torch.tensor(1.0))
        torch.testing.assert_close(m * G[:, :3], base.to_G(values / 10, (4, 5), grid)[:, :3] * 10)
    assert base.Scores(values / 10, (4, 5)).divisor((9, 8)) == 1
