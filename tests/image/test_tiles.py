"""Tiles cover the image, lie on one grid, share what was asked, and are the image's own pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.image import load_image
from nerveseg.image.tiles import LEAST, check, first, plan, span

sides = st.integers(1, 6000)
cells = st.integers(4, 72)


def image(height, width):
    return load_image(Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)), name="a.png")


@settings(max_examples=300, deadline=None, database=None)
@given(sides, sides, st.integers(LEAST, 2000), st.floats(0, 0.9), cells, cells)
def test_tiles_cover_the_image_on_one_grid_and_share_what_was_asked(height, width, tile, overlap, graph, labels):
    found = plan((height, width), tile, overlap, (graph, graph), (labels, labels))
    for axis, pixels in ((found.rows, height), (found.columns, width)):
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.span == axis.units
        assert axis.box(0)[0] == 0
        assert axis.box(len(axis.starts) - 1)[1] == pytest.approx(pixels)
        if len(axis.starts) == 1:
            assert axis.tile == min(pixels, tile)
            continue
        steps = [later - earlier for earlier, later in itertools.pairwise(axis.starts)]
        assert min(steps) > 0
        # At least what was asked, at least two of the graph's tokens, unless a tile has no room for it.
        assert max(steps) <= max(1, axis.span - max(overlap * axis.span - 1e-6, 2 * axis.span / graph))
        assert graph % axis.span == 0
        assert axis.fitting(graph) == graph
        assert labels <= axis.fitting(labels) < labels + axis.span
        # Scaled by at most half a unit over the whole side.
        assert abs(axis.units - pixels * axis.span / tile) <= 0.5 + 1e-9
        for count in (graph, axis.fitting(labels)):
            firsts = axis.firsts(count)
            assert firsts[-1] + count == axis.total(count)
            assert [start * axis.span == at * count for start, at in zip(firsts, axis.starts, strict=True)]


@pytest.mark.parametrize(("graph", "labels", "units"), [(64, 24, 8), (40, 16, 8), (24, 24, 24), (64, 21, 8), (37, 24, 37), (14, 9, 14)])
def test_units_fall_onto_the_tokens_of_both_networks_where_they_can(graph, labels, units):
    assert span(graph, labels) == units
    assert graph % units == 0


def test_an_image_of_six_thousand_by_four_thousand():
    found = plan((4000, 6000), 1024, 0.25, (64, 64), (24, 24))
    assert (len(found.rows.starts), len(found.columns.starts), found.count) == (5, 8, 40)
    assert found.rows.starts == (0, 6, 12, 17, 23)
    assert (found.rows.total(64), found.columns.total(64)) == (248, 376)
    assert found.scale == (pytest.approx(31 * 128 / 4000), pytest.approx(47 * 128 / 6000))
    assert found.note == "Encoded in 5 × 8 tiles of 1024 × 1024 pixels that share at least 0.25."


def test_where_the_side_is_whole_units_tiles_are_the_images_own_pixels():
    whole = image(96, 160)
    found = plan(whole.size, 64, 0.25, (16, 16), (8, 8))
    tiles = list(found.cut(whole))
    assert found.scale == (1.0, 1.0)
    assert len(tiles) == found.count == 2 * 3
    for number, tile in enumerate(tiles):
        (top, bottom), (left, right) = found.rows.box(number // 3), found.columns.box(number % 3)
        assert np.array_equal(tile.pixels, whole.pixels[int(top) : int(bottom), int(left) : int(right)])
        assert tile.name == "a.png"
    assert np.array_equal(first(whole, 64).pixels, tiles[0].pixels)


def test_elsewhere_the_image_is_scaled_as_a_whole():
    """A plane of brightness stays one: what a tile shows at a place is what the image has there."""
    ramp = np.repeat(np.linspace(0, 255, 150).round().astype(np.uint8)[None, :, None], 3, axis=2).repeat(40, axis=0)
    whole = load_image(Image.fromarray(ramp))
    found = plan(whole.size, 64, 0.25, (16, 16), (8, 8))
    assert found.columns.units != 150 * found.columns.span / 64
    for number, tile in enumerate(found.cut(whole)):
        assert tile.size == (40, 64)
        left, right = found.columns.box(number)
        there = (np.arange(64) + 0.5) * (right - left) / 64 + left - 0.5
        inside = slice(2, -2)
        assert np.abs(tile.pixels[20, inside, 0] - there[inside] * 255 / 149).max() < 2.5


@pytest.mark.parametrize(
    ("tile", "overlap"), [(31, 0.25), (0, 0.25), (64.0, 0.25), (True, 0.25), (64, 1.0), (64, -0.1), (64, float("nan"))]
)
def test_sides_and_overlaps_out_of_range_are_refused(tile, overlap):
    with pytest.raises(OptionError, match="Accepted is"):
        check(tile, overlap)
