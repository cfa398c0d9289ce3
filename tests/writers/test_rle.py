from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as theirs

from nerveseg.errors import ImageError
from nerveseg.image import load_image
from nerveseg.masks.regions import Region, regions
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import _rle, _runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools' arrays
MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def packed(mask):
    return theirs.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


@given(MASKS)
def test_counts_by_hand(mask):
    runs, inside = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != inside:
                inside = not inside
                runs.append(0)
            runs[-1] += 1
    assert _rle.counts(mask, mask.shape).tolist() == runs


@given(MASKS)
def test_the_string_is_the_one_of_pycocotools(mask):
    text = _rle.pack(_rle.counts(mask, mask.shape))
    assert text == packed(mask)
    found = theirs.decode({"size": list(mask.shape), "counts": text.encode()})
    np.testing.assert_array_equal(found.astype(bool), mask)


@given(MASKS)
def test_their_string_comes_back(mask):
    ids = np.full(mask.shape, 7, dtype=np.uint16)
    _rle.fill(ids, packed(mask), 300)
    np.testing.assert_array_equal(ids, np.where(mask, 300, 7))


@given(MASKS, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_mask_in_its_box_is_the_mask_in_the_image(mask, top, bottom, left, right):
    image = np.pad(mask, ((top, bottom), (left, right)))
    np.testing.assert_array_equal(_rle.counts(mask, image.shape, top=top, left=left), _rle.counts(image, image.shape))


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=40))
def test_any_lengths_come_back(lengths):
    assert _rle.unpack(_rle.pack(np.array(lengths, dtype=np.int64))).tolist() == lengths


def test_a_large_image_packs_as_theirs_does():
    mask = np.random.default_rng(0).random((700, 1100)) < 0.5
    mask[100:600, 200:900] = True
    assert _rle.pack(_rle.counts(mask, mask.shape)) == packed(mask)


@pytest.mark.parametrize("text", ["", "é", "\x7f", "P", "07", "1" * 30])
def test_what_is_no_run_lengths_of_the_image_is_refused(text):
    with pytest.raises(ImageError, match="run lengths"):
        _rle.fill(np.zeros((2, 3), dtype=np.uint16), text, 1)


def test_lengths_below_nothing_are_refused():
    with pytest.raises(ImageError):
        _rle.fill(np.zeros((2, 3), dtype=np.uint16), _rle.pack(np.array([8, -2])), 1)


def result(ids):
    ids = torch.as_tensor(ids)
    image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])))
    return Segmentation(ids, torch.ones(3, 1, 1), tuple(Label(name, (name,)) for name in "abc"), image)


RING = [[0, 0, 0, 1], [0, 2, 0, 1], [0, 0, 0, 255], [255, 2, 2, 1]]


def from_masks(made, each, skip=None):
    """The objects of a result as masks in their boxes."""
    ids = made.segmentation.numpy()
    found = regions(ids, ignore=made.ignore_index) if each == "part" else [of_label(ids, label) for label in np.unique(ids).tolist()]
    return [region for region in found if region.label != skip and region.label < len(made.labels)]


def of_label(ids, label):
    rows, columns = np.nonzero(ids == label)
    left, top, right, bottom = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    return Region(label, len(rows), (left, top, right, bottom), ids[top:bottom, left:right] == label)


def test_objects_are_connected_parts_or_labels():
    made = result(RING)
    parts = [(region.label, region.area, region.box) for region in from_masks(made, "part")]
    assert parts == [(0, 8, (0, 0, 3, 3)), (1, 2, (3, 0, 4, 2)), (1, 1, (3, 3, 4, 4)), (2, 2, (1, 3, 3, 4)), (2, 1, (1, 1, 2, 2))]
    labels = [(region.label, region.area, region.box) for region in from_masks(made, "label")]
    assert labels == [(0, 8, (0, 0, 3, 3)), (1, 3, (3, 0, 4, 4)), (2, 3, (1, 1, 3, 4))]
    assert {region.label for region in from_masks(made, "label", skip=1)} == {0, 2}


@pytest.mark.parametrize("each", _runs.EACH)
def test_objects_cover_what_is_not_ignored_once(each):
    ids = np.random.default_rng(0).integers(0, 4, (30, 40))
    ids[ids == 3] = 255
    count = np.zeros(ids.shape, dtype=int)
    for region in from_masks(result(ids), each):
        left, top, right, bottom = region.box
        assert region.mask.shape == (bottom - top, right - left)
        assert region.mask.sum() == region.area
        assert (ids[top:bottom, left:right][region.mask] == region.label).all()
        count[top:bottom, left:right] += region.mask
    np.testing.assert_array_equal(count, ids != 255)


LABELS = arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255]))


@pytest.mark.parametrize("each", _runs.EACH)
@given(ids=LABELS, skip=st.sampled_from([None, 1]))
def test_objects_from_runs_are_those_from_masks(each, ids, skip):
    made = result(ids)
    masks = from_masks(made, each, skip=skip)
    found = _runs.objects(made, each, skip=skip)
    assert [tuple(entry) for entry in zip(found.label.tolist(), found.area.tolist(), map(tuple, found.box.tolist()), strict=True)] == [
        (region.label, region.area, region.box) for region in masks
    ]
    places = [(region.box[1], region.box[0]) for region in masks]
    assert found.packed() == [
        _rle.pack(_rle.counts(region.mask, ids.shape, top=top, left=left)) for region, (top, left) in zip(masks, places, strict=True)
    ]
    painted = np.zeros(ids.shape, dtype=np.uint32)
    for number, (region, (top, left)) in enumerate(zip(masks, places, strict=True), start=5):
        painted[top : region.box[3], left : region.box[2]][region.mask] = number
    np.testing.assert_array_equal(found.painted(np.arange(5, 5 + len(masks))), painted)


def test_many_objects_pack_as_pycocotools_packs_each():
    ids = np.random.default_rng(0).integers(0, 3, (60, 70))
    ids[20:50, 20:60] = 1
    made = result(ids)
    for region, text in zip(from_masks(made, "part"), _runs.objects(made, "part").packed(), strict=True):
        left, top, right, bottom = region.box
        mask = np.zeros(ids.shape, dtype=bool)
        mask[top:bottom, left:right] = region.mask
        assert text == packed(mask)
