"""Clicks: what is accepted, the pixels that they cover, the tokens that they lie in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nerveseg
from nerveseg.clicks.click import Click, pixels, tokens
from nerveseg.clicks.names import columns
from nerveseg.errors import LabelError, OptionError
from nerveseg.words.vocabulary import Background, Vocabulary


def places(found, width):
    return [(int(at) % width, int(at) // width) for at in found]


def test_it_is_public_and_frozen():
    assert nerveseg.Click is Click
    with pytest.raises(AttributeError):
        Click("cat", points=(1, 2)).label = "dog"


def test_one_point_one_stroke_or_lists_of_them():
    assert Click("cat", points=(1, 2)) == Click("cat", points=[(1, 2)])
    assert Click("cat", strokes=[(1, 2), (3, 4)]) == Click("cat", strokes=[[(1, 2), (3, 4)]])
    assert Click("cat", points=np.array([[1, 2], [3, 4]])).points == ((1.0, 2.0), (3.0, 4.0))
    assert Click("cat", box=(9, 8, 1, 2)).box == (1.0, 2.0, 9.0, 8.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"points": 3},
        {"points": [(1, 2, 3)]},
        {"points": "ab"},
        {"points": (math.nan, 1)},
        {"strokes": 4},
        {"strokes": [[(1, math.inf)]]},
        {"box": (1, 2, 3)},
        {"box": (1, 2, 3, math.inf)},
        {"box": 5},
    ],
)
def test_what_points_at_nothing_is_refused(wrong):
    with pytest.raises(OptionError, match="Accepted"):
        Click("cat", **wrong)


def test_a_label_is_a_string():
    with pytest.raises(OptionError, match="label"):
        Click(7, points=(1, 2))


def test_pixels_of_a_point_a_stroke_and_a_box():
    size = (6, 8)
    assert places(pixels(Click("a", points=(3.7, 2.0)), size), 8) == [(3, 2)]
    assert places(pixels(Click("a", strokes=[(1, 1), (4, 1)]), size), 8) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert places(pixels(Click("a", box=(6, 4, 20, 20)), size), 8) == [(6, 4), (7, 4), (6, 5), (7, 5)]


@given(st.lists(st.tuples(st.floats(0, 19.9), st.floats(0, 11.9)), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_stroke_is_connected_and_passes_its_corners(corners):
    found = set(places(pixels(Click("a", strokes=[corners]), (12, 20)), 20))
    assert {(math.floor(x), math.floor(y)) for x, y in corners} <= found
    seen, edge = set(), {next(iter(found))}
    while edge:
        seen |= edge
        edge = {(x + dx, y + dy) for x, y in edge for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & found - seen
    assert seen == found


def test_a_stroke_that_comes_from_far_away_costs_nothing_and_is_cut():
    found = pixels(Click("a", strokes=[(-1e12, 2.5), (1e12, 2.5)]), (6, 8))
    assert places(found, 8) == [(x, 2) for x in range(8)]


@pytest.mark.parametrize(
    "click", [Click("a", points=(8, 1)), Click("a", points=(-0.1, 1)), Click("a", box=(9, 0, 12, 3)), Click("a", strokes=[(9, 9), (20, 9)])]
)
def test_a_click_outside_is_refused(click):
    for ask in (lambda: pixels(click, (6, 8)), lambda: tokens(click, (6, 8), (3, 4))):
        with pytest.raises(OptionError, match="outside of the image"):
            ask()


def test_one_point_of_many_outside_is_refused():
    with pytest.raises(OptionError, match="outside"):
        pixels(Click("a", points=[(1, 1), (80, 1)]), (6, 8))


@pytest.mark.parametrize(("size", "grid"), [((6, 8), (3, 4)), ((7, 9), (3, 4)), ((5, 5), (8, 8)), ((64, 48), (5, 7))])
def test_a_pixel_lies_in_the_token_that_holds_its_centre(size, grid):
    for y in range(size[0]):
        for x in range(size[1]):
            row = math.floor((y + 0.5) * grid[0] / size[0])
            column = math.floor((x + 0.5) * grid[1] / size[1])
            assert tokens(Click("a", points=(x, y)), size, grid).tolist() == [row * grid[1] + column]


def test_the_radius_takes_tokens_whose_centres_are_near_and_stops_at_the_edge():
    def around(x, y, radius):
        return places(tokens(Click("a", points=(x, y)), (5, 5), (5, 5), radius=radius), 5)

    assert around(2, 2, 0.9) == [(2, 2)]
    assert around(2, 2, 1) == [(2, 1), (1, 2), (2, 2), (3, 2), (2, 3)]
    assert len(around(2, 2, 1.5)) == 9
    assert around(0, 0, 1) == [(0, 0), (1, 0), (0, 1)]


def test_a_box_takes_tokens_whose_centres_it_holds_and_at_least_one():
    assert places(tokens(Click("a", box=(0, 0, 3, 1)), (8, 8), (4, 4)), 4) == [(0, 0), (1, 0)]
    assert len(tokens(Click("a", box=(0, 0, 0, 0)), (64, 64), (4, 4))) == 1
    assert len(tokens(Click("a", box=(-50, -50, 50, 50)), (64, 64), (4, 4))) == 9


def test_labels_are_found_by_name_synonym_case_and_width_and_new_ones_are_last():
    vocabulary = Vocabulary.parse(["cat; kitten", "dog"])
    background = Background.parse(["sky"], vocabulary)
    clicks = [Click(name, points=(0, 0)) for name in ("Kitten", "DOG", "bird", "background", "my thing", "Bird")]
    extended, found = columns(vocabulary, background, clicks)
    assert extended.names == ("cat", "dog", "bird", "my thing")
    assert extended.labels[2].strings == ()
    assert found == (0, 1, 2, 4, 3, 2)  # the background is `rest`, after all labels


def test_a_word_of_the_background_and_a_broken_name_are_refused():
    vocabulary = Vocabulary.parse(["cat", "dog"])
    with pytest.raises(LabelError, match="word of the background"):
        columns(vocabulary, Background.parse(["sky"], vocabulary), [Click("Sky", points=(0, 0))])
    with pytest.raises(LabelError, match="control character"):
        columns(vocabulary, None, [Click("a\x07b", points=(0, 0))])
    with pytest.raises(LabelError):
        columns(vocabulary, None, [Click("  ", points=(0, 0))])


def test_tokens_and_pixels_are_sorted_and_unique():
    click = Click("a", points=[(3, 3), (3, 3)], strokes=[[(0, 0), (5, 5)]], box=(2, 2, 4, 4))
    for found in (pixels(click, (6, 8)), tokens(click, (6, 8), (3, 4), radius=1)):
        assert torch.equal(found, found.unique())
