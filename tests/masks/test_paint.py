from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.masks.draw import paint, with_legend
from nerveseg.masks.palette import voc_palette, wheel

GREY = np.full((20, 30, 3), 100, dtype=np.uint8)
HALVES = np.repeat(np.array([0] * 15 + [1] * 15)[None], 20, axis=0)


def test_the_first_colours_are_pascal_vocs():
    names = {0: (0, 0, 0), 1: (128, 0, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    table = voc_palette()
    assert table.shape == (256, 3)
    assert {index: tuple(table[index].tolist()) for index in names} == names
    assert len({tuple(colour) for colour in table.tolist()}) == 256


def oklab(rgb):
    """OKLab of sRGB, 0…255: distances there are what eyes see."""
    part = np.asarray(rgb) / 255.0
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array([[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]])
    return np.cbrt(cones) @ np.array([[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]])


def distances(colours):
    lab = oklab(colours)
    found = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    np.fill_diagonal(found, np.inf)
    return found


@pytest.mark.parametrize(("count", "least"), [(4, 0.2), (12, 0.13), (21, 0.11), (36, 0.085), (60, 0.065)])
def test_colours_for_looking_at_are_far_apart(count, least):
    grey = np.full((1, 3), 96)
    assert distances(np.concatenate([wheel(count), grey])).min() > least


def test_a_colour_does_not_depend_on_how_many_there_are():
    assert (wheel(256)[:36] == wheel(36)).all()
    assert len({tuple(colour) for colour in wheel(256).tolist()}) == 256
    assert wheel(70_000).shape == (70_000, 3)
    assert wheel(0).shape == (0, 3)
    assert wheel(3, background=2)[2].tolist() == [96, 96, 96]


SATURATED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (255, 255, 255), (0, 0, 0)]


@pytest.mark.parametrize("alpha", [0.5, 0.55, 0.62, 0.8, 1.0])
def test_one_label_is_one_colour_whatever_it_lies_on(alpha):
    """At the writer's strength and above: the hue and chroma of the legend, and nearer to its entry than to any of seven others."""
    pixels = np.array(SATURATED, dtype=np.uint8).repeat(8, axis=0)[None].repeat(8, axis=0)
    table = wheel(8)
    for label in range(8):
        seen = np.asarray(paint(pixels, np.full(pixels.shape[:2], label), 8, alpha=alpha))[0, ::8]
        near = np.linalg.norm(oklab(seen)[:, None] - oklab(table)[None], axis=-1).argmin(axis=1)
        assert alpha < 0.55 or (near[:6] == label).all()
        own, lab = oklab(table[label])[1:], oklab(seen)[:, 1:]
        turned = np.arctan2(lab[:, 1], lab[:, 0]) - np.arctan2(own[1], own[0])
        assert np.abs((turned + np.pi) % (2 * np.pi) - np.pi).max() < 0.25


def test_the_legend_has_the_very_colours():
    names, image = [f"thing {number}" for number in range(36)], Image.new("RGB", (800, 600))
    shown = with_legend(image, names, [1 / 36] * 36)
    below = {tuple(colour) for colour in np.asarray(shown)[600:].reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in wheel(36).tolist()} <= below


@pytest.mark.parametrize("size", [(60, 80), (640, 480), (3000, 4000)])
def test_borders_are_as_wide_as_the_image_asks_for(size):
    ids = np.zeros(size, dtype=np.int64)
    ids[:, size[1] // 2 :] = 1
    row = np.asarray(paint(np.full((*size, 3), 128, np.uint8), ids, 2))[size[0] // 2].astype(int)
    line = [at for at in range(size[1]) if row[at].tolist() in ([24] * 3, [255] * 3)]
    assert line == list(range(line[0], line[-1] + 1))
    assert abs((line[0] + line[-1]) / 2 - (size[1] / 2 - 0.5)) <= 1
    assert len(line) == max(2, round(min(size) / 350))
    assert any(row[at].tolist() == [255] * 3 for at in line)


def test_alpha_runs_from_the_image_to_the_colours():
    inside = (slice(None), slice(0, 10))
    assert (np.asarray(paint(GREY, HALVES, 2, alpha=0.0))[inside] == 100).all()
    assert (np.asarray(paint(GREY, HALVES, 2, alpha=1.0))[inside] == wheel(2)[0]).all()
    with pytest.raises(OptionError, match="alpha"):
        paint(GREY, HALVES, 2, alpha=1.5)


def test_borders_stand_out_on_bright_and_dark():
    for level in (0, 128, 255):
        image = np.asarray(paint(np.full_like(GREY, level), HALVES, 2, alpha=0.0)).astype(int)
        assert np.abs(image[5, 13:17, 0] - image[5, 2, 0]).max() > 100


def test_ignored_pixels_keep_the_image():
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
