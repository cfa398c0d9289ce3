from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg.errors import ShapeError, StochasticError
from nerveseg.masks.upsample import check_maps, picked, resample, shares, to_maps


def by_hand(plane, size):
    """Bilinear between pixel centres, edges repeated, one pixel at a time."""
    h, w = plane.shape
    out = torch.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * h / size[0] - 0.5, 0.0), h - 1.0)
            x = min(max((j + 0.5) * w / size[1] - 0.5, 0.0), w - 1.0)
            top, left = int(y), int(x)
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            v, u = y - top, x - left
            out[i, j] = (plane[top, left] * (1 - u) + plane[top, right] * u) * (1 - v) + (
                plane[low, left] * (1 - u) + plane[low, right] * u
            ) * v
    return out


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (7, 9)), ((1, 5), (6, 5)), ((4, 4), (4, 4)), ((2, 3), (1, 1)), ((1, 1), (3, 2))])
def test_resample_is_bilinear_between_pixel_centres(grid, size):
    maps = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(maps, size), torch.stack([by_hand(plane, size) for plane in maps]))


def test_half_precision_is_computed_in_float32():
    maps = torch.rand(2, 3, 3).half()
    assert resample(maps, (6, 6)).dtype == torch.float32
    assert resample(maps, (3, 3)).dtype == torch.float32


@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_shares_sum_to_one_and_do_not_depend_on_the_budget(k, h, w, height, width, seed):
    P = torch.rand(k, h, w, generator=torch.Generator().manual_seed(seed)) * 0.2
    whole = torch.cat([block for _, block in shares(P, (height, width))])
    single = torch.cat([block for _, block in shares(P, (height, width), budget=1)])
    assert torch.equal(whole, single)
    torch.testing.assert_close(whole.sum(0), torch.ones(height, width))
    assert float(whole.min()) >= 0.0


def test_where_no_class_has_probability_all_share_alike():
    P = torch.zeros(4, 2, 2)
    for _, block in shares(P, (3, 3)):
        torch.testing.assert_close(block, torch.full((4, 3, 3), 0.25))


def test_blocks_name_their_first_class():
    assert [first for first, _ in shares(torch.rand(5, 2, 2), (4, 4), budget=2 * 4 * 16)] == [0, 2, 4]


@pytest.mark.parametrize("maps", [torch.rand(2, 3), torch.rand(0, 2, 2), torch.ones(2, 2, 2, dtype=torch.int64)])
def test_other_shapes_are_refused(maps):
    with pytest.raises(ShapeError):
        check_maps(maps)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_values_that_are_no_probabilities_are_refused(value):
    maps = torch.rand(2, 3, 3)
    maps[1, 2, 0] = value
    with pytest.raises(StochasticError):
        check_maps(maps)


def test_rows_of_P_are_laid_out_row_by_row():
    P = torch.arange(12.0).view(6, 2)
    maps = to_maps(P, (2, 3))
    assert maps.shape == (2, 2, 3)
    assert maps[1, 1, 0] == P[3, 1]
    with pytest.raises(ShapeError, match="grid"):
        to_maps(P, (2, 2))


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (7, 9)), ((5, 6), (3, 2)), ((4, 4), (4, 4)), ((1, 1), (3, 2))])
def test_the_share_of_one_class_a_pixel_is_that_of_all_maps(grid, size):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, *grid, generator=generator)
    maps[:, 0, 0] = 0.0
    ids = torch.randint(0, 6, size, generator=generator)  # 5 is none of them
    every = torch.cat([block for _, block in shares(maps, size)] + [torch.zeros(1, *size)])
    torch.testing.assert_close(picked(maps, ids), every.gather(0, ids[None])[0])
