from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nerveseg.errors import OptionError
from nerveseg.masks.regions import merge_small, regions

maps = hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255]))


def test_parts_areas_and_boxes_by_hand():
    ids = np.array([[0, 0, 1], [0, 1, 0], [2, 2, 2]])
    found = [(part.label, part.area, part.box) for part in regions(ids)]
    assert found == [(0, 4, (0, 0, 3, 2)), (1, 2, (1, 0, 3, 2)), (2, 3, (0, 2, 3, 3))]
    assert [part.area for part in regions(ids, corners=False) if part.label < 2] == [3, 1, 1, 1]
    assert {part.label for part in regions(ids, ignore=2)} == {0, 1}


@settings(max_examples=60, deadline=None, database=None)
@given(maps, st.booleans())
def test_parts_cover_the_image_once(ids, corners):
    cover = np.zeros(ids.shape, dtype=int)
    for part in regions(ids, corners=corners):
        left, top, right, bottom = part.box
        cover[top:bottom, left:right] += part.mask
        assert part.mask.sum() == part.area
        assert (ids[top:bottom, left:right][part.mask] == part.label).all()
    assert (cover == 1).all()


@settings(max_examples=60, deadline=None, database=None)
@given(maps, st.integers(0, 20), st.booleans())
def test_no_small_part_is_left_unless_it_is_alone(ids, min_area, corners):
    before = ids.copy()
    cleaned = merge_small(ids, min_area, corners=corners)
    np.testing.assert_array_equal(ids, before)
    left = regions(cleaned, corners=corners)
    assert len(left) == 1 or all(part.area >= min_area for part in left)
    assert set(np.unique(cleaned)) <= set(np.unique(ids))
    np.testing.assert_array_equal(merge_small(cleaned, min_area, corners=corners), cleaned)


@settings(max_examples=40, deadline=None, database=None)
@given(maps, st.integers(2, 20))
def test_ignored_pixels_stay_and_nothing_joins_them(ids, min_area):
    np.testing.assert_array_equal(merge_small(ids, min_area, ignore=255) == 255, ids == 255)


def test_a_speck_takes_the_label_that_touches_it_most():
    ids = np.array([[1, 1, 1, 2], [1, 3, 2, 2], [1, 1, 2, 2]])
    assert merge_small(ids, 2)[1, 1] == 1


def test_a_negative_area_is_refused():
    with pytest.raises(OptionError, match="min_area"):
        merge_small(np.zeros((2, 2), dtype=np.int64), -1)
