from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.masks.paint import paint, with_legend
from nerveseg.masks.palette import voc_palette, wheel

GREY = np.full((20, 30, 3), 100, dtype=np.uint8)
HALVES = np.repeat(np.array([0] * 15 + [1] * 15)[None], 20, axis=0)


def test_the_first_colours_are_pascal_vocs():
    names = {0: (0, 0, 0), 1: (128, 0, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    table = voc_palette()
    assert table.shape == (256, 3)
    assert {index: tuple(table[index].tolist()) for index in names} == names
    assert len({tuple(colour) for colour in table.tolist()}) == 256


def test_colours_for_looking_at_differ():
    assert len({tuple(colour) for colour in wheel(60).tolist()}) == 60
    assert wheel(3, background=2)[2].tolist() == [96, 96, 96]


def test_alpha_runs_from_the_picture_to_the_colours():
    inside = (slice(None), slice(0, 10))
    assert (np.asarray(paint(GREY, HALVES, 2, alpha=0.0))[inside] == 100).all()
    assert (np.asarray(paint(GREY, HALVES, 2, alpha=1.0))[inside] == wheel(2)[0]).all()
    with pytest.raises(OptionError, match="alpha"):
        paint(GREY, HALVES, 2, alpha=1.5)


def test_borders_stand_out_on_bright_and_dark():
    for level in (0, 255):
        image = np.asarray(paint(np.full_like(GREY, level), HALVES, 2, alpha=0.0)).astype(int)
        assert abs(image[5, 14, 0] - image[5, 2, 0]) > 100


def test_ignored_pixels_keep_the_picture():
    ids = np.full((20, 30), 255)
    assert (np.asarray(paint(GREY, ids, 2, alpha=1.0)) == 100).all()


def test_the_legend_is_below_and_wide_enough():
    image = Image.new("RGB", (30, 20))
    names = ["grass", "x" * 200, "猫", "\u202b", "nowhere", "a\u0301"]
    shown = with_legend(image, names, [0.5, 0.3, 0.1, 0.05, 0.0, 0.001])
    assert shown.height > 20
    assert shown.width > 30
    assert shown.crop((0, 0, 30, 20)).tobytes() == image.tobytes()


def test_many_labels_are_counted():
    shown = with_legend(Image.new("RGB", (300, 200)), [f"thing {number}" for number in range(300)], [1 / 300] * 300)
    assert shown.height < 1000


def test_nothing_to_show_is_said():
    assert with_legend(Image.new("RGB", (30, 20)), ["a"], [0.0]).height > 20


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\tb", "a\\tb"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2028b", "a\\u2028b"),
        ("a\x00b", "a\\x00b"),
        ("a\ud800b", "a\\ud800b"),
        ("a\xa0b\u3000c", "a b c"),
        ("<b>x</b> & {{y}}", "<b>x</b> & {{y}}"),
    ],
)
def test_control_characters_are_drawn_as_their_codes_and_markup_as_it_is(name, shown):
    image = Image.new("RGB", (400, 40))
    drawn, expected = (with_legend(image, [text], [1.0]) for text in (name, shown))
    assert drawn.size == expected.size
    assert drawn.tobytes() == expected.tobytes()


def test_a_long_name_of_control_characters_is_shortened():
    image = Image.new("RGB", (400, 40))
    assert with_legend(image, ["\x00" * 10_000], [1.0]).width < 1000
